"""``mdlm llada preprocess`` without torch: help, and arguments that are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mdlm_core.cli import run

COMMAND = ["llada", "preprocess", "--task", "addition", "--out", "rows.jsonl"]


def test_help_names_the_spellings(capsys):
    assert run(["llada", "preprocess", "--help"]) == 0
    out = capsys.readouterr().out
    for name in ("--out_file", "--max_len", "--too-long", "--tokenizer_path"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cfg", "[1]"], "--cfg must be an object"),
        (["--cfg", "{"], "--cfg is no JSON"),
        (["--template", "chat"], "template"),
        (["--max-length", "1"], "max-length"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said, capsys):
    assert run([*COMMAND, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_command_is_light_until_it_runs():
    code = (
        "import sys, mdlm_llada.cli.preprocess; "
        "heavy = {'torch', 'numpy', 'transformers'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
