"""``mdlm atat validate`` and ``mdlm atat train`` as they are called."""

import json
import shlex

import pytest

import mdlm_atat.validation.step
from mdlm_atat.validation import NAMES
from mdlm_atat.validation.report import failed, warned
from mdlm_core import load_catalog
from mdlm_core.cli import run
from mdlm_core.config import read_run

from .tiny_phase import PHASE, registry


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a registry that holds the phase; it is the working directory."""
    folder = tmp_path_factory.mktemp("cli")
    file = registry(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDLM_CACHE", str(folder / "cache"))
        patch.setenv("MDLM_DATASETS", str(file))
        patch.chdir(folder)
        yield folder


@pytest.fixture
def said(place, capsys):
    """A function that calls `mdlm atat` and returns code, stdout and stderr."""

    def call(*arguments):
        code = run(["atat", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# ---- validate --------------------------------------------------------------------


def test_validate_prints_a_table(said):
    code, out, _ = said("validate", "--phase", PHASE, "--device", "cpu")
    assert code == 0
    lines = out.splitlines()
    for number, name in enumerate(NAMES, 1):
        assert any(line.split()[:2] == [str(number), name] for line in lines)
    assert lines[-1] == f"{PHASE}: 8 pass"


def test_validate_prints_json(said):
    code, out, _ = said(
        "validate", "--phase", PHASE.lower(), "--variant", "full", "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert report.keys() == {"phase", "variants", "status", "checks"}
    assert (report["phase"], report["status"]) == (PHASE, "pass")
    assert report["variants"] == ["full"]
    assert [check["name"] for check in report["checks"]] == list(NAMES)
    for check in report["checks"]:
        keys = {"number", "name", "status", "seconds", "findings"}
        assert check.keys() == keys
        for finding in check["findings"]:
            assert finding.keys() == {"status", "seen", "fix"}


@pytest.mark.parametrize(
    ("finding", "options", "code"),
    [
        (failed("it broke", "mend it"), [], 1),
        (warned("it creaks", "oil it"), [], 0),
        (warned("it creaks", "oil it"), ["--strict"], 1),
    ],
)
def test_the_exit_code_says_how_it_went(said, monkeypatch, finding, options, code):
    monkeypatch.setattr(
        mdlm_atat.validation.step, "training_step", lambda subject: [finding]
    )
    found, out, _ = said("validate", "--phase", PHASE, "--variant", "uniform", *options)
    assert found == code
    assert finding.seen in out
    assert f"-> {finding.fix}" in out


def test_a_budget_fails_a_phase_that_takes_longer(said):
    arguments = ["validate", "--phase", PHASE, "--variant", "uniform"]
    code, out, _ = said(*arguments, "--budget-minutes", "0.00001")
    assert code == 1
    assert "the budget is 1e-05 minutes" in out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "train.stesp=3"], "did you mean 'train.steps'"),
        (["--set", "masking.temperature=-1"], "must be positive"),
        (["--set", "nothing"], "takes path=value"),
        (["--variant", "uniform", "--set", "masking.name=atat"], "stands for its own"),
        (["--budget-minutes", "-1"], "budget-minutes"),
    ],
)
def test_settings_of_the_command_line_that_are_wrong_are_usage(said, options, told):
    code, out, err = said("validate", "--phase", PHASE, *options)
    assert (code, out) == (2, "")
    assert told in err


def test_a_schedule_that_is_not_monotone_fails_before_training(said, place):
    steep = ["masking.sharpness_power=30", "masking.temperature=0.25"]
    code, out, _ = said(
        "validate",
        "--phase",
        PHASE,
        "--variant",
        "full",
        *(f"--set={s}" for s in steep),
    )
    assert code == 1
    assert "the chance to hide an important token could fall" in " ".join(out.split())
    code, _, err = said("train", f"phase={PHASE}", *steep, "--out", place / "steep")
    assert code == 2
    assert "cannot take masks back" in err
    assert not (place / "steep" / "config.yaml").exists()


# ---- train -----------------------------------------------------------------------

TINY = ["trainer.max_steps=3", "task.eval_rows=4", "sampler.steps=2"]


def losses_of(folder):
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert losses
    return losses


def test_train_makes_the_run_that_the_printed_command_makes(said, place):
    words = [
        f"phase={PHASE}",
        "variant=importance_ablation_frequency_only",
        "n_layers=1",
        "use_curriculum=false",
        *TINY,
    ]
    code, out, err = said("train", *words, "--out", place / "a", "--device", "cpu")
    assert code == 0, err
    command = shlex.split(out.splitlines()[0])
    assert command[:2] == ["mdlm", "train"]
    command[command.index("--out") + 1] = str(place / "b")
    assert run([*command[1:], "--device", "cpu"]) == 0
    first, second = (read_run(place / name, load_catalog()) for name in "ab")
    assert first == second
    assert (first.train.steps, first.seed, first.data.config.length) == (3, 1, 16)
    assert first.masking.config.importance.learned == 0
    assert first.masking.config.curriculum.preset == "none"
    assert losses_of(place / "a") == losses_of(place / "b")


def test_train_goes_on_with_a_run(said, place):
    words = [f"phase={PHASE}", "variant=uniform", *TINY]
    assert said("train", *words, "--out", place / "c", "--device", "cpu")[0] == 0
    code, out, err = said(
        "train", "max_steps=5", "--out", place / "c", "--resume", "--device", "cpu"
    )
    assert code == 0, err
    assert "after 5 steps" in out


def test_tiny_shrinks_a_run_of_any_phase(said):
    words = [f"phase={PHASE}", "--tiny", "--dump-config", "use_importance=true"]
    code, out, _ = said("train", *words)
    assert code == 0
    assert "\n  steps: 5\n" in out
    assert "\n  batch_size: 4\n" in out


def test_a_part_that_is_off_is_no_setting_of_uniform(said):
    words = [f"phase={PHASE}", "variant=uniform", "use_importance=false"]
    code, out, _ = said("train", *words, "use_curriculum=false", "--dump-config")
    assert code == 0
    assert "\n  name: uniform\n" in out


def test_other_data_take_the_place_of_the_phases(said):
    words = [f"phase={PHASE}", "--set", "data.name=python-docs"]
    code, out, _ = said("train", *words, "--dump-config")
    assert code == 0
    assert "jsonl" not in out
    assert "\n  steps: 40\n" in out


def test_a_dry_run_says_what_it_would_do(said, place):
    words = [f"phase={PHASE}", *TINY, "--dry-run", "--out", place / "dry"]
    code, out, _ = said("train", *words)
    assert code == 0
    assert "training: 3 steps of 8 rows" in out
    assert not (place / "dry").exists()
