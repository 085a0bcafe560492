"""``mdlm llada tiny`` and ``convert`` without torch: help, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mdlm_core.cli import run


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("tiny", ("FAMILY", "--out", "--shards", "--vocab-size", "--seed")),
        ("convert", ("RUN|CHECKPOINT", "--to", "--mask_token_id", "--dtype", "--json")),
    ],
)
def test_help_names_what_can_be_given(command, names, capsys):
    assert run(["llada", command, "--help"]) == 0
    out = capsys.readouterr().out
    assert not [name for name in names if name not in out]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tiny", "llama", "--out", "x"], "llama"),
        (["tiny", "llada", "--out", "x", "--shards", "0"], "shards"),
        (["tiny", "llada"], "--out"),
        (["convert", "x"], "OUT"),
        (["convert", "x", "y", "--to", "bert"], "bert"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said, capsys):
    assert run(["llada", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_commands_and_the_names_are_light():
    code = (
        "import sys, mdlm_llada.cli.tiny, mdlm_llada.cli.convert; "
        "import mdlm_llada.checkpoint.names, mdlm_llada.checkpoint.published; "
        "heavy = {'torch', 'numpy', 'transformers', 'safetensors'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
