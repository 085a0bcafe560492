"""Runs of the stages: in turn, resumed, from a plain model, from a table."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.train import load_run
from mdlm_core.train.checkpoint import EMA, MODEL, checkpoints, read_tensors
from mdlm_core.train.start import train
from mdlm_personality.causal_diffusion import CausalDiffusion
from mdlm_personality.saved import load

STAGES = ("model.encoder=beta-vae", "task.encoder_share=0.3", "task.causal_share=0.3")
FAST = ("task.eval_rows=4", "task.sample_count=0", "train.warmup=0")
CORPUS = ("data.authors=24",)


def trained(out: Path, *sets: str, plugin: str = "personality", **more: object) -> Path:
    own = () if "data.name=persona-text" in sets else CORPUS
    found = resolve(load_catalog(), plugin=plugin, sets=[*FAST, *own, *sets], tiny=True)
    train(found.config, out=out, **more)  # type: ignore[arg-type]
    return out


def weights(run: Path, *, averaged: bool = False) -> dict[str, torch.Tensor]:
    last = checkpoints(run / "checkpoints")[-1]
    return read_tensors(last, MODEL) | (read_tensors(last, EMA) if averaged else {})


def persona(run: Path, *, averaged: bool = False) -> dict[str, torch.Tensor]:
    every = weights(run, averaged=averaged)
    return {name: value for name, value in every.items() if ".persona." in name}


def test_a_run_of_all_stages_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped in every stage, and ends as one that is not.

    The optimiser is one that does not make steps of rounding errors.
    """
    sets = (*STAGES, "train.steps=10", "train.optimizer=adamw", "train.adam_eps=1e-2")
    whole = trained(tmp_path / "whole", *sets)
    advance, stops = CausalDiffusion.advance, {1, 4, 7}

    def stopping(self: CausalDiffusion, step: int, steps: int) -> None:
        advance(self, step, steps)
        if step in stops:
            stops.remove(step)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(CausalDiffusion, "advance", stopping)
    for number in range(4):
        parted = trained(tmp_path / "parted", *sets, resume=number > 0)
        assert len(stops) == max(0, 2 - number)
    expected, found = weights(whole), weights(parted)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value.double(), atol=1e-5), name


def test_stages_as_runs_of_their_own(tmp_path: Path) -> None:
    encoder = ("model.encoder=beta-vae", "train.steps=3")
    first = trained(tmp_path / "1", *encoder, "task.stage=1")
    second = trained(
        tmp_path / "2", *encoder, "task.stage=2", f"task.persona_from={first}"
    )
    third = trained(
        tmp_path / "3",
        *encoder,
        "task.stage=3",
        f"task.persona_from={second}",
        "task.freeze=true",
    )
    learned = persona(first, averaged=True)
    for name, value in persona(second).items():
        if ".encoder." in name:
            assert value.equal(learned[name])  # stage 2 leaves it as it is
    layer = "backbone.persona.layer.weight"
    assert not persona(second)[layer].equal(learned[layer])
    expected = persona(second, averaged=True)
    assert all(v.equal(expected[name]) for name, v in persona(third).items())
    for sets, told in (
        (["data.labels=false"], "same labels"),
        (["model.structure=dagma"], r"model\.structure=tiered"),
        (["model.mechanism=mask"], "do not fit"),
    ):
        with pytest.raises(CheckpointError, match=told):
            trained(tmp_path / "4", *encoder, *sets, f"task.persona_from={second}")


def test_a_plain_model_goes_on_as_it_is(tmp_path: Path) -> None:
    """At step 0 the model computes what the run that it begins with does."""
    shape = (
        "model.name=dit",
        *(f"model.{k}=2" for k in ("blocks", "heads")),
        "model.width=32",
        "model.cond_width=16",
        "task.name=pretrain",
        "train.steps=4",
        "data.length=32",
    )
    found = resolve(
        load_catalog(),
        sets=[
            "data.name=persona-corpus",
            "data.authors=24",
            "data.tokenizer=bpe:400",
            *shape,
        ],
    )
    train(found.config, out=tmp_path / "plain")
    same = (
        f"data.tokenizer={tmp_path / 'plain' / 'tokenizer'}",
        f"task.warm_start={tmp_path / 'plain'}",
    )
    with pytest.raises(CheckpointError, match=r"'blocks\.0\.local.*'"):
        trained(tmp_path / "other", *same, "model.blocks=2")
    run = trained(
        tmp_path / "told",
        *same,
        "model.blocks=2",
        "model.conv_kernel=7",
        "train.steps=1",
        "train.eval_start=true",
        "train.keep_last=9",
    )
    plain = load_run(tmp_path / "plain").backbone
    told = load(run, device="cpu", checkpoint=0, weights="raw").backbone
    tokens = torch.arange(32)[None] % plain.mask_id
    batch = Batch.of(tokens)
    with torch.no_grad():
        expected = plain.logits(plain.hidden(batch)[0])
        assert expected.std() > 1e-3
        assert told.logits(told.hidden(batch)[0]).equal(expected)


