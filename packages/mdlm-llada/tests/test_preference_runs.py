"""Whole runs: from the command, resumed, from another run, with adapters."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mdlm_core.catalog import load_catalog
from mdlm_core.cli import app
from mdlm_core.config import resolve
from mdlm_core.errors import CheckpointError, ConfigError, DataError, UsageError
from mdlm_core.evaluate import evaluate
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.train import checkpoint, load_run, train
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.config import GRPOConfig, LoraConfig, PromptsConfig, VRPOConfig
from mdlm_llada.data import prompts
from mdlm_llada.preference.reference import Reference
from mdlm_llada.preference.rewards import Judge
from mdlm_llada.registry import Example

from .sft_run import trace

SMALL = (
    "model.blocks=1",
    "model.width=16",
    "model.mlp_width=32",
    "sampler.steps=2",
    "train.precision=fp32",
    "train.lr=1e-2",
)
KINDS = {
    "vrpo": ("task.sample_count=1", "task.eval_rows=3"),
    "grpo": (
        "task.answer_length=8",
        "task.block=8",
        "sampler.block=8",
        "task.group=3",
        "task.sync_reference=3",
        "task.sample_count=1",
        "task.coupled=true",
        "task.scale_rewards=true",
        "task.temperature=1.0",
    ),
}
STEPS = ("train.steps=6", "train.save_every=3", "train.eval_every=3")


def settings(kind, *sets):
    return resolve(
        load_catalog(),
        preset=f"llada/{kind}",
        sets=[*SMALL, *KINDS[kind], *STEPS, *sets],
        tiny=True,
    ).config


def run(out, kind, *sets, resume=False):
    return train(settings(kind, *sets), out=out, resume=resume, device="cpu")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [
        {"prompt": f"{i} or {j}?", "chosen": str(max(i, j)), "rejected": str(min(i, j))}
        for i in range(8)
        for j in range(8)
        if i != j
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def sets(file):
    return {"vrpo": (f"data.path={file}",), "grpo": ()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, sets):
    folder = tmp_path_factory.mktemp("whole")
    for kind in KINDS:
        run(folder / kind, kind, *sets[kind])
    return folder


def tensors(folder, step=6, name="model"):
    place = folder / "checkpoints" / f"step-{step:08d}"
    return checkpoint.read_tensors(place, name)


# ---- the command -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_mdlm_train_runs_it(kind, sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "--preset", f"llada/{kind}", "--tiny", "--out", "run"]
    for value in (*SMALL, *KINDS[kind], *sets[kind], "train.steps=2"):
        arguments += ["--set", value]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "after 2 steps" in result.output
    numbers = {
        "vrpo": {"accuracy", "margin", "chosen", "rejected"},
        "grpo": {"reward", "kl", "clipped", "answer_tokens"},
    }[kind]
    assert numbers <= trace(Path("run"), "train")[-1].keys()


# ---- resuming ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_run_that_was_not_stopped(kind, whole, sets, tmp_path):
    """Stopped after 3 of 4 inner steps, where the reference has yet to follow."""
    run(tmp_path, kind, *sets[kind], "train.steps=3")
    run(tmp_path, kind, *sets[kind], resume=True)
    for name in ("model", "optimizer"):
        files = [
            folder / "checkpoints" / "step-00000006" / f"{name}.safetensors"
            for folder in (whole / kind, tmp_path)
        ]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert trace(whole / kind) == trace(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_changes_nothing(kind, whole, sets, tmp_path):
    run(tmp_path, kind, *sets[kind], "train.micro_batch=3", "train.steps=3")
    for one, other in zip(
        trace(whole / kind, "train"), trace(tmp_path, "train"), strict=False
    ):
        assert one.keys() == other.keys()
        for name in one.keys() - {"kind"}:
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


def test_a_checkpoint_holds_what_the_next_step_needs_and_no_more(whole):
    others = [n for n in tensors(whole / "vrpo") if not n.startswith("backbone.")]
    assert others == ["reference.checksum"]
    held = tensors(whole / "grpo")
    assert {n.partition(".")[0] for n in held} == {"backbone", "reference", "rollouts"}
    round_ = Noise(0).child("train").child("round", 1)
    assert set(held["rollouts.keys"].tolist()) == {round_.integer()}
    assert held["rollouts.old"].abs().sum() > 0
    fixed = settings("grpo", "task.sync_reference=0")
    module = (
        load_catalog()
        .build("task", fixed.task, run=fixed, catalog=load_catalog())
        .build(load_catalog().build("dataset", fixed.data))
    )
    assert module.reference.external_tensors


# ---- measuring ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_measuring_is_the_same_each_time(kind, whole):
    loaded = load_run(whole / kind, checkpoint="last")
    found = dict(loaded.task.evaluate(loaded.module, loaded.source))
    last = trace(whole / kind, "validation")[-1]
    assert found == {name: last[name] for name in found}
    assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    if kind == "grpo":
        assert found["loss"] == 1 - found["reward"]


def test_mdlm_evaluate_measures_chosen_answers(whole):
    card = evaluate(load_run(whole / "vrpo"), draws=4, rows=3)
    assert card["rows"] == 3
    assert card["bound"]["nats_per_token"]["value"] > 0
    with pytest.raises(UsageError, match="prompts without answers"):
        evaluate(load_run(whole / "grpo"))


def test_preferences_are_learned(file, tmp_path):
    """The larger number; chance is a half."""
    run(
        tmp_path,
        "vrpo",
        f"data.path={file}",
        "data.train_ratio=0.7",
        "task.eval_rows=0",
        "train.steps=40",
        "train.batch_size=16",
        "train.eval_every=40",
        "task.beta=1.0",
    )
    assert trace(tmp_path, "validation")[-1]["accuracy_low"] > 0.6


# ---- where a run starts ------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_starts_from_another_run(kind, whole, sets, tmp_path):
    start = whole / "vrpo"
    run(tmp_path, kind, *sets[kind], f"model.path={start}", "train.steps=1")
    loaded = load_run(tmp_path)
    before = load_run(start).backbone.state_dict()  # the best of its checkpoints
    for name, value in loaded.module.reference.copy.state_dict().items():
        assert torch.equal(value, before[name]), name
    now = loaded.backbone.state_dict()
    assert any(not torch.equal(now[name], before[name]) for name in before)
    if kind == "vrpo":
        assert trace(tmp_path, "train")[0]["margin"] == pytest.approx(0, abs=1e-5)


def test_a_run_does_not_go_on_from_another_reference(whole, sets, tmp_path):
    """Such as that of a run that has gone on in the meantime."""
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, "vrpo", *sets["vrpo"], "train.steps=1")
    more = (*sets["vrpo"], f"model.path={first}")
    run(second, "vrpo", *more, "train.steps=2")
    run(first, "vrpo", *sets["vrpo"], "train.steps=4", resume=True)
    with pytest.raises(CheckpointError, match=r"not those of model\.path any more"):
        run(second, "vrpo", *more, "train.steps=3", resume=True)


def test_a_run_starts_from_a_checkpoint(tmp_path, sets):
    start = tiny_checkpoint(tmp_path / "checkpoint")
    run(
        tmp_path / "run",
        "grpo",
        f"model.path={start}",
        f"data.tokenizer={start}",
        "data.template=auto",
        "data.max_length=128",
        "train.steps=1",
    )
    loaded = load_run(tmp_path / "run")
    assert loaded.backbone.vocab_size == loaded.tokenizer.vocab_size
    assert trace(tmp_path / "run", "train")[0]["reward"] >= 0


def test_another_tokenizer_than_the_runs_is_refused(whole, tmp_path):
    from .toy_tokenizer import write_tokenizer

    other = write_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="use the tokenizer that it was trained with"):
        run(
            tmp_path / "run",
            "vrpo",
            f"model.path={whole / 'vrpo'}",
            f"data.tokenizer={other}",
        )


# ---- adapters ----------------------------------------------------------------


@pytest.mark.parametrize("moves", [False, True])
def test_a_model_with_adapters_is_its_own_reference(moves):
    pytest.importorskip("peft", reason="adapters need peft")
    from mdlm_llada.lora import apply_lora

    from .test_lora import adapted, model, states, trained

    plain = model()
    subject = adapted()
    reference = Reference(subject, moves=moves)
    assert list(reference.parameters()) == []
    trained(subject)
    own = states(subject)
    assert not torch.equal(own, states(plain))
    with reference.of(subject.train()) as before:
        assert torch.equal(states(before), states(plain))
    assert torch.equal(states(subject), own)
    learned = {n for n, p in subject.named_parameters() if p.requires_grad}
    assert learned
    assert all("lora_" in name for name in learned)
    if moves:
        reference.follow(subject)
        with reference.of(subject) as now:
            assert torch.equal(states(now), own)
    with global_seed(Noise(0)):
        apply_lora(model(), LoraConfig(), outside=True)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_with_adapters_resume_exactly(kind, whole, sets, tmp_path):
    pytest.importorskip("peft", reason="adapters need peft")
    more = (*sets[kind], f"model.path={whole / 'vrpo'}", "model.lora.rank=2")
    run(tmp_path / "a", kind, *more)
    run(tmp_path / "b", kind, *more, "train.steps=3")
    run(tmp_path / "b", kind, *more, resume=True)
    one, other = tensors(tmp_path / "a"), tensors(tmp_path / "b")
    assert all(
        "lora_" in n or n.startswith(("rollouts.", "reference.kept_")) for n in one
    )
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# ---- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("grpo", "data.repeats=2", r"inner_steps is 4, but the data give each batch 2"),
        ("grpo", "data.name=llada-preferences", "has no task to give rewards"),
        ("grpo", "model.family=llada2", "sees blocks of itself"),
        ("grpo", "data.task=humaneval", "are programs"),
        ("grpo", "masking.name=atat", "hides all tokens alike"),
        ("vrpo", "masking.name=atat", "hides all tokens alike"),
    ],
)
def test_what_does_not_go_together_is_refused(kind, change, message, file):
    if "atat" in change:
        pytest.importorskip("mdlm_atat", reason="a masking policy of another plugin")
    catalog = load_catalog()
    config = settings(kind, change)
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    source = prompts.build(PromptsConfig(rows=4, held_out=1))
    with pytest.raises(ConfigError, match=message):
        task.build(source)


def test_rewards_under_deepspeed_are_refused_before_an_answer_is_written(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    catalog, config = load_catalog(), settings("grpo")
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    source = prompts.build(PromptsConfig(rows=4, held_out=1))
    with pytest.raises(ConfigError, match="use DDP or FSDP2"):
        task.build(source)


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (GRPOConfig, {"temperature": 0.0}, "all answers to a prompt are the same"),
        (GRPOConfig, {"steps": 7}, "multiple of the 2 blocks"),
        (GRPOConfig, {"partial": 1.5}, r"task\.partial is 1\.5"),
        (VRPOConfig, {"mirror": True, "draws": 3}, "set an even number"),
    ],
)
def test_settings_are_checked(config, values, message):
    with pytest.raises(ConfigError, match=message):
        config(**values)


class _Task:
    name, runs_code = "toy", False

    def __init__(self, reward):
        self.value = reward

    def reward(self, text, example):
        return self.value

    def correct(self, text, example):
        return self.value == 1


def judge(monkeypatch, reward=1.0, answer="abcd", partial=0.0):
    class Source:
        def examples(self, split):
            return [Example("7", "prompt", answer, "gold")]

    monkeypatch.setattr(
        "mdlm_llada.preference.rewards.get_task", lambda name: _Task(reward)
    )
    return Judge(Source(), "toy", partial=partial)


def test_a_share_of_the_reward_is_for_likeness(monkeypatch):
    subject = judge(monkeypatch, partial=0.25)
    assert subject.reward("train", 0, "abcd") == 1
    assert subject.reward("train", 0, "ab") == pytest.approx(0.75 + 0.25 * 2 * 2 / 6)
    assert subject.reward("train", 0, "xy") == 0.75
    assert judge(monkeypatch).reward("train", 0, "ab") == 1


def test_rewards_that_say_nothing_are_refused(monkeypatch):
    with pytest.raises(DataError, match="gives example '7' the reward nan"):
        judge(monkeypatch, reward=float("nan")).reward("train", 0, "a")
    with pytest.raises(DataError, match="no written-out answer"):
        judge(monkeypatch, answer="", partial=0.5).reward("train", 0, "a")
    blind = judge(monkeypatch)
    blind.source = object()
    with pytest.raises(ConfigError, match="do not say what a right answer is"):
        blind.reward("train", 0, "a")
