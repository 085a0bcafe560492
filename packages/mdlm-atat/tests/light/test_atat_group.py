"""The group ``mdlm atat``: its commands, and that help and refusals stay light."""

import json
import os
import subprocess
import sys

import pytest

COMMANDS = ("validate", "train", "ablate", "evaluate", "datasets")
HEAVY = ("torch", "numpy", "transformers", "datasets", "accelerate", "safetensors")


PROGRAM = """
import contextlib, io, json, sys
from mdlm_core.cli import run

found = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["atat", *arguments])
    heavy = sorted(set(sys.argv[2:]) & set(sys.modules))
    found.append([code, out.getvalue(), err.getvalue(), heavy])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A function that makes calls in one new process and says how each ended."""
    folder = tmp_path_factory.mktemp("light")

    def many(*calls):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(calls), *HEAVY],
            env={**os.environ, "COLUMNS": "200", "MDLM_CACHE": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return many


def test_help_is_light(call):
    (code, text, err, heavy), *each = call(
        ["--help"], *([name, "--help"] for name in COMMANDS)
    )
    assert (code, err, heavy) == (0, "", [])
    for name in COMMANDS:
        assert f"\n  {name} " in text
    for code, text, err, heavy in each:
        assert (code, err, heavy) == (0, "", [])
        assert text.startswith("Usage: mdlm atat")


WRONG = [
    (
        ["validate", "--phase", "A1_IMPORTANCE_ESTIMATOR_ABLATON"],
        "did you mean 'A1_IMPORTANCE_ESTIMATOR_ABLATION'",
    ),
    (
        ["validate", "--phase", "DEBUG_IMPORTANCE_ABLATION", "--variant", "ful"],
        "did you mean 'full'",
    ),
    (
        [
            "validate",
            "--phase",
            "DEBUG_IMPORTANCE_ABLATION",
            "--preset",
            "atat/smal",
        ],
        "did you mean 'atat/small'",
    ),
    (["validate"], "--phase"),
    (["train"], "no phase is named"),
    (["train", "phase=DEBUG_IMPORTANCE_ABLATON"], "did you mean 'DEBUG"),
    (["train", "phase=DEBUG_IMPORTANCE_ABLATION", "dmi=2"], "did you mean 'dim'"),
    (
        ["train", "phase=DEBUG_IMPORTANCE_ABLATION", "train.stesp=2"],
        "did you mean 'train.steps'",
    ),
    (
        [
            "train",
            "phase=DEBUG_IMPORTANCE_ABLATION",
            "variant=importance_ablation_ful",
        ],
        "did you mean 'full'",
    ),
    (
        ["train", "phase=DEBUG_IMPORTANCE_ABLATION", "preset=debgu"],
        "did you mean 'debug'",
    ),
    (["train", "phase=DEBUG_IMPORTANCE_ABLATION", "dim=many"], "model.width"),
    (
        [
            "train",
            "phase=DEBUG_IMPORTANCE_ABLATION",
            "variant=importance_ablation_uniform",
            "use_importance=true",
        ],
        "variant 'uniform' has no importance",
    ),
    (
        [
            "train",
            "phase=DEBUG_IMPORTANCE_ABLATION",
            "variant=uniform",
            "importance_hidden_dim=64",
        ],
        "has no adaptive masking",
    ),
    (
        [
            "train",
            "phase=DEBUG_IMPORTANCE_ABLATION",
            "variant=uniform_time_matched",
        ],
        "mdlm atat ablate measures",
    ),
]


def test_what_is_wrong_is_said_before_torch_is_imported(call):
    found = call(*(arguments for arguments, _ in WRONG))
    for (arguments, told), (code, out, err, heavy) in zip(WRONG, found, strict=True):
        assert (code, out, heavy) == (2, "", []), arguments
        assert told in err, arguments


def test_settings_can_be_shown_before_torch_is_imported(call):
    words = [
        "phase=PHASE_A_IMPORTANCE_ABLATION",
        "variant=importance_ablation_learned_only",
        "dim=192",
        "use_curriculum=false",
    ]
    [(code, out, err, heavy)] = call(["train", *words, "--dump-config"])
    assert (code, err, heavy) == (0, "", [])
    first, *rest = out.splitlines()
    assert first.startswith("# mdlm train --preset atat/small --set seed=1")
    assert "  width: 192" in rest
    assert "    learned: 1.0" in rest
    assert "    preset: none" in rest
