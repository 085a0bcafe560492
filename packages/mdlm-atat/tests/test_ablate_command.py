"""``mdlm atat ablate`` and ``mdlm atat evaluate``, as they are called."""

import json

import pytest
from typer.testing import CliRunner

from mdlm_atat.cli import app
from mdlm_atat.datasets import get_dataset_manager
from mdlm_core import ConfigError, TrainingError, UnknownNameError, UsageError

from .tiny_phase import registry, words, write

PHASE = "CPU_IMPORTANCE_ABLATION"
TINY = [
    "--tiny",
    "--device=cpu",
    "--set=data.name=python-docs",
    "--set=data.tokenizer=char",
    "--set=data.max_documents=100",
    "--set=model.width=16",
    "--set=task.sample_count=0",
]


def call(*arguments):
    """Run a command; what it raises on purpose is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def ablate(out, *more):
    return call("ablate", "--phase", PHASE, "--out", out, *TINY, *more)


def rows_of(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of full with its own bound as the objective, and what was said."""
    out = tmp_path_factory.mktemp("command") / "ab"
    said = ablate(
        out,
        "--variants=full",
        "--seeds=1",
        "--steps=12",
        "--quality",
        "--no-plots",
        "--set=masking.objective=nelbo",
        "--set=masking.curriculum.final_uniform=0",
    )
    return out, said


def test_the_command_writes_rows_and_a_report(finished):
    out, said = finished
    assert f"report: {out / 'report.md'}" in said
    (row,) = rows_of(out)
    assert row["steps"] == 12
    assert row["config"]["masking"]["objective"] == "nelbo"
    assert row["bound"]["rows"] == 32
    text = (out / "report.md").read_text()
    assert "Note: the data were set by hand" in text


def test_an_own_bound_stands_in_a_table_of_its_own(finished):
    out, _ = finished
    (row,) = rows_of(out)
    text = (out / "report.md").read_text()
    table = text.partition("## Own bounds")[2].partition("##")[0]
    assert f"| {row['own_bound']['nats']:.4f} |" in table
    assert row["no_own_bound"] is None
    assert "must not be compared" in table
    result = text.partition("## Result")[2].partition("##")[0]
    assert f"{row['own_bound']['nats']:.4f}" not in result


def test_samples_of_every_order_are_in_the_report(finished):
    out, _ = finished
    text = (out / "report.md").read_text()
    table = text.partition("## Samples")[2].partition("\n## ")[0]
    for order in ("held-out text", "random", "confident first", "importance"):
        assert f"| `full` | {order} |" in table
    assert "| `full` | random | gamma = 1 |" in table


def test_the_same_command_does_nothing_twice(finished):
    out, _ = finished
    said = ablate(
        out,
        "--variants=full",
        "--seeds=1",
        "--steps=12",
        "--quality",
        "--no-plots",
        "--set=masking.objective=nelbo",
        "--set=masking.curriculum.final_uniform=0",
    )
    assert "1 of 1 runs were finished before" in said
    assert len((out / "rows.jsonl").read_text().splitlines()) == 1


def test_evaluate_prints_the_bound_and_the_diagnostics(finished):
    out, _ = finished
    (run,) = (out / "runs").iterdir()
    card = json.loads(
        call(
            "evaluate", run, "--rows=8", "--draws=2", "--own", "--json", "--device=cpu"
        )
    )
    assert card["rows"] == 8
    assert card["bound"]["nats_per_token"]["value"] > 0
    assert card["own_bound"]["nats"] > 0
    assert len(card["diagnostics"]["spearman"]) == 10
    text = call("evaluate", run, "--rows=8", "--draws=2", "--device=cpu")
    assert f"{card['bound']['nats_per_token']['value']:.4f}" in text
    assert "mask rate at full strength (kappa = 0.50)" in text


