"""``mdlm sample``: flags, settings, output and errors, with a model that is made up."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mdlm_core import cli
from mdlm_core.catalog import load_catalog
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import UsageError


class Letters:
    """A model that writes a to z, each alike."""

    vocab_size, mask_id, time_conditioned = 258, 257, False

    def hidden(self, batch, t=None):
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, hidden):
        logits = torch.full((len(hidden), 258), -torch.inf)
        logits[:, ord("a") : ord("z") + 1] = 0.0
        return logits


class Shifted(Letters):
    """A model that writes the letter that it is told, a to z if none."""

    def hidden(self, batch, t=None):
        letter = batch.condition.get("letter", torch.full((len(batch),), -1))
        return letter[:, None, None].expand(*batch.tokens.shape, 1).float()

    def logits(self, hidden):
        logits = super().logits(hidden)
        for row, letter in zip(logits, hidden[:, 0].long().tolist(), strict=True):
            if letter >= 0:
                row[:] = -torch.inf
                row[letter] = 0.0
        return logits


class Told:
    """A task whose model may be told one letter."""

    def condition(self, values, num):
        for name in values:
            if name != "letter":
                raise UsageError(f"there is no condition '{name}'")
        return {key: torch.tensor([ord(value)]) for key, value in values.items()}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that samples from a run and gives (code, stdout, stderr)."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("sampler: {name: ancestral, steps: 8}\n")
    loaded = SimpleNamespace(
        backbone=Shifted(),
        module=SimpleNamespace(),
        tokenizer=ByteTokenizer(),
        schedule=LogLinear(),
        task=Told(),
        source=SimpleNamespace(length=12),
        weights="ema",
        checkpoint=Path("step-5"),
    )
    monkeypatch.setattr("mdlm_core.train.load_run", lambda path, **given: loaded)

    def sample(*arguments, path=folder, task=loaded.task):
        loaded.task = task
        code = cli.run(["sample", str(path), *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    load_catalog()
    return sample


def test_texts_go_to_stdout_and_the_rest_to_stderr(run):
    code, out, err = run()
    assert code == 0
    assert len(out) == 13
    assert out.strip().isalpha()
    assert "1 x 12 tokens, ancestral, seed 0" in err


def test_several_texts_are_told_apart(run):
    _, out, _ = run("--num", "3")
    assert [line for line in out.splitlines() if line.startswith("---")] == [
        "--- 1 ---",
        "--- 2 ---",
        "--- 3 ---",
    ]


def test_a_prompt_and_a_blank(run):
    _, out, _ = run("--prompt", "The ____ of", "--length", "20")
    assert out.startswith("The ")
    assert out.endswith(" of\n")
    assert len(out) == 21
    _, out, _ = run("--prompt", "The ____{3} of")  # ends where the prompt does
    assert len(out) == 11


def test_flags_are_settings_of_the_sampler(run):
    code, out, _ = run(
        *("--sampler", "confidence", "--steps", "3", "--temperature", "0.5"),
        *("--top-k", "4", "--top-p", "0.9", "--set", "sampler.score=margin"),
        *("--seed", "7", "--json"),
    )
    result = json.loads(out)
    assert code == 0
    assert result["sampler"] == {
        "name": "confidence",
        "steps": 3,
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.9,
        "batch_size": 16,
        "score": "margin",
        "threshold": 0.0,
    }
    assert result["seed"] == 7
    [sample] = result["samples"]
    assert sample["nfe"] == 3
    assert bytes(sample["tokens"]).decode() == sample["text"]


def test_the_settings_of_the_run_are_the_default(run):
    result = json.loads(run("--json")[1])
    assert result["sampler"]["steps"] == 8
    assert result["samples"][0]["nfe"] <= 8


def test_the_seed_decides(run):
    assert run("--seed", "1")[1] == run("--seed", "1")[1] != run("--seed", "2")[1]


def test_the_precision_is_an_option(run, monkeypatch):
    seen = []
    head = Letters.logits

    def logits(self, hidden):
        seen.append(torch.is_autocast_enabled("cpu"))
        return head(self, hidden)

    monkeypatch.setattr(Letters, "logits", logits)
    assert json.loads(run("--json")[1])["precision"] == "fp32"
    assert not any(seen)
    seen.clear()
    result = json.loads(run("--precision", "bf16", "--json")[1])
    assert result["precision"] == "bf16"
    assert seen
    assert all(seen)


def test_banned_tokens(run):
    every = [
        flag for letter in "bcdefghijklmnopqrstuvwxyz" for flag in ("--ban", letter)
    ]
    assert run(*every)[1] == "a" * 12 + "\n"


def test_output_to_a_file(run, tmp_path):
    out = tmp_path / "texts.txt"
    _, printed, _ = run("--out", str(out))
    assert printed == ""
    assert len(out.read_text(encoding="utf-8")) == 13


def test_a_condition_reaches_the_model(run):
    code, out, _ = run("--num", "2", "--condition", "letter=q", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["condition"] == {"letter": "q"}
    assert [sample["text"] for sample in result["samples"]] == ["q" * 12] * 2
    assert run("--condition", " letter ==")[1] == "=" * 12 + "\n"
    assert json.loads(run("--json")[1])["condition"] == {}


def test_a_task_that_knows_of_no_condition(run):
    other = SimpleNamespace()
    assert run(task=other)[0] == 0
    code, _, err = run("--condition", "letter=q", task=other)
    assert code == 2
    assert "--condition letter: a model of the task 'pretrain' takes no" in err


def test_longer_than_trained_is_noted(run):
    assert "trained on rows of 12 tokens" in run("--length", "30")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "confidnce"], "did you mean 'confidence'"),
        (["--set", "model.width=3"], "only the sampler can be set"),
        (["--set", "samplers.x=3"], "only the sampler can be set"),
        (["--set", "sampler.foo=1"], "no setting 'sampler.foo'"),
        (["--steps", "0"], "sampler.steps is 0"),
        (["--num", "0"], "0 rows were asked for"),
        (["--prompt", "abcdefghijklm"], "takes 13 positions, but the canvas has 12"),
        (["--precision", "half"], "precision is 'half'; it must be fp32 or bf16"),
        (["--condition", "letter"], "--condition 'letter' is not NAME=VALUE"),
        (["--condition", "=q"], "--condition '=q' is not NAME=VALUE"),
        (["--condition", "a=1", "--condition", "a=2"], "gives 'a' twice, as '1' and"),
        (["--condition", "lettr=q"], "there is no condition 'lettr'"),
        (["--ban", "ab"], "'ab' is 2 tokens"),
        (["--out", "/no/such/folder/x"], "there is no folder"),
    ],
)
def test_usage_errors(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert message in err


def test_a_folder_that_is_no_run(run, tmp_path):
    code, _, err = run(path=tmp_path)
    assert code == 2
    assert "is no run" in err
