"""A real ablation in miniature: rows, resuming, failures, the report."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from mdlm_atat.ablation import measure
from mdlm_atat.ablation import run as run_module
from mdlm_atat.ablation.diagnostics import full_strength
from mdlm_atat.ablation.plan import Phase
from mdlm_atat.ablation.process import threads_each
from mdlm_atat.ablation.report import build, write_report
from mdlm_atat.ablation.rows import AblationFolder, latest
from mdlm_atat.ablation.run import ablate
from mdlm_atat.ablation.score import Scoring
from mdlm_atat.config import AtatConfig, CurriculumConfig
from mdlm_atat.curriculum import CurriculumScheduler
from mdlm_core import UsageError, load_catalog
from mdlm_core.tasks import pretrain
from mdlm_core.train.loop import Loop

SETS = (
    "train.steps=6",
    "train.save_every=2",
    "train.eval_every=3",
    "model.width=16",
    "data.max_documents=100",
    "task.sample_count=0",
)
SCORING = Scoring(rows=12, draws=4)


def phase(*variants, seeds=(0, 1)):
    return Phase(
        name="TINY", preset="atat/books-cpu", variants=variants, seeds=tuple(seeds)
    )


def run(out, *variants, seeds=(0, 1), sets=SETS, scoring=SCORING, **more):
    said = []
    folder = ablate(
        load_catalog(),
        phase(*variants, seeds=seeds),
        out,
        scoring=scoring,
        sets=sets,
        tiny=True,
        device="cpu",
        say=said.append,
        **{"jobs": 0, **more},
    )
    return folder.read(), said


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An ablation of two variants with two seeds."""
    out = tmp_path_factory.mktemp("ablation") / "ab"
    rows, _ = run(out, "uniform", "full")
    return out, rows


class Killed(BaseException):
    """What SIGKILL would do, as far as files go."""


def by_key(rows):
    return {(row["variant"], row["seed"]): row for row in rows}


# ---- rows ------------------------------------------------------------------------


def test_a_row_says_all_that_is_needed(finished):
    out, rows = finished
    assert sorted(by_key(rows)) == [
        ("full", 0),
        ("full", 1),
        ("uniform", 0),
        ("uniform", 1),
    ]
    for row in rows:
        assert row["status"] == "done"
        assert row["config"]["seed"] == row["seed"]
        assert row["steps"] == row["config"]["train"]["steps"] == 6
        assert row["tokens"] == 6 * 4 * row["data"]["length"]
        assert row["seconds"] > 0 < row["steps_per_second"]
        assert {"mdlm-atat", "mdlm-core", "torch", "python"} <= row["versions"].keys()
        assert len(row["windows"]["nats"]) == row["bound"]["rows"] == 12
        total = sum(row["windows"]["nats"]) / sum(row["windows"]["tokens"])
        assert total == pytest.approx(row["bound"]["nats"], abs=1e-6)
        assert [point["step"] for point in row["curve"]] == [3, 6]
        assert (out / row["run"] / "config.yaml").is_file()
    assert len({row["hash"] for row in rows}) == 4
    found = by_key(rows)
    assert found["uniform", 0]["parameters"]["policy"] == 0
    assert found["full", 0]["parameters"]["policy"] > 0
    assert len({row["parameters"]["model"] for row in rows}) == 1
    assert found["uniform", 0]["diagnostics"] is None
    assert "expected" not in json.dumps(rows)


def test_runs_of_a_seed_have_the_same_windows(finished):
    _, rows = finished
    found = by_key(rows)
    for seed in (0, 1):
        uniform, full = found["uniform", seed], found["full", seed]
        assert uniform["windows"]["tokens"] == full["windows"]["tokens"]
        assert uniform["data"] == full["data"]
        assert uniform["windows"]["nats"] != full["windows"]["nats"]


def test_runs_of_a_seed_begin_alike(tmp_path, monkeypatch):
    """Initial weights, and rows, times and masks of the first step (no bias yet)."""
    weights, steps = [], []
    step_of, corrupt = Loop._step, pretrain.corrupt_for_training

    def step(self, *arguments):
        if self.progress.step == 0:
            backbone = self.engine.module.backbone
            weights.append([p.detach().clone() for p in backbone.parameters()])
            steps.append([])
        return step_of(self, *arguments)

    def watched(*arguments, **named):
        found = corrupt(*arguments, **named)
        if not steps[-1]:
            steps[-1] += [found.targets, found.t, found.masked]
        return found

    monkeypatch.setattr(Loop, "_step", step)
    monkeypatch.setattr(pretrain, "corrupt_for_training", watched)
    names = ("uniform", "full", "frequency_naive")
    run(tmp_path, *names, sets=(*SETS, "task.eval_rows=2", "train.eval_every=6"))
    assert len(weights) == len(steps) == 6
    for seen in (weights, steps):
        first, second = seen[:3], seen[3:]  # seed by seed
        for runs in (first, second):
            for other in runs[1:]:
                assert all(map(torch.equal, runs[0], other))
        assert not all(map(torch.equal, first[0], second[0]))
    assert not torch.equal(steps[0][2], steps[3][2])


