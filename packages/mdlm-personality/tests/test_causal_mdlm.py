"""The original's model class and data loaders, over what does the work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import CheckpointError, UnknownNameError, UsageError
from mdlm_core.train import train
from mdlm_personality import CausalMDLM, MDLMPANDORADataset, create_mdlm_dataloaders
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.generation.writing import Manner, generate
from mdlm_personality.original import PersonalityDiT, PersonalityDiTBlock

PERSONALITY = torch.tensor([[0.8, 0.6, 0.7, 0.9, 0.3]])
L = 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of five steps, whose weights are then made to matter."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    catalog = load_catalog()
    config = resolve(catalog, plugin="personality", tiny=True).config
    train(config, out=folder, device="cpu", catalog=catalog)
    model = CausalMDLM.from_pretrained(folder, device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.backbone.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return model.save_pretrained(folder.parent / "model")


@pytest.fixture(scope="module")
def model(run: Path) -> CausalMDLM:
    return CausalMDLM.from_pretrained(run, device="cpu")


def test_the_example_of_the_description(run: Path) -> None:
    model = CausalMDLM.load_from_checkpoint(run / "best_model.pt", device="cpu")
    assert model.eval() is model
    ids = model.generate(PERSONALITY, seq_len=L, guidance_scale=2.0)
    assert ids.shape == (1, L)
    other = model.generate(
        PERSONALITY, seq_len=L, intervention_dim=2, intervention_value=0.2
    )
    assert other.shape == (1, L)
    assert len(model.decode(other)) == 1
    assert isinstance(model.decode(ids)[0], str)


def test_it_is_what_generation_writes(model: CausalMDLM) -> None:
    manner = Manner.of(model.trained, steps=9)
    expected = generate(
        model.trained,
        PERSONALITY,
        do={"extraversion": 0.2},
        length=L,
        seed=4,
        guidance=GuidanceConfig(scale=3.0),
        manner=manner,
    ).tokens
    found = [
        model.generate(PERSONALITY, L, 3.0, dim, 0.2, 9, seed=4)
        for dim in (2, "extraversion", "e")
    ]
    for ids in found:
        assert torch.equal(ids, expected)
    plain = model.generate(PERSONALITY, L, 3.0, num_steps=9, seed=4)
    assert not torch.equal(plain, expected)


def test_several_personas_and_unknown_traits(model: CausalMDLM) -> None:
    people = [[0.8, None, None, 0.9, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]]
    both = model.generate(people, L, seed=1)
    assert both.shape == (2, L)
    assert torch.equal(model.generate([people[0]], L, seed=1), both[:1])


def test_the_predictor_is_a_sampler(model: CausalMDLM) -> None:
    sampling = model.mdlm.config.sampling
    before, steps = sampling.predictor, sampling.steps
    written = {}
    for name in ("ddpm", "ddpm_cache", "analytic", "confidence"):
        sampling.predictor = name
        assert sampling.predictor == name
        written[name] = model.generate(PERSONALITY, L, num_steps=16)
        assert torch.equal(
            written[name],
            generate(
                model.trained,
                PERSONALITY,
                length=L,
                guidance=GuidanceConfig(scale=2.0),
                manner=Manner.of(model.trained, name=name, steps=16),
            ).tokens,
        )
    assert torch.equal(written["ddpm"], written["ddpm_cache"])
    assert not torch.equal(written["ddpm"], written["confidence"])
    with pytest.raises(UnknownNameError, match="did you mean 'analytic'"):
        sampling.predictor = "analitic"
    sampling.predictor, sampling.steps = before, 16
    assert torch.equal(model.generate(PERSONALITY, L), written["ddpm"])
    sampling.steps = steps
    with pytest.raises(UsageError, match=r"sampling\.steps is 0"):
        sampling.steps = 0


def test_a_counterfactual_with_the_value_that_is_there_is_the_same_text(
    model: CausalMDLM,
) -> None:
    same = model.counterfactual(PERSONALITY, "extraversion", 0.7, L)
    assert torch.equal(same.factual.tokens, same.counterfactual.tokens)
    other = model.counterfactual(PERSONALITY, 2, 0.0, L)
    assert torch.equal(other.factual.tokens, same.factual.tokens)
    assert not torch.equal(other.counterfactual.tokens, same.factual.tokens)


def test_long_texts(model: CausalMDLM) -> None:
    window = model.trained.length
    long = model.generate_sar(PERSONALITY, 2 * window + 3, stride_length=window // 2)
    assert long.shape == (1, 2 * window + 3)
    assert torch.equal(
        long, model.generate_sar(PERSONALITY, total_length=2 * window + 3)
    )


def test_what_is_wrong_is_named(model: CausalMDLM, run: Path) -> None:
    with pytest.raises(UsageError, match="go together"):
        model.generate(PERSONALITY, L, intervention_dim=2)
    with pytest.raises(UsageError, match="nodes are 0 to 63, the first five"):
        model.generate(PERSONALITY, L, intervention_dim=64, intervention_value=0.1)
    with pytest.raises(UsageError, match=r"extraversion is 1\.5; a trait is a number"):
        model.generate(PERSONALITY, L, intervention_dim=2, intervention_value=1.5)
    with pytest.raises(UnknownNameError, match="extraversion"):
        model.generate(PERSONALITY, L, intervention_dim="extrav", intervention_value=0)
    with pytest.raises(UsageError, match=r"openness is 80"):
        model.generate(100 * PERSONALITY, L)
    with pytest.raises(UsageError, match="5 traits"):
        model.generate(PERSONALITY[:, :3], L)
    with pytest.raises(UsageError, match="is no run, and is in none"):
        CausalMDLM.from_pretrained(run.parent / "none")
    with pytest.raises(CheckpointError, match="no checkpoint of step 7"):
        CausalMDLM.from_pretrained(run / "checkpoints" / "step-00000007")
    with pytest.raises(UsageError, match="is not empty"):
        model.save_pretrained(run)


def test_weights_are_saved_as_they_are(model: CausalMDLM, tmp_path: Path) -> None:
    again = CausalMDLM.from_pretrained(
        model.save_pretrained(tmp_path / "copy"), device="cpu"
    )
    assert torch.equal(again.generate(PERSONALITY, L), model.generate(PERSONALITY, L))
    for name, weight in model.mdlm.backbone.state_dict().items():
        assert torch.equal(again.mdlm.backbone.state_dict()[name], weight), name


def test_the_model_is_a_module_of_blocks(model: CausalMDLM) -> None:
    assert isinstance(model, nn.Module)
    assert isinstance(model.mdlm.backbone, PersonalityDiT)
    assert isinstance(model.mdlm.backbone.blocks[0], PersonalityDiTBlock)
    assert model.mdlm.backbone is model.backbone
    assert model.persona is model.backbone.persona
    assert model.device.type == "cpu"


# ---- data loaders ------------------------------------------------------------------

FEW = {"authors": 30, "sentences": 6, "tokenizer": "byte"}


def test_items_are_rows_of_the_source() -> None:
    rows = MDLMPANDORADataset(max_length=48, **FEW)
    item = rows[0]
    assert set(item) == {"input_ids", "attention_mask", "personality", "known"}
    assert item["input_ids"].shape == item["attention_mask"].shape == (48,)
    assert item["personality"].shape == item["known"].shape == (5,)
    assert torch.equal(rows[-1]["input_ids"], rows[len(rows) - 1]["input_ids"])
    with pytest.raises(IndexError):
        rows[len(rows)]
    every = {tuple(rows[i]["input_ids"].tolist()) for i in range(len(rows))}
    batch = next(rows.source.batches("train", size=len(rows), seed=0))
    assert every == {tuple(row) for row in batch.tokens.tolist()}


def test_no_author_is_in_two_splits() -> None:
    train_rows = MDLMPANDORADataset(max_length=48, **FEW)
    held_out = MDLMPANDORADataset(split="validation", source=train_rows.source)
    people = [
        {tuple(rows[i]["personality"].tolist()) for i in range(len(rows))}
        for rows in (train_rows, held_out)
    ]
    assert not people[0] & people[1]


def test_loaders_shuffle_anew_and_mark_padding() -> None:
    training, validation = create_mdlm_dataloaders(batch_size=4, max_length=48, **FEW)
    first, second = list(training), list(training)
    assert len(first) == len(training) == len(second)
    assert all(batch["input_ids"].shape == (4, 48) for batch in first)
    assert not torch.equal(first[0]["input_ids"], second[0]["input_ids"])
    held_out = list(validation)
    assert len(held_out) == len(validation)
    together = torch.cat([batch["attention_mask"] for batch in held_out])
    assert set(together.unique().tolist()) == {0, 1}
    assert (together.diff(dim=1) <= 0).all()  # padding is at the end
    with pytest.raises(UsageError, match="training rows"):
        create_mdlm_dataloaders(batch_size=10_000, max_length=48, **FEW)


def test_texts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    head = "author,text,openness,conscientiousness,extraversion,agreeableness,"
    lines = [f"a{i},text number {i},0.{i % 10},0.2,,0.4,0.5" for i in range(60)]
    path.write_text("\n".join([head + "neuroticism", *lines]) + "\n")
    rows = MDLMPANDORADataset(path, max_length=32, tokenizer="byte")
    known = rows[0]["known"].tolist()
    assert known == [True, True, False, True, True]
    assert rows[0]["personality"][2] == 0
    assert rows[0]["attention_mask"].sum() < 32


def test_training_mode_does_not_change_what_is_written(model: CausalMDLM) -> None:
    expected = model.generate(PERSONALITY, L)
    config = model.backbone.config
    for block in model.backbone.blocks:
        block.dropout = 0.5
    model.train()
    try:
        assert torch.equal(model.generate(PERSONALITY, L), expected)
    finally:
        model.eval()
        for block in model.backbone.blocks:
            block.dropout = replace(config).dropout
