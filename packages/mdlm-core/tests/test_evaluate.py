"""The evaluation card and its command."""

import json
import re

import pytest

from mdlm_core.cli import run as command
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.evaluate import evaluate
from mdlm_core.kernels.noise import Noise
from mdlm_core.tasks import measure
from mdlm_core.train import load_run

from .tiny_run import TinySource, TinyTask, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a few steps of the real tiny model, through the command line."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert command(["train", "--tiny", "--out", str(folder), "--device", "cpu"]) == 0
    return folder


def card_of(capsys, folder, *options):
    capsys.readouterr()
    code = command(["evaluate", str(folder), "--device", "cpu", "--json", *options])
    assert code == 0
    return json.loads(capsys.readouterr().out)


def test_the_card_has_all_that_is_needed_to_measure_again(capsys, folder):
    card = card_of(capsys, folder, "--rows", "8", "--draws", "4")
    for name in ("nats_per_token", "bits_per_byte", "perplexity"):
        assert card["bound"][name]["se"] > 0
    assert card["estimator"] == "exact-counts"
    assert (card["draws"], card["rows"], card["evaluations"]) == (4, 8, 32)
    assert card["tokenizer"]["name"] == "byte"
    assert card["data"]["eod"] is True
    assert len(card["data"]["split_sha256"]) == 64
    assert card["data"]["as_trained"] is True
    assert (card["checkpoint"], card["weights"]) == ("step-00000005", "ema")
    assert card["precision"] == "float32"
    assert card == card_of(capsys, folder, "--rows", "8", "--draws", "4")
    other = card_of(capsys, folder, "--rows", "8", "--draws", "4", "--seed", "1")
    difference = abs(
        other["bound"]["nats_per_token"]["value"]
        - card["bound"]["nats_per_token"]["value"]
    )
    assert 0 < difference < 0.1


def test_the_card_agrees_with_the_measurement(folder):
    loaded = load_run(folder, checkpoint="last")
    card = evaluate(loaded, draws=2, rows=4, seed=3)
    noise = Noise(3).child("evaluate")
    bound = measure(loaded.backbone, loaded.source, draws=2, rows=4, noise=noise)
    assert card["bound"]["nats_per_token"] == {"value": bound.nats, "se": bound.nats_se}
    assert card["bound"]["bits_per_byte"]["value"] == bound.bits_per_byte
    assert card["bound"]["perplexity"]["se"] == bound.perplexity_se


def test_the_table_says_the_same(capsys, folder):
    capsys.readouterr()
    assert command(["evaluate", str(folder), "--rows", "4", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for word in ("bits per byte", "±", "exact-counts, 8 draws", "sha256", "byte, 258"):
        assert word in out


def test_weights_and_checkpoints_can_be_chosen(capsys, folder):
    averaged = card_of(capsys, folder, "--rows", "4")
    raw = card_of(capsys, folder, "--rows", "4", "--weights", "raw")
    assert raw["weights"] == "raw"
    assert raw["bound"] != averaged["bound"]
    by_step = card_of(capsys, folder, "--rows", "4", "--checkpoint", "5")
    assert by_step["bound"] == averaged["bound"]


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--estimator", "magic"], 2, "estimator is 'magic'"),
        (["--checkpoint", "77"], 1, "there is no checkpoint of step 77"),
        (["--weights", "mean"], 2, "weights are 'mean'"),
        (["--draws", "0"], 2, "draws must be at least 1"),
    ],
)
def test_wrong_options_are_told(capsys, folder, options, code, told):
    assert command(["evaluate", str(folder), "--device", "cpu", *options]) == code
    assert told in capsys.readouterr().err


def test_no_run_is_told(capsys, tmp_path):
    assert command(["evaluate", str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err


def test_other_held_out_text_is_flagged(tmp_path):
    run(tmp_path, steps=1)
    source = TinySource()
    card = source.card()
    card["splits"]["validation"]["sha256"] = "1" * 64
    source.card = lambda: card
    loaded = load_run(tmp_path, task=TinyTask(), source=source)
    assert evaluate(loaded, draws=1)["data"]["as_trained"] is False


def test_a_stream_has_no_hash_of_its_split(tmp_path):
    def streamed(probe):
        source = TinySource()
        split = {"bytes_per_token": 3.0, "probe_sha256": probe * 64}
        card = {**source.card(), "splits": {"validation": split}}
        source.card, source.size = lambda: card, lambda split: None
        return source

    run(tmp_path, steps=1, source=streamed("0"))
    for probe, as_trained in (("0", True), ("1", False)):
        loaded = load_run(tmp_path, task=TinyTask(), source=streamed(probe))
        data = evaluate(loaded, draws=1)["data"]
        assert data["split_sha256"] is None
        assert data["as_trained"] is as_trained
        assert data["bytes_per_token"] == 1.0  # counted, not the probe's


def test_one_draw_still_has_an_error_over_rows(tmp_path):
    run(tmp_path, steps=1)
    loaded = load_run(tmp_path, task=TinyTask(), source=TinySource())
    assert evaluate(loaded, draws=1)["bound"]["nats_per_token"]["se"] > 0
    with pytest.raises(UsageError, match="rows is -1"):
        evaluate(loaded, rows=-1)
    with pytest.raises(ConfigError):
        evaluate(loaded, estimator="x")


# ---- mdlm train, from the command line --------------------------------------


def test_train_ends_with_numbers_samples_and_what_comes_next(capsys, tmp_path):
    out = tmp_path / "r"
    assert command(["train", "--tiny", "--out", str(out), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "--- sample 1 ---" in text
    assert "bits/byte" in text
    assert f"mdlm sample {out} --num 4" in text
    assert f"mdlm evaluate {out}" in text
    again = ["train", "--out", str(out), "--resume", "--device", "cpu"]
    assert command([*again, "--set", "train.steps=6"]) == 0
    assert "going on after step 5" in capsys.readouterr().out
    assert command([*again, "--set", "train.lr=1"]) == 2
    assert re.search(r"train\.lr \(\S+ -> 1\.0\)", capsys.readouterr().err)
    assert command(["train", "--tiny", "--out", str(out)]) == 2
    assert "already holds a run" in capsys.readouterr().err


def test_train_without_out_numbers_its_folders(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["train", "--tiny", "--device", "cpu"]) == 0
    assert (tmp_path / "runs" / "python-docs-1" / "config.yaml").is_file()


def test_dry_run_and_dump_config_write_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(["train", "--tiny", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "parameters, 258 token ids" in out
    assert "rows of 64 tokens" in out
    assert command(["train", "--tiny", "--dump-config"]) == 0
    assert "steps: 5" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_resume_without_a_run(capsys, tmp_path):
    assert command(["train", "--resume"]) == 2
    assert "add --out RUN" in capsys.readouterr().err
    assert command(["train", "--resume", "--out", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err
