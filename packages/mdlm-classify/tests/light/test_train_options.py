"""What the options of training mean as settings, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from mdlm_classify.cli.options import prior_of, scoring_of
from mdlm_classify.cli.progress import Progress
from mdlm_classify.config import ScoringConfig
from mdlm_core.cli import run
from mdlm_core.errors import ConfigError, UsageError


def dumped(capsys, *arguments):
    assert run(["classify", "train", "--dump-config", *arguments]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert run(["classify", "train", *arguments]) == 2
    return capsys.readouterr().err


def test_no_option_is_the_preset(capsys):
    assert run(["config", "show", "--preset", "classify/default"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert dumped(capsys) == shown


def test_data_options_are_settings_whatever_they_look_like(capsys):
    tree = dumped(
        capsys,
        *("--data", "12: 3#.csv", "--text", "title+text", "--label", "yes"),
        *("--validation", "v.csv", "--length", "64", "--rows", "9", "--epochs", "1.5"),
        *("--seed", "3"),
    )
    data = tree["data"]
    assert data["path"] == "12: 3#.csv"
    assert (data["text"], data["label"]) == ("title+text", "yes")
    assert data["validation"] == "v.csv"
    assert (data["length"], data["rows"]) == (64, 9)
    assert (tree["train"]["epochs"], tree["seed"]) == (1.5, 3)


@pytest.mark.parametrize(
    ("model", "task", "lr"),
    [
        ("simple", "classify", 5e-5),
        ("causal", "classify-causal", 5e-5),
        ("discriminative", "classify-discriminative", 2e-5),
    ],
)
def test_models_of_transformers_are_new_unless_pretrained(capsys, model, task, lr):
    tree = dumped(capsys, "--model", model)
    assert tree["task"]["name"] == task
    assert tree["model"]["name"] == "class-hugging-face"
    assert tree["model"]["random"] is True
    tree = dumped(capsys, "--model", model, "--pretrained", "org/name")
    assert (tree["model"]["random"], tree["model"]["path"]) == (False, "org/name")
    assert tree["data"]["tokenizer"] == "org/name"
    assert tree["train"]["lr"] == lr


def test_each_class_can_have_its_model(capsys):
    assert dumped(capsys, "--per-class")["model"]["per_class"] is True
    assert dumped(capsys)["model"]["per_class"] is False


def test_set_wins_over_the_other_options(capsys):
    tree = dumped(capsys, "--length", "64", "--set", "data.length=32")
    assert tree["data"]["length"] == 32


def test_tiny_shrinks(capsys):
    tree = dumped(capsys, "--tiny")
    assert tree["train"]["steps"] == 5
    assert tree["model"]["blocks"] == 1


def test_text_without_labels_means_two_runs(capsys, tmp_path):
    out = tmp_path / "run"
    tree = dumped(capsys, "--unlabelled", "u.csv", "--out", str(out))
    assert tree["data"]["unlabelled"] == "u.csv"
    assert tree["task"]["warm_start"] == str(tmp_path / "run-background")


def test_going_on_takes_the_recorded_settings(capsys, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    assert run(["classify", "train", "--dump-config", "--length", "48"]) == 0
    (out / "config.yaml").write_text(capsys.readouterr().out)
    tree = dumped(capsys, "--out", str(out), "--resume")
    assert tree["data"]["length"] == 48
    assert dumped(capsys, "--out", str(out))["data"]["length"] == 256


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--resume"], "add --out RUN"),
        (["--unlabelled", "u"], "add --out RUN"),
        (["--unlabelled", "u", "--out", "r", "--per-class"], "no null class"),
        (["--unlabelled", "u", "--model", "causal"], "no null class"),
        (["--background-epochs", "2"], "--unlabelled"),
        (["--pretrained", "gpt2"], "--model simple"),
        (["--model", "discriminative", "--per-class"], "--per-class"),
        (["--model", "bert"], "bert"),
        (["--length", "0"], "data.length is 0"),
        (["--set", "task.contrats=2"], "did you mean 'task.contrast'?"),
    ],
)
def test_what_cannot_work_is_refused(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


def test_going_on_with_nothing_is_refused(capsys, tmp_path):
    error = refused(capsys, "--resume", "--out", str(tmp_path / "none"))
    assert "there is no run" in error


def test_help_names_the_options(capsys):
    assert run(["classify", "train", "--help"]) == 0
    out = capsys.readouterr().out
    for name in ("--data", "--out", "--test", "--unlabelled", "--model", "--resume"):
        assert name in out


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("uniform", "uniform"),
        (" a = 1, b=3 ", {"a": 1.0, "b": 3.0}),
        ("a=b=2,c=1", {"a=b": 2.0, "c": 1.0}),
        ('{"a, b": 0.2, "c": 1}', {"a, b": 0.2, "c": 1.0}),
    ],
)
def test_a_prior_is_a_name_or_weights(text, weights):
    assert prior_of(text) == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a=1,b", "'b'"),
        ("a=x,b=1", "'x'"),
        ("a=1,a=2", "twice"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": true}', "True"),
        ("{", "no JSON"),
        ("=1", "LABEL=WEIGHT"),
    ],
)
def test_a_wrong_prior_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        prior_of(text)


def test_fewer_draws_than_the_first_round_are_one_round():
    own = ScoringConfig()
    found = scoring_of(own, draws=2)
    assert (found.start_draws, found.max_draws) == (2, 2)
    assert scoring_of(own) == own
    assert scoring_of(own, draws=128, rule="fixed", seed=0).max_draws == 128
    with pytest.raises(UsageError, match="--draws is 1"):
        scoring_of(own, draws=1)
    with pytest.raises(ConfigError, match="tokens_at_once"):
        scoring_of(own, tokens_at_once=0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_tells_the_time_left_now_and_then(capsys):
    clock = Clock()
    with Progress("scoring", clock=clock) as progress:
        for done in range(101):
            clock.now = done * 1.0
            progress(done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 2%, left 1:38"
    assert lines[1] == "scoring: 12%, left 1:28"
    assert len(lines) == 10


def test_quick_work_shows_no_progress(capsys):
    clock = Clock()
    progress = Progress("scoring", clock=clock)
    for done in range(11):
        clock.now = done * 0.1
        progress(done, 10)
    assert capsys.readouterr().err == ""


def test_the_commands_are_light_until_they_run():
    code = (
        "import sys, mdlm_classify.cli; "
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'transformers', 'pandas', "
        "'tqdm'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