def test_what_is_done_is_not_done_again(finished, monkeypatch):
    out, rows = finished
    monkeypatch.setattr(measure, "train", None)
    again, said = run(out, "uniform", "full")
    assert again == rows
    assert "4 of 4 runs were finished before" in said


def test_variants_with_the_same_settings_share_a_run(finished, monkeypatch):
    out, rows = finished
    monkeypatch.setattr(measure, "train", None)
    again, _ = run(out, "uniform", "full", "balanced")
    assert again == rows
    entries = {e["name"]: e for e in build(AblationFolder(out))["variants"]}
    assert entries["balanced"]["nats"] == entries["full"]["nats"]


def test_another_setting_makes_new_rows_beside_the_old(finished):
    out, rows = finished
    again, _ = run(out, "uniform", seeds=(0,), sets=(*SETS, "train.lr=1e-3"))
    assert again[: len(rows)] == rows
    (new,) = again[len(rows) :]
    assert new["config"]["train"]["lr"] == 1e-3
    assert new["hash"] not in {row["hash"] for row in rows}
    report = build(AblationFolder(out))
    assert report["other_rows"] == len(rows)
    assert report["variants"][0]["runs"][0]["hash"] == new["hash"]


def test_other_scoring_scores_again_but_trains_nothing(finished):
    out, _ = finished
    before = AblationFolder(out).read()
    metrics = {path: path.read_bytes() for path in out.glob("runs/*/metrics.jsonl")}
    again, _ = run(out, "uniform", seeds=(0,), scoring=Scoring(rows=6, draws=2))
    assert len(again) == len(before) + 1
    assert len(again[-1]["windows"]["nats"]) == 6
    assert {path: path.read_bytes() for path in metrics} == metrics


# ---- interrupted -----------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 5])
def test_a_killed_run_goes_on_and_ends_the_same(finished, tmp_path, monkeypatch, step):
    """Before the first checkpoint, and after the one of step 4."""
    _, rows = finished
    real = Loop._log

    def log(self):
        if self.progress.step == step:
            raise Killed
        real(self)

    monkeypatch.setattr(Loop, "_log", log)
    with pytest.raises(Killed):
        run(tmp_path, "uniform", seeds=(0,))
    assert not AblationFolder(tmp_path).rows.is_file()
    monkeypatch.setattr(Loop, "_log", real)
    steps = []
    step_of = Loop._step

    def counted(self, *arguments):
        steps.append(self.progress.step)
        return step_of(self, *arguments)

    monkeypatch.setattr(Loop, "_step", counted)
    (row,), _ = run(tmp_path, "uniform", seeds=(0,))
    assert steps == ([0, 1, 2, 3, 4, 5] if step == 1 else [4, 5])
    whole = by_key(rows)["uniform", 0]
    for name in ("windows", "ce_by_time", "ce_by_frequency", "hash", "tokens"):
        assert row[name] == whole[name]


def test_what_was_left_before_a_run_had_settings_is_removed(tmp_path, finished):
    _, rows = finished
    name = by_key(rows)["uniform", 0]["run"]
    (tmp_path / name / "tokenizer").mkdir(parents=True)
    (row,), _ = run(tmp_path, "uniform", seeds=(0,))
    assert row["status"] == "done"


def test_a_row_that_was_half_written_is_dropped(tmp_path):
    folder = AblationFolder(tmp_path)
    folder.append({"variant": "a"})
    with folder.rows.open("a") as file:
        file.write('{"variant": "b')
    assert folder.read() == [{"variant": "a"}]
    folder.append({"variant": "c"})
    assert folder.read() == [{"variant": "a"}, {"variant": "c"}]


def test_a_failure_counts_only_where_no_attempt_was_successful():
    row = {"hash": "h", "scoring_hash": "s"}
    lines = [{**row, "status": status} for status in ("failed", "done", "failed")]
    key = ("h", "s")
    assert latest(lines)[key] is lines[1]
    assert latest(lines[:1] + lines[2:])[key] is lines[2]  # the newer error


# ---- failures --------------------------------------------------------------------