def test_one_row_has_a_bound_and_no_error(finished):
    out, _ = finished
    (run,) = (out / "runs").iterdir()
    one = ("evaluate", run, "--rows=1", "--draws=1", "--own", "--device=cpu")

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    card = json.loads(call(*one, "--json"), parse_constant=refuse)
    assert card["bound"]["nats_per_token"]["se"] is None
    assert card["own_bound"]["nats_se"] is None
    text = call(*one)
    assert f"{card['bound']['nats_per_token']['value']:.4f} ± –" in text
    assert f"{card['own_bound']['nats']:.4f} ± –" in text


def test_the_help_of_phase_names_the_command_that_lists_them():
    assert "datasets ls --phases" in " ".join(call("ablate", "--help").split())


def test_the_own_bound_of_a_run_without_one_is_refused(tmp_path):
    ablate(tmp_path / "ab", "--variants=uniform", "--seeds=1", "--steps=2")
    (run,) = (tmp_path / "ab" / "runs").iterdir()
    with pytest.raises(UsageError):
        call("evaluate", run, "--rows=4", "--draws=2", "--own", "--device=cpu")
    text = call("evaluate", run, "--rows=4", "--draws=2", "--device=cpu")
    assert "no importance to look at" in text


def test_a_dry_run_writes_nothing(tmp_path):
    said = ablate(tmp_path / "ab", "--dry-run", "--seeds=5")
    assert not (tmp_path / "ab").exists()
    assert "frequency_naive" in said
    seeds = {line.split()[1] for line in said.splitlines()[1:] if len(line.split()) > 4}
    assert len(seeds & {"0", "1", "2", "3", "4", "5", "6"}) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--variants=unifrom"], UnknownNameError, "did you mean 'uniform'"),
        (["--variants=,"], UsageError, "names none"),
        (["--seeds=0"], UsageError, "--seeds is 0"),
        (["--jobs=-1"], UsageError, "--jobs is -1"),
        (["--draws=1"], UsageError, "--draws is 1"),
        (["--preset=atat/boks-cpu"], UnknownNameError, "atat/books-cpu"),
        (["--set=train.stepz=3"], ConfigError, "stepz"),
        (["--set=task.t_sampling=bell"], UsageError, "stands for its own"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path, arguments, error, message
):
    with pytest.raises(error, match=message):
        ablate(tmp_path / "ab", *arguments)
    assert not (tmp_path / "ab").exists()


def test_an_unknown_phase_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=PHASE):
        call("ablate", "--phase", "CPU_IMPORTANCE_ABLATON", "--out", tmp_path / "ab")


def test_a_run_that_fails_makes_the_command_fail(tmp_path):
    with pytest.raises(TrainingError, match="1 of 1 runs are not done"):
        ablate(
            tmp_path / "ab",
            "--variants=uniform",
            "--seeds=1",
            "--set=train.batch_size=100000",
        )
    assert "| `uniform` | failed |" in (tmp_path / "ab" / "report.md").read_text()


def test_another_training_text_is_trained_on_again(tmp_path, monkeypatch):
    """The same phase, path and settings; only what stands in the file is another."""
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))
    file = registry(tmp_path)
    monkeypatch.setenv("MDLM_DATASETS", str(file))
    command = ["ablate", "--phase", "TINY_ABLATION", "--out", tmp_path / "ab"]
    command += ["--variants=uniform", "--seeds=1", "--tiny", "--device=cpu"]
    command += ["--no-plots", "--rows=4", "--draws=2"]
    call(*command)
    call(*command)
    (first,) = rows_of(tmp_path / "ab")
    config = get_dataset_manager().get_phase_config("TINY_ABLATION").dataset
    assert first["text_sha256"] == config.fresh().manifest["sha256"]
    write(tmp_path / "train.jsonl", words(60, seed=2))
    call(*command)
    _, second = rows_of(tmp_path / "ab")
    assert second["config"] == first["config"]
    assert second["hash"] != first["hash"]
    assert second["windows"]["nats"] != first["windows"]["nats"]


def test_a_dry_run_shows_the_steps_of_the_phase(tmp_path):
    phase = "DEBUG_IMPORTANCE_ABLATION"
    said = call("ablate", "--phase", phase, "--out", tmp_path / "ab", "--dry-run")
    assert {line.split()[2] for line in said.splitlines()[1:]} == {"60"}
