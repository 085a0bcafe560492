"""Each check passes on a sound phase, and fails when what it looks at is broken."""

import json
import math
from dataclasses import replace

import pytest
import torch

import mdlm_atat.importance
import mdlm_atat.validation.data as data_module
import mdlm_atat.validation.tokens as tokens_module
from mdlm_atat.datasets import get_dataset_manager
from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.validation import NAMES, probe, step, validate
from mdlm_atat.validation.comparable import comparable
from mdlm_atat.validation.names import names
from mdlm_atat.validation.report import Finding, conduct, worst
from mdlm_atat.validation.subject import Subject
from mdlm_atat.variants import VARIANTS, Variant, find_variants
from mdlm_core import DataError, load_catalog
from mdlm_core.config.schema import Component
from mdlm_core.protocols import Rates

from .tiny_phase import PHASE, check, failures, registry, tiny_subject, words, write


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phase")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDLM_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture
def subject(place):
    return tiny_subject(place)


@pytest.fixture
def full(place):
    return tiny_subject(place, variants=("full",))


# ---- all of it ---------------------------------------------------------------


def test_a_sound_phase_passes_all_eight_checks(place):
    manager = get_dataset_manager(config_file=registry(place))
    phase = manager.get_phase_config(PHASE)
    subject = Subject(
        load_catalog(), phase, find_variants(phase.variants), device="cpu"
    )
    told = []
    report = validate(subject, manager, tell=told.append)
    assert [check.name for check in report.checks] == list(NAMES)
    assert [check.number for check in report.checks] == list(range(1, 9))
    assert told == list(report.checks)
    bad = [f for c in report.checks for f in c.findings if f.status in ("warn", "fail")]
    assert bad == []
    assert not report.failed(strict=True)
    shown = json.loads(json.dumps(report.to_dict()))
    assert shown["phase"] == PHASE
    assert shown["variants"] == ["uniform", "full"]
    assert shown["checks"][4]["findings"][0].keys() == {"status", "seen", "fix"}


def test_the_worst_status_counts():
    assert worst(["skip", "pass", "warn"]) == "warn"
    assert worst(["pass", "fail", "warn"]) == "fail"
    assert worst(["skip"]) == worst([]) == "skip"


def test_an_error_inside_a_check_is_a_finding(monkeypatch):
    def broken():
        yield Finding("pass", "the first")
        raise DataError("no data; bring some")

    done = conduct(2, "data", broken)
    assert [finding.status for finding in done.findings] == ["pass", "fail"]
    assert done.findings[1].seen == "no data; bring some"

    def surprising():
        raise ZeroDivisionError("0")

    assert "ZeroDivisionError" in conduct(2, "data", surprising).findings[0].seen
    monkeypatch.setenv("MDLM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        conduct(2, "data", surprising)


# ---- 1 names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"variants": ("uniform", "ful")}, "did you mean 'full'"),
        ({"sets": {"train.stesp": 3}}, "did you mean 'train.steps'"),
        ({"preset": "atat/book-cpu"}, "did you mean 'atat/books-cpu'"),
        ({"sets": {"model.name": "atta-dit"}}, "did you mean 'atat-dit'"),
    ],
)
def test_names_that_are_not_known_fail(place, changes, near):
    subject = tiny_subject(place, variants=("uniform",))
    subject.phase = replace(subject.phase, **changes)
    manager = get_dataset_manager(config_file=place / "registry.yaml")
    status, seen = check(names, subject, manager)
    assert status == "fail"
    assert near in seen
    report = validate(subject, manager)
    assert {c.status for c in report.checks[1:]} == {"skip"}


# ---- 2 data --------------------------------------------------------------------


def unprepared(folder, **changes):
    manager = get_dataset_manager(config_file=folder / "registry.yaml")
    phase = replace(manager.get_phase_config(PHASE), **changes)
    return Subject(load_catalog(), phase, find_variants(["uniform"]), device="cpu")