def test_a_failure_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    real = measure.train

    def train(config, **arguments):
        if config.masking.name == "atat":
            raise ValueError("boom | bang")
        return real(config, **arguments)

    monkeypatch.setattr(measure, "train", train)
    rows, said = run(tmp_path, "full", "uniform", "uniform_time_matched", seeds=(0,))
    assert [(row["variant"], row["status"]) for row in rows] == [
        ("full", "failed"),
        ("uniform", "done"),
    ]
    assert rows[0]["error"] == "ValueError: boom | bang"
    assert "full, seed 0: failed: ValueError: boom | bang" in said
    path, _ = write_report(tmp_path, draw=False)
    text = path.read_text()
    assert re.search(r"^\| `full` \| failed \| –", text, re.M)
    assert re.search(r"^\| `uniform_time_matched` \| not run \| –", text, re.M)
    assert "failed: ValueError: boom \\| bang" in text
    monkeypatch.setattr(measure, "train", real)
    rows, _ = run(tmp_path, "full", "uniform", "uniform_time_matched", seeds=(0,))
    assert [(row["variant"], row["status"]) for row in rows[2:]] == [
        ("full", "done"),
        ("uniform_time_matched", "done"),
    ]
    full, uniform, matched = rows[2], rows[1], rows[3]
    speed = uniform["steps_per_second"] / full["steps_per_second"]
    assert matched["steps"] == max(1, round(6 * speed))
    again, _ = run(tmp_path, "full", "uniform", "uniform_time_matched", seeds=(0,))
    assert again == rows  # the measured times are those of the rows: the same plan


def test_a_number_that_is_not_finite_is_a_failure(tmp_path, monkeypatch):
    found = {"strength": 1.0, "spearman": [0.5, float("nan")]}
    monkeypatch.setattr(measure, "diagnose", lambda *a, **k: found)
    rows, said = run(tmp_path, "full", seeds=(0,))
    assert [row["status"] for row in rows] == ["failed"]
    assert rows[0]["error"] == "diagnostics.spearman.1 is not a finite number"
    assert said[-1].startswith("full, seed 0: failed:")


def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch):
    here = run_module.git_commit()
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        if subprocess.run(["git", *who, *words], cwd=tmp_path, check=False).returncode:
            pytest.skip("git does not work here")
    monkeypatch.chdir(tmp_path)
    assert run_module.git_commit() == here
    # Installed into an environment that lies inside another checkout.
    installed = tmp_path / "run.py"
    installed.touch()
    monkeypatch.setattr(run_module, "__file__", str(installed))
    assert run_module.git_commit() is None


def test_threads_are_shared_out_of_the_cores_that_may_be_used(monkeypatch):
    allowed = {0, 1, 2, 5, 6, 7}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert [threads_each(count) for count in (1, 2, 6, 9)] == [None, 3, 1, 1]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads_each(2) == 32


def test_a_folder_without_an_ablation_has_no_report(tmp_path):
    with pytest.raises(UsageError, match="no ablation"):
        write_report(tmp_path)


def test_a_process_of_its_own_gives_the_same_row(finished, tmp_path):
    _, rows = finished
    (row,), _ = run(tmp_path, "uniform", seeds=(0,), jobs=1)
    (log,) = tmp_path.glob("logs/*.log")
    assert log.read_text() == ""
    whole = by_key(rows)["uniform", 0]
    assert row["hash"] == whole["hash"]
    assert row["windows"]["tokens"] == whole["windows"]["tokens"]
    assert row["windows"]["nats"] == pytest.approx(whole["windows"]["nats"], rel=1e-4)


# ---- the report ------------------------------------------------------------------


def test_the_report_tells_differences_with_both_intervals(finished):
    out, rows = finished
    run(out, "uniform", "full")
    path, line = write_report(out)
    report = json.loads((out / "report.json").read_text())
    assert "expected" not in path.read_text()
    base, full = report["variants"]
    assert (base["name"], base["difference"]) == ("uniform", None)
    found, by = full["difference"], by_key(rows)
    each = [
        by["full", seed]["bound"]["nats"] - by["uniform", seed]["bound"]["nats"]
        for seed in (0, 1)
    ]
    assert found["per_seed"] == pytest.approx(each, abs=1e-6)
    mean = sum(each) / 2
    half = 12.7062 * abs(each[0] - each[1]) / 2
    assert found["over_seeds"]["mean"] == pytest.approx(mean, abs=1e-6)
    assert found["over_seeds"]["high"] == pytest.approx(mean + half, abs=1e-5)
    assert found["over_windows"]["low"] < mean < found["over_windows"]["high"]
    uniform = (
        by["uniform", 0]["bound"]["nats"] + by["uniform", 1]["bound"]["nats"]
    ) / 2
    assert found["percent"] == pytest.approx(100 * mean / uniform, abs=1e-4)
    text = path.read_text()
    interval = found["over_seeds"]
    shown = f"{mean:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}]"
    assert shown in text
    if find_spec("matplotlib"):
        drawn = sorted(file.name for file in (out / "plots").glob("*.svg"))
        assert "differences.svg" in drawn
        assert "mask-rates.svg" in drawn
        for name in drawn:
            assert f"(plots/{name})" in text
    else:
        assert "pip install" in line