def table(path: Path, label: str = "wellness") -> Path:
    """Write texts of persons with a label."""
    head = "text,openness,conscientiousness,extraversion,agreeableness,neuroticism"
    rows = [f"a b c,0.{i},0.5,0.{9 - i},0.4,0.{(3 * i) % 10},{i}" for i in range(10)]
    path.write_text("\n".join([f"{head},{label}", *rows * 6]) + "\n")
    return path


def persons(path: Path, label: str = "wellness", tier: str = "beliefs") -> list[str]:
    return [
        "data.name=persona-text",
        f"data.path={path}",
        "data.tokenizer=byte",
        "data.holdout=0.3",
        "train.batch_size=4",
        "train.steps=2",
        *([f'data.labels={{"{label}": "{tier}"}}'] if label else []),
    ]


def test_labels_of_another_run_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    wellness, calm = table(tmp_path / "w.csv"), table(tmp_path / "c.csv", "calm")
    first = trained(tmp_path / "1", *persons(wellness), "task.stage=2")
    begin = f"task.warm_start={first}"
    trained(tmp_path / "2", *persons(wellness), begin)
    for other in (persons(calm, "calm"), persons(wellness, tier="actions")):
        with pytest.raises(CheckpointError, match="same tiers"):
            trained(tmp_path / "3", *other, begin)
    # Texts without the label go on with a persona that knows it.
    scale = "backbone.persona.mean"
    run = trained(
        tmp_path / "4",
        *persons(calm, ""),
        'model.labels={"wellness": "beliefs"}',
        f"task.persona_from={first}",
    )
    assert weights(run)[scale].equal(weights(first)[scale])
    bare = trained(
        tmp_path / "5", *persons(calm, ""), 'model.labels={"wellness": "beliefs"}'
    )
    assert weights(bare)[scale][5] == 0.5
    assert weights(bare)[scale][:5] == pytest.approx(weights(first)[scale][:5])


def test_a_search_that_is_not_over_is_loaded_as_what_it_found(tmp_path: Path) -> None:
    """Its checkpoints have cycles, and one of them may be the best."""
    own = ("model.structure=dagma", "task.stage=2", "train.steps=5")
    run = trained(
        tmp_path / "run", *own, "train.eval_every=1", "train.save_every=1",
        "train.keep_last=9",
    )  # fmt: skip
    told: list[str] = []
    early = load(run, device="cpu", checkpoint=1, say=told.append)
    assert early.persona.layer.acyclic
    assert "the search was not over" in told[0]
    z = early.persona.complete(torch.zeros(1, 5), torch.ones(1, 5) > 0)
    early.persona.counterfactual(z, {"extraversion": 0.2})
    kept = load(run, device="cpu", checkpoint=1, settled=False)
    assert not kept.persona.layer.acyclic
    told.clear()
    assert load(run, device="cpu", checkpoint=5, say=told.append).persona.layer.acyclic
    assert not told
    # A further run goes on searching.
    more = trained(tmp_path / "more", *own, f"task.persona_from={run}", "train.steps=1")
    assert (more / "checkpoints").is_dir()


def test_a_run_without_personas_is_refused(tmp_path: Path) -> None:
    sets = ["data.name=persona-corpus", "data.authors=24", "train.steps=1"]
    train(resolve(load_catalog(), sets=sets, tiny=True).config, out=tmp_path / "plain")
    with pytest.raises(UsageError, match="knows no personas"):
        load(tmp_path / "plain", device="cpu")


def test_a_table_without_texts_teaches_the_causal_layer(tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    head = "openness,conscientiousness,extraversion,agreeableness,neuroticism,wellness"
    rows = [f"0.{i},0.5,0.{9 - i},0.4,0.{(3 * i) % 10},{i}" for i in range(1, 10)]
    table.write_text("\n".join([head, *rows * 6]) + "\n")
    run = trained(
        tmp_path / "run",
        "data.name=persona-text",
        f"data.path={table}",
        'data.labels={"wellness": "beliefs"}',
        "data.tokenizer=byte",
        "data.holdout=0.3",
        "task.stage=2",
        "train.steps=3",
        "train.batch_size=4",
    )
    assert load(run, device="cpu").persona.columns[-1] == "wellness"
    assert '"nats_per_row"' in (run / "metrics.jsonl").read_text()


def test_what_is_measured_has_the_null_beside_it(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "train.steps=2")
    lines = (run / "metrics.jsonl").read_text()
    assert '"unconditional"' in lines
    assert '"columns"' in lines


def test_edges_that_nobody_looked_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"looks for edges in stage 2"):
        trained(tmp_path / "run", "model.structure=dagma", "task.stage=3")