@pytest.fixture
def stand_in(monkeypatch):
    """Few documents in place of the ones that come with Python."""
    texts = words(40, seed=5)
    monkeypatch.setattr("mdlm_core.data.python_docs.python_documents", lambda: texts)
    monkeypatch.setattr(tokens_module, "python_documents", lambda: texts)


def test_data_that_are_not_there_fail_and_others_stand_in(tmp_path, stand_in):
    registry(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    subject = unprepared(tmp_path)
    status, seen = check(data_module.data, subject)
    assert status == "fail"
    assert "train.jsonl" in seen
    assert "python-docs" in seen
    assert subject.stands_in
    assert check(tokens_module.tokens, subject)[0] == "pass"
    assert check(step.training_step, subject)[0] == "pass"


def test_a_tokenizer_that_cannot_be_had_fails(tmp_path, stand_in, monkeypatch):
    registry(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    monkeypatch.setattr(data_module, "reachable", lambda: False)
    subject = unprepared(tmp_path)
    text = replace(subject.phase.dataset, tokenizer="nobody/nothing")
    subject.phase = replace(subject.phase, dataset=text)
    assert check(data_module.data, subject)[0] == "fail"
    status, seen = check(tokens_module.tokens, subject)
    assert status == "fail"
    assert "nobody/nothing" in seen
    assert subject.data.tokenizer.name == "byte"


def test_a_fallback_is_told(tmp_path):
    registry(tmp_path)
    there = unprepared(tmp_path).phase.dataset
    lost = replace(there, name="lost", part="lost.jsonl")
    subject = unprepared(tmp_path, dataset=lost, fallback=there)
    status, seen = check(data_module.data, subject)
    assert status == "warn"
    assert "words (full) stands in" in seen
    assert subject.phase.dataset.name == "words"
    assert not subject.stands_in


@pytest.mark.parametrize(("repeat", "status"), [(0, "pass"), (5, "fail"), (10, "fail")])
def test_overlap_of_training_and_held_out_text_fails(tmp_path, repeat, status):
    registry(tmp_path, repeat=repeat)
    found, seen = check(data_module.data, unprepared(tmp_path))
    assert found == status
    assert f"{repeat / 10:.2%} of 110 runs" in seen


def test_overlap_is_found_where_documents_are_held_out(tmp_path):
    file = registry(tmp_path)
    file.write_text(file.read_text().replace(", validation: valid.jsonl", ""))
    texts = words(40, seed=0)
    write(tmp_path / "train.jsonl", [*texts, *(f"{text} twice" for text in texts)])
    status, seen = check(data_module.data, unprepared(tmp_path))
    assert status == "fail"
    assert "stand in the training text" in seen


def test_a_damaged_file_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))
    registry(tmp_path)
    subject = unprepared(tmp_path)
    assert check(data_module.data, subject)[0] == "pass"
    file = subject.phase.dataset.cache_file
    file.write_bytes(file.read_bytes().replace(b"a", b"b"))
    status, seen = check(data_module.data, unprepared(tmp_path))
    assert status == "warn"
    assert "damaged" in seen


def test_too_few_rows_for_a_batch_fail(subject):
    subject.sets = ("train.batch_size=100000",)
    status, seen = check(data_module.data, subject)
    assert status == "fail"
    assert "lower train.batch_size" in seen


# ---- 3 tokens --------------------------------------------------------------------


def test_text_that_is_not_given_back_fails(subject, monkeypatch):
    tokenizer = type(subject.data.tokenizer)
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda *a, **k: decode(*a, **k).upper())
    status, seen = check(tokens_module.tokens, subject)
    assert status == "fail"
    assert "differ after decoding" in seen


def test_spaces_that_change_are_a_warning(subject, monkeypatch):
    tokenizer = type(subject.data.tokenizer)
    decode = tokenizer.decode
    monkeypatch.setattr(
        tokenizer, "decode", lambda *a, **k: decode(*a, **k).replace(" ", "  ")
    )
    assert check(tokens_module.tokens, subject)[0] == "warn"