def test_differences_to_another_variant_have_a_table(finished, tmp_path):
    """Here bell has the rows of full, and full_bell those of uniform."""
    out, rows = finished
    run(out, "uniform", "full")
    folder = AblationFolder(tmp_path)
    folder.rows.write_bytes((out / "rows.jsonl").read_bytes())
    plan = AblationFolder(out).read_plan()
    names = {"full": "bell", "uniform": "full_bell"}
    named = [{**job, "variant": names[job["variant"]]} for job in plan["jobs"]]
    folder.write_plan({**plan, "jobs": [*plan["jobs"], *named]})
    path, _ = write_report(tmp_path, draw=False)
    (entry,) = json.loads((tmp_path / "report.json").read_text())["against"]
    assert (entry["name"], entry["against"]) == ("full_bell", "bell")
    found, by = entry["difference"], by_key(rows)
    each = [
        by["uniform", seed]["bound"]["nats"] - by["full", seed]["bound"]["nats"]
        for seed in (0, 1)
    ]
    assert found["per_seed"] == pytest.approx(each, abs=1e-6)
    mean, seeds, windows = sum(each) / 2, found["over_seeds"], found["over_windows"]
    assert windows["low"] < mean < windows["high"]
    table = path.read_text().partition("## Differences to another")[2]
    shown = f"{mean:+.4f} [{seeds['low']:+.4f}, {seeds['high']:+.4f}]"
    assert f"| `full_bell` | `bell` | 2 | {shown} |" in table.partition("##")[0]


def test_without_matplotlib_the_report_says_what_to_install(finished, monkeypatch):
    out, _ = finished
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path, line = write_report(out)
    assert "pip install 'mdlm-atat[plot]'" in line
    assert "## Figures" not in path.read_text()


def test_the_diagnostics_of_the_policy(finished):
    _, rows = finished
    found = by_key(rows)["full", 0]["diagnostics"]
    assert found["strength"] == 0.5  # 1 / temperature in the hard stage
    rates = found["mask_rate"]
    frequent, rare = rates[0], rates[3]
    assert all(low < high for low, high in zip(frequent, rare, strict=True))
    for line in rates:
        assert all(first < second for first, second in pairwise(line))
    # The frequency prior alone makes importance go with the loss of hidden tokens.
    assert min(value for value in found["spearman"] if value is not None) > 0.3
    groups = found["calibration"]["importance"]
    assert groups == sorted(groups)
    assert len(groups) == 10


@pytest.mark.parametrize("strategy", ["proportional", "inverse", "balanced"])
def test_full_strength_is_the_largest_that_a_run_without_anneal_comes_to(strategy):
    curriculum = CurriculumConfig(final_uniform=0.0, hard=0.8)
    config = AtatConfig(strategy=strategy, temperature=4.0, curriculum=curriculum)
    scheduler = CurriculumScheduler(curriculum, strategy=strategy, temperature=4.0)
    kappas = []
    for step in range(40):
        scheduler.advance(step, 40)
        kappas.append(scheduler.kappa)
    found = full_strength(SimpleNamespace(config=config))
    assert found == pytest.approx(max(kappas, key=abs))


def test_one_seed_has_no_interval_over_seeds(finished, tmp_path):
    out, _ = finished
    run(out, "uniform", "full", seeds=(1,))
    path, _ = write_report(out, draw=False)
    text = path.read_text()
    assert "(n = 1: no interval)" in text
    assert "There is one seed" in text


def test_versions_that_differ_are_told(finished, tmp_path):
    out, rows = finished
    run(out, "uniform", "full")
    assert "same versions" not in write_report(out, draw=False)[0].read_text()
    folder = AblationFolder(tmp_path)
    folder.write_plan(AblationFolder(out).read_plan())
    for number, row in enumerate(rows):
        torch = "9.9" if number else "9.8"
        folder.append({**row, "versions": {**row["versions"], "torch": torch}})
    facts = build(folder)["facts"]
    assert facts["versions"]["torch"] == ["9.8", "9.9"]
    text = write_report(tmp_path, draw=False)[0].read_text()
    assert "torch 9.8 and 9.9" in text
    assert "Not all rows were made with the same versions of torch:" in text


def test_rows_of_other_text_are_not_compared(finished):
    out, _ = finished
    run(out, "uniform", "full")
    folder = AblationFolder(out)
    before = folder.rows.read_text()
    changed = [
        {**row, "data": {**row["data"], "held_out_sha256": "other"}}
        if row["variant"] == "full"
        else row
        for row in folder.read()
    ]
    folder.rows.write_text("".join(json.dumps(row) + "\n" for row in changed))
    try:
        entry = build(folder)["variants"][1]
    finally:
        folder.rows.write_text(before)
    assert entry["difference"] is None
    assert entry["runs"][0]["not_comparable"] == "another held-out text"
