"""The transformer that is told a persona: zero at the start, one null, no leaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.nn.dit import DiT
from mdlm_personality.conditions import as_condition
from mdlm_personality.nn.personality_dit import PersonalityDiT

from .persona_toys import (
    MASK,
    V,
    disturbed,
    null,
    toy_batch,
    toy_config,
    toy_model,
    under,
    without,
)


def plain_with_weights_of(model: PersonalityDiT) -> DiT:
    """Return a `DiT` that has those weights of `model` that it knows."""
    config = toy_config()
    names = ("blocks", "width", "heads", "cond_width", "dropout")
    plain = DiT(
        DiTConfig(**{name: getattr(config, name) for name in names}),
        vocab_size=V,
        mask_id=MASK,
        length=6,
    )
    theirs = model.state_dict()
    plain.load_state_dict({name: theirs[name] for name in plain.state_dict()})
    return plain


def randomised(model: PersonalityDiT) -> PersonalityDiT:
    """Give the weights that a `DiT` has too random values, and leave the others."""
    own = {id(p) for part in new_parts(model) for p in part.parameters()}
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if id(parameter) not in own:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def new_parts(model: PersonalityDiT) -> list[nn.Module]:
    return [
        model.persona,
        model.conditioner,
        *(
            getattr(block, name)
            for block in model.blocks
            for name in ("persona_q", "persona_kv", "persona_out")
        ),
    ]


def logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    states = model.hidden(batch)
    return model.logits(states.flatten(0, 1)).detach()


def test_at_the_start_logits_are_the_plain_model_s_to_the_bit() -> None:
    model = randomised(toy_model())
    batch = toy_batch()
    plain = plain_with_weights_of(model)
    expected = logits(plain, batch)
    assert expected.std() > 0.1
    assert logits(model, replace(batch, condition={})).equal(expected)
    # With personas every row has norms of its own, which is other arithmetic; so the
    # plain model is asked for the same.
    assert logits(model, batch) == pytest.approx(expected, abs=1e-4)
    plain.conditioning = lambda batch, t: DiT.conditioning(plain, batch, t).expand(
        len(batch), -1
    )
    expected = logits(plain, batch)
    assert logits(model, batch).equal(expected)
    assert logits(model, null(batch)).equal(expected)


def test_a_persona_changes_what_a_trained_model_says() -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    said = logits(model, batch)
    other = under(batch, as_condition((0.9, 0.1, 0.5, 0.5, 0.5)))
    assert not said.allclose(logits(model, other), atol=1e-3)
    assert not said.allclose(logits(model, null(batch)), atol=1e-3)


@pytest.mark.parametrize("part", ["vector", "tokens"])
def test_both_paths_carry_the_persona(part: str) -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    with torch.no_grad():
        if part == "vector":
            for block in model.blocks:
                block.persona_out.weight.zero_()
        else:
            model.conditioner.to_vector.weight.zero_()
    assert not logits(model, batch).allclose(logits(model, null(batch)), atol=1e-4)


def test_there_is_one_null() -> None:
    """A row of which nothing is known is the same whatever its values are."""
    model = disturbed(toy_model())
    batch = toy_batch()
    expected = logits(model, null(batch))
    untold = logits(model, replace(batch, condition={}))
    assert untold == pytest.approx(expected, abs=1e-4)
    values = torch.full_like(batch.condition["traits"], 0.0)
    known = torch.zeros_like(batch.condition["known"])
    zeros = replace(batch, condition={"traits": values, "known": known})
    assert logits(model, zeros).equal(expected)
    # A person with the lowest scores is a person.
    lowest = replace(batch, condition={"traits": values, "known": ~known})
    assert not logits(model, lowest).allclose(expected, atol=1e-3)


def test_hidden_columns_are_not_read() -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    values = batch.condition["traits"].clone()
    values[:, 2] = 123.0
    changed = replace(batch, condition={**batch.condition, "traits": values})
    hidden = logits(model, without(batch, 2))
    assert hidden.equal(logits(model, without(changed, 2)))
    assert not logits(model, batch).allclose(logits(model, changed), atol=1e-3)


def test_nodes_may_be_given_instead_of_columns() -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    told = batch.condition
    z = model.persona.complete(told["traits"], told["known"]).detach()
    direct = {"persona": z, "known": told["known"]}
    assert logits(model, replace(batch, condition=direct)).equal(logits(model, batch))
    by_node = {"persona": z, "known": model.persona.by_node(told["known"])}
    assert logits(model, replace(batch, condition=by_node)).equal(logits(model, batch))


def test_rows_do_not_see_each_other_s_persona() -> None:
    model = disturbed(toy_model())
    batch = toy_batch()
    whole = logits(model, batch).view(3, 6, V)
    for row in range(3):
        alone = logits(model, batch.select(slice(row, row + 1)))
        assert alone == pytest.approx(whole[row], abs=1e-5)


def test_a_model_of_the_time_is_told_time_and_persona() -> None:
    model = disturbed(toy_model(time_conditioned=True))
    batch = toy_batch()

    def said(batch: Batch, t: float) -> torch.Tensor:
        hidden = model.hidden(batch, torch.full((3,), t))
        return model.logits(hidden.flatten(0, 1)).detach()

    assert not said(batch, 0.2).allclose(said(batch, 0.8), atol=1e-3)
    assert not said(batch, 0.2).allclose(said(null(batch), 0.2), atol=1e-3)


def test_the_model_sees_which_columns_are_known() -> None:
    """A value that is observed is not the same as one that is only expected."""
    model = disturbed(toy_model())
    batch = toy_batch()
    z = model.persona.complete(*(batch.condition[n] for n in ("traits", "known")))
    known = batch.condition["known"].clone()
    known[:, 3] = False
    told = {"persona": z.detach(), "known": batch.condition["known"]}
    some = {"persona": z.detach(), "known": known}
    first = logits(model, replace(batch, condition=told))
    assert not first.allclose(logits(model, replace(batch, condition=some)), atol=1e-3)