@pytest.mark.parametrize("what", ["mask", "outside"])
def test_ids_that_cannot_be_fail(subject, monkeypatch, what):
    source = subject.data
    bad = source.tokenizer.mask_id if what == "mask" else source.tokenizer.vocab_size
    batches = source.batches

    def spoiled(*arguments, **more):
        for batch in batches(*arguments, **more):
            batch.tokens[0, 3] = bad
            yield batch

    monkeypatch.setattr(source, "batches", spoiled)
    assert len(failures(tokens_module._ids(subject))) == 1


def test_a_model_of_another_vocabulary_fails(subject, monkeypatch):
    build = Subject.module

    def other(self, config):
        module = build(self, config)
        module.backbone.vocab_size += 1
        return module

    monkeypatch.setattr(Subject, "module", other)
    status, seen = check(tokens_module.tokens, subject)
    assert status == "fail"
    assert "ids:" in seen


# ---- 4 step ----------------------------------------------------------------------


def test_a_loss_that_is_not_finite_fails(full, monkeypatch):
    loss = AdaptiveMasking.auxiliary_loss
    monkeypatch.setattr(
        AdaptiveMasking, "auxiliary_loss", lambda *a, **k: loss(*a, **k) * math.inf
    )
    status, seen = check(step.training_step, full)
    assert status == "fail"
    assert "the loss of the first step is" in seen


def test_an_estimator_that_gets_no_gradient_fails(full, monkeypatch):
    estimator = mdlm_atat.importance.ImportanceEstimator
    forward = estimator.forward
    monkeypatch.setattr(estimator, "forward", lambda *a: forward(*a).detach())
    status, seen = check(step.training_step, full)
    assert status == "fail"
    assert "reaches 0 of" in seen


def test_a_gradient_that_crosses_fails(full, monkeypatch):
    loss, module = AdaptiveMasking.auxiliary_loss, Subject.module

    def build(self, config):
        built = module(self, config)
        for parameter in built.backbone.parameters():
            built.policy.__dict__["leak"] = parameter  # no child of the policy
        return built

    def crossing(self, *arguments, **more):
        return loss(self, *arguments, **more) + self.leak.sum()

    monkeypatch.setattr(Subject, "module", build)
    monkeypatch.setattr(AdaptiveMasking, "auxiliary_loss", crossing)
    status, seen = check(step.training_step, full)
    assert status == "fail"
    assert "the loss of the masking policy reaches the denoiser" in seen


def test_a_loss_that_trains_the_policy_by_its_masks_fails(full, monkeypatch):
    rates = AdaptiveMasking.rates

    def learned(self, batch, t, schedule):
        found = rates(self, batch, t, schedule)
        return Rates(found.mask_prob, found.weight * self.estimator(batch, t).double())

    monkeypatch.setattr(AdaptiveMasking, "rates", learned)
    status, seen = check(step.training_step, full)
    assert status == "fail"
    assert "the loss of the denoiser reaches the masking policy" in seen


# ---- 6 probe -----------------------------------------------------------------------


def test_a_budget_is_held(subject):
    assert check(probe.probe, subject, 1e9)[0] == "pass"
    status, seen = check(probe.probe, subject, 1e-9)
    assert status == "fail"
    assert "4 runs" in seen


def test_memory_that_is_not_there_fails(full, monkeypatch):
    monkeypatch.setattr(probe, "_memory_of", lambda device: 1000)
    found = failures(probe.probe(full))
    assert len(found) == 1
    assert "choose a smaller model" in found[0].fix
    config = full.configs()["full"]
    cost = probe.measure(full, config, torch.device("cpu"))
    room = int((cost.state + 3.5 * cost.row) / 0.9)
    monkeypatch.setattr(probe, "_memory_of", lambda device: room)
    (found,) = failures(probe.probe(full))
    assert "train.micro_batch=3" in found.fix


def test_a_row_keeps_what_autograd_says():
    """``x @ w`` and ``relu`` keep x, w and the result; w is a parameter."""
    x, w = torch.ones(4, 8), torch.ones(8, 2, requires_grad=True)
    saved = probe._Saved()
    with saved:
        (x @ w).relu().sum()
    assert saved.bytes == 4 * 8 * 4 + 4 * 2 * 4


