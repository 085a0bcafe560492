"""The guided law against its formula, its limits, and its cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampler
from mdlm_core.samplers.ancestral import ancestral
from mdlm_core.samplers.confidence import confidence
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.guidance import Guidance, mixture, strength
from mdlm_core.samplers.semi_autoregressive import semi_autoregressive

V, MASK = 7, 6


class Told(nn.Module):
    """Logits that are a function of the condition, the position and the neighbours."""

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, impossible: int | None = None) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, V, generator=generator(0)))
        self.impossible = impossible

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        told = batch.condition["which"]  # (B,)
        states = self.table[told][:, None] * (1 + batch.tokens[..., None] / 10)
        place = torch.arange(batch.length)[None, :, None] * torch.arange(V) / 5
        states = states + place
        if self.impossible is not None:
            never = torch.zeros(len(batch), 1, V)
            never[told == 0, :, self.impossible] = -torch.inf
            states = states + never
        return states

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def canvas(rows: int = 3, length: int = 4) -> Batch:
    tokens = torch.full((rows, length), MASK)
    return Batch.of(tokens, condition={"which": torch.ones(rows, dtype=torch.int64)})


def own(batch: Batch) -> Batch:
    return batch


def other(batch: Batch) -> Batch:
    return replace(
        batch, condition={"which": torch.zeros_like(batch.condition["which"])}
    )


def law(denoiser: Denoiser, batch: Batch, t: Tensor | None = None) -> Tensor:
    where = denoiser.masked(batch)
    return torch.cat(list(denoiser.laws(batch, where, t))).detach()


def guided(model: Told, *weights: float, **settings: object) -> Guidance:
    return Guidance(model, views=(own, other), weights=weights, **settings)


def test_the_law_is_the_weighted_product_of_both() -> None:
    model, batch = Told(), canvas()
    c = law(Denoiser(model), batch).exp().double()
    u = law(Denoiser(model), other(batch)).exp().double()
    powers = c**2.5 * torch.where(u > 0, u, 1) ** (1 - 2.5)
    expected = powers / powers.sum(-1, keepdim=True)
    found = law(guided(model, 2.5, -1.5), batch).exp().double()
    assert found == pytest.approx(expected, abs=1e-6)
    assert (found[:, MASK] == 0).all()


def test_strengths_of_one_and_zero_are_the_two_laws_to_the_bit() -> None:
    model, batch = Told(), canvas()
    assert law(guided(model, 1.0, 0.0), batch).equal(law(Denoiser(model), batch))
    assert law(guided(model, 0.0, 1.0), batch).equal(law(Denoiser(model), other(batch)))


@pytest.mark.parametrize("g", [0.5, 1.0, 3.0])
def test_what_one_view_forbids_is_impossible_and_nothing_is_nan(g: float) -> None:
    model = Told(impossible=2)  # under the other view
    found = law(guided(model, g, 1 - g, banned=(4,)), canvas())
    assert not found.isnan().any()
    assert (found[:, [4, MASK]] == -torch.inf).all()
    assert (found[:, 2] == -torch.inf).all() == (g != 1)
    assert found.exp().sum(-1) == pytest.approx(1.0, abs=1e-5)


def test_a_law_of_weight_zero_forbids_nothing() -> None:
    laws = [torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, 1.0]]).log()]
    found = mixture(laws, torch.tensor([[1.0, 0.0]])).exp()
    assert found == pytest.approx(torch.tensor([[0.5, 0.5]]))


def test_the_cost_is_counted() -> None:
    model, batch = Told(), canvas()
    denoiser = guided(model, 2.0, -1.0)
    sampled = ancestral(
        denoiser, batch, schedule=LogLinear(0.0), noise=Noise(0), steps=8
    )
    plain = ancestral(
        Denoiser(model), batch, schedule=LogLinear(0.0), noise=Noise(0), steps=8
    )
    assert denoiser.passes == 2
    assert sampled.nfe.tolist() == (2 * plain.nfe).tolist()
    assert denoiser.count.rows == int(sampled.nfe.sum())
    assert denoiser.count.head_rows == 2 * batch.tokens.numel()


def test_a_strength_that_changes_follows_each_row_s_time() -> None:
    model, batch = Told(), canvas()
    t = torch.tensor([1.0, 0.5, 0.1])

    def weights(t: Tensor) -> Tensor:
        g = strength(3.0, t, schedule="linear")
        return torch.stack([g, 1 - g], 1)

    changing = Guidance(model, views=(own, other), weights=weights)
    found = law(changing, batch, t).view(3, 4, V)
    for row, g in enumerate((1.0, 2.0, 2.8)):
        expected = law(guided(model, g, 1 - g), batch).view(3, 4, V)[row]
        assert found[row].exp() == pytest.approx(expected.exp(), abs=1e-6)
    batch.tokens[0, :3] = 1  # one position is left in the first row
    found = law(changing, batch, t)[-4:]
    expected = law(guided(model, 2.8, -1.8), batch)[-4:]
    assert found.exp() == pytest.approx(expected.exp(), abs=1e-6)
    assert len(law(changing, batch, t)) == 9
    with pytest.raises(UsageError, match="changes with the time"):
        list(changing.laws_of(torch.zeros(2, 2 * V)))


def test_without_a_time_the_canvas_tells_it() -> None:
    model, batch = Told(), canvas(rows=1)
    batch.tokens[0, :2] = 1  # half is masked
    seen = []

    def weights(t: Tensor) -> Tensor:
        seen.append(t)
        return torch.ones(len(t), 2)

    law(Guidance(model, views=(own, other), weights=weights), batch)
    assert seen[0].tolist() == [0.5]


def test_schedules_of_strength() -> None:
    t = torch.tensor([0.0, 0.25, 0.6, 1.0])
    assert strength(3.0, t).tolist() == [3, 3, 3, 3]
    assert strength(3.0, t, schedule="linear").tolist() == pytest.approx(
        [3.0, 2.5, 1.8, 1.0], abs=1e-6
    )
    found = strength(3.0, t, schedule="interval", interval=(0.2, 0.5))
    assert found.tolist() == [1, 3, 1, 1]


def test_weights_must_go_with_views() -> None:
    with pytest.raises(UsageError, match="1 weights for 2 views"):
        guided(Told(), 1.0)
    with pytest.raises(UsageError, match="not 0"):
        guided(Told(), 0.0, 0.0)


@pytest.mark.parametrize("inner", [ancestral, confidence])
def test_in_blocks_the_time_is_that_of_the_whole_canvas(inner: Sampler) -> None:
    """A strength that grows over a text does not begin anew in each block."""
    seen: list[float] = []

    def weights(t: Tensor) -> Tensor:
        seen.extend(t.tolist())
        return torch.stack([1 + t, -t], 1)

    semi_autoregressive(
        Guidance(Told(), views=(own, other), weights=weights),
        canvas(rows=1, length=6),
        schedule=LogLinear(0.0),
        noise=Noise(0),
        steps=60,
        block=2,
        inner=inner,
    )
    assert seen == sorted(seen, reverse=True)
    for time in seen:
        assert time * 6 == pytest.approx(round(time * 6), abs=1e-4)
    assert seen[0] == pytest.approx(1.0)
    plain = guided(Told(), 2.0, -1.0)
    assert not plain.reads_time


def test_every_view_has_its_rows_own_times() -> None:
    class Timed(Told):
        time_conditioned = True

        def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
            assert t is not None
            return super().hidden(batch) * (1 + t.to(torch.float32))[:, None, None]

    rows, t = canvas(), torch.tensor([0.1, 0.5, 0.9])
    where = torch.ones_like(rows.tokens, dtype=torch.bool)
    backbone = Timed()
    both = Guidance(backbone, views=[own, own], weights=[2.0, -1.0])
    plain = Denoiser(backbone).states(rows, where, t)
    assert both.states(rows, where, t).equal(torch.cat([plain, plain], -1))