def test_a_disk_that_is_full_fails(full, monkeypatch):
    class Usage:
        free = 10

    monkeypatch.setattr(probe.shutil, "disk_usage", lambda path: Usage)
    (found,) = failures(probe.probe(full))
    assert "keep_best=0" in found.fix


# ---- 7 comparable ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("data.tokenizer", "byte", "the tokenizer"),
        ("data.path", "elsewhere.jsonl", "the data"),
        ("data.holdout", 0.1, "the split"),
        ("data.length", 32, "the data"),
        ("task.eval_draws", 7, "the evaluation"),
        ("train.steps", 41, "the steps"),
        ("train.batch_size", 9, "the batch"),
        ("train.lr", 1e-3, "the training"),
        ("model.width", 32, "the denoiser"),
        ("schedule.eps", 0.01, "the schedule"),
        ("seed", 7, "the seeds"),
    ],
)
def test_a_field_that_differs_is_named(subject, path, value, what):
    configs = subject.configs()
    section, _, name = path.partition(".")
    config = configs["full"]
    part = value if not name else getattr(config, section)
    if name and isinstance(part, Component):
        part = replace(part, config=replace(part.config, **{name: value}))
    elif name:
        part = replace(part, **{name: value})
    configs["full"] = replace(config, **{section: part})
    (found,) = failures(comparable(configs, VARIANTS))
    assert found.seen.startswith(f"{what} differs: {path} is {value!r} in full")
    assert path in found.fix


def test_masking_and_times_may_differ(place):
    subject = tiny_subject(place, variants=("uniform", "full", "bell", "full_bell"))
    configs = subject.configs()
    assert configs["bell"].task != configs["uniform"].task
    names = {name: VARIANTS[name] for name in configs}
    (found,) = comparable(configs, names)
    assert found.status == "pass"
    assert "masking, task" in found.seen


@pytest.mark.parametrize("path", ["data", "data.name"])
def test_data_set_by_hand_are_not_those_of_the_phase(place, path):
    subject = tiny_subject(place)
    subject.sets = (f"{path}=python-docs", "data.max_documents=20")
    _, seen = check(data_module.data, subject)
    assert "the data are set by hand" in seen
    assert subject.source.card()["name"] == "python-docs"


def test_a_time_matched_variant_is_told(place):
    subject = tiny_subject(place, variants=("uniform", "uniform_time_matched"))
    names = {name: VARIANTS[name] for name in subject.configs()}
    found = list(comparable(subject.configs(), names))
    assert [finding.status for finding in found] == ["pass", "warn"]


def test_another_sampler_is_a_warning(subject):
    configs = subject.configs()
    sampler = replace(configs["full"].sampler, name="ddpm")
    configs["full"] = replace(configs["full"], sampler=sampler)
    (found,) = comparable(configs, {"full": Variant("full", "", ())})
    assert found.status == "warn"


# ---- 8 determinism -----------------------------------------------------------------


def test_a_step_that_draws_elsewhere_fails(full, monkeypatch):
    assert check(step.repeats, full)[0] == "pass"
    draws = iter(range(1, 100))
    loss = AdaptiveMasking.auxiliary_loss
    monkeypatch.setattr(
        AdaptiveMasking,
        "auxiliary_loss",
        lambda *a, **k: loss(*a, **k) * (1 + 1e-6 * next(draws)),
    )
    status, seen = check(step.repeats, full)
    assert status == "fail"
    assert "of the same step differs" in seen


def test_a_gradient_that_differs_fails(full, monkeypatch):
    """A term whose value is zero changes gradients alone."""
    draws = iter(range(1, 100))
    estimator = mdlm_atat.importance.ImportanceEstimator
    forward = estimator.forward

    def restless(self, batch, t):
        found = forward(self, batch, t)
        return found + (found - found.detach()) * next(draws)

    monkeypatch.setattr(estimator, "forward", restless)
    status, seen = check(step.repeats, full)
    assert status == "fail"
    assert "the gradient of the same step" in seen
