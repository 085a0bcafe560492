"""The profile of visible rows, against numpy written out, and the model on top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_msa import layout
from mdlm_msa.alphabet import ID_OF_STATE, MASK, STATES, encode
from mdlm_msa.config import ProteinDiTConfig
from mdlm_msa.nn.profile import GAP_RATE, start
from mdlm_msa.nn.protein_dit import ProteinDiT, build
from mdlm_msa.substitution import background, conditional

SIZES = {"blocks": 2, "width": 32, "heads": 2, "cond_width": 16}


def model(*, kappa: float | None = None, **settings: object) -> ProteinDiT:
    with global_seed(Noise(0)):
        made = build(
            ProteinDiTConfig(**{**SIZES, **settings}),  # type: ignore[arg-type]
            vocab_size=37,
            mask_id=MASK,
            length=64,
        )
    if kappa is not None and made.profile is not None:
        with torch.no_grad():
            made.profile.log_kappa.fill_(np.log(max(kappa, 1e-30)) / 10)
    return made.eval()


def canvas(*rows: str, given: int = 1) -> Batch:
    made = np.stack([encode(row.replace("?", "-")) for row in rows])
    hidden = np.stack([np.frombuffer(row.encode(), np.uint8) for row in rows])
    made[hidden == ord("?")] = MASK
    return layout.batch([layout.Canvas(made, given)])


def law_at(made: ProteinDiT, batch: Batch, row: int, column: int) -> torch.Tensor:
    """Return the probabilities of the states, renormalised, at a place."""
    columns = int(batch.positions[0, :, 0].max())  # type: ignore[index]
    index = layout.place(row, columns) + column
    with torch.no_grad():
        logits = made.logits(made.hidden(batch)[0, index][None])[0]
    return logits[torch.from_numpy(ID_OF_STATE).long()].softmax(-1).double()


def states(row: str) -> list[int]:
    return [20 if letter == "-" else int(encode(letter)[0]) - 1 for letter in row]


def written_out(
    rows: list[str], target: str, column: int, *, kappa: float, beta: float = 10.0
) -> np.ndarray:
    """Return the law of a hidden place, by loops over rows and columns."""
    p, table = (part.double().numpy() for part in start())
    likeness = []
    for row in rows:
        total = 0.0
        for mine, theirs in zip(target, row, strict=True):
            if mine != "?":
                a, b = states(mine)[0], states(theirs)[0]
                total += np.log(table[b, a] / p[a])
        likeness.append(kappa * total)
    weights = np.exp(np.array(likeness) - max(likeness))
    weights = 0.99 * weights / weights.sum() + 0.01 / len(rows)
    f = np.zeros(STATES)
    for weight, row in zip(weights, rows, strict=True):
        f[states(row[column])[0]] += weight
    n = weights.sum() ** 2 / (weights**2).sum()
    law = ((n - 1) * f + beta * f @ table) / (n - 1 + beta)
    return law / law.sum()


@pytest.mark.parametrize("kappa", [0.0, 0.3])
def test_a_new_model_is_the_profile_of_the_other_rows(kappa: float) -> None:
    rows, target = ["LAGVSE", "LAGISD", "MAG-SE", "FRGVTK"], "LA??S?"
    made, batch = model(kappa=kappa), canvas(*rows, target, given=4)
    for column in (2, 3, 5):
        expected = written_out(rows, target, column, kappa=kappa)
        found = law_at(made, batch, 4, column).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_with_the_query_alone_it_is_blosum62() -> None:
    made, batch = model(), canvas("LAGVSE", "??????")
    for column, letter in enumerate("LAGVSE"):
        law = law_at(made, batch, 1, column).numpy()
        assert law[20] == pytest.approx(GAP_RATE, abs=1e-4)
        expected = conditional()[states(letter)[0]]
        np.testing.assert_allclose(law[:20] / law[:20].sum(), expected, atol=1e-4)


def test_without_a_visible_row_it_is_the_background() -> None:
    law = law_at(model(), canvas("XXX", "???"), 1, 1).numpy()
    np.testing.assert_allclose(law[:20] / law[:20].sum(), background(), atol=1e-6)


def test_a_row_says_nothing_about_itself() -> None:
    made = model()
    one = law_at(made, canvas("LAG", "?WW"), 1, 0)
    two = law_at(made, canvas("LAG", "?AA"), 1, 0)
    assert torch.allclose(one, two)  # one other row: its weight is 1 in any case


def test_rows_like_the_one_to_restore_count_more() -> None:
    rows = ["WWWWWW", "LAGVSE", "CCCCCC"]
    made, batch = model(kappa=0.3), canvas(*rows, "LAGVS?", given=3)
    law = law_at(made, batch, 3, 5)
    assert law[states("E")[0]] > 2 * law[states("W")[0]]
    flat = law_at(model(kappa=0.0), batch, 3, 5)
    assert law[states("E")[0]] > 1.5 * flat[states("E")[0]]


def test_rows_beside_the_canvas_say_what_they_would_say_on_it() -> None:
    rows, target = ["LAGVSE", "LAGISD", "MAG-SE", "FRGVTK"], "LA??S?"
    made, batch = model(kappa=0.3), canvas(*rows, target, given=4)
    ids = [encode(row) for row in rows]
    free = np.where(encode(target.replace("?", "-")) == 27, MASK, encode("LAGGSG"))
    other = layout.Canvas(np.stack([*ids[:2], encode("LAGVSE")[:6]])[:, :4], 1)
    beside = layout.batch(
        [
            layout.Canvas(
                np.stack([*ids[:2], free.astype(np.uint8)]), 2, np.stack(ids[2:])
            ),
            other,  # shorter, and without further rows
        ]
    )
    for column in (2, 3, 5):
        one = law_at(made, batch, 4, column)
        two = law_at(made, beside, 2, column)
        assert torch.allclose(one, two, atol=1e-6)
        alone = law_at(made, canvas(*rows[:2], target, given=2), 2, column)
        assert not torch.allclose(one, alone, atol=1e-3)
    plain = layout.batch([other])
    with torch.no_grad():
        first = made.hidden(beside)[1, : plain.length]
        assert torch.allclose(first, made.hidden(plain)[0], atol=1e-5)
    walled = replace(beside, documents=torch.zeros_like(beside.tokens))
    with pytest.raises(UsageError, match="which document"):
        made.hidden(walled)


def test_a_family_has_a_prior_for_each_column() -> None:
    laws = torch.rand(3, STATES, generator=torch.Generator().manual_seed(0)) + 0.1
    laws = laws / laws.sum(-1, keepdim=True)
    made = model(columns=3, pseudocount=1e7)
    made.set_columns(torch.from_numpy(encode("LAG")), laws)
    batch = canvas("LAG", "???")
    for column in range(3):
        found = law_at(made, batch, 1, column)
        np.testing.assert_allclose(found.numpy(), laws[column].numpy(), atol=1e-5)
    with pytest.raises(UsageError, match=r"model\.columns=5"):
        made.set_columns(torch.ones(5), torch.ones(5, STATES))
    with pytest.raises(UsageError, match=r"model\.columns=3"):
        model().set_columns(torch.ones(3), laws)


def test_a_model_of_a_family_takes_no_other_query() -> None:
    made = model(columns=3)
    law = torch.full((3, STATES), 1 / STATES)
    made.set_columns(torch.from_numpy(encode("LAG")), law)
    made.hidden(canvas("LAG", "?-G", "W?G"))
    for other in (("LAV", "???"), ("LA", "??"), ("LAGV", "????")):
        with pytest.raises(UsageError, match="that of the query 'LAG'"):
            made.hidden(canvas(*other))
    both = [layout.Canvas(np.stack([encode(r)] * 2), 1) for r in ("LAG", "LAGV")]
    with pytest.raises(UsageError, match="3 columns"):
        made.hidden(layout.batch(both))


def moved(made: ProteinDiT) -> ProteinDiT:
    """Return the model with weights that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if not name.startswith("profile"):
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(0.2 * noise / max(weight.shape) ** 0.5)
    return made


@pytest.mark.parametrize("axis", [0, 1])
def test_only_differences_of_columns_and_of_rows_count(axis: int) -> None:
    made = moved(model(profile=False))
    batch = canvas("LAGVSE", "LA?VSE", "?AGISE")
    far = batch.positions.clone()  # type: ignore[union-attr]
    far[..., axis] += 7
    with torch.no_grad():
        here = made.hidden(batch)
        there = made.hidden(Batch.of(batch.tokens, frozen=batch.frozen, positions=far))
        far[..., axis] *= 2
        other = made.hidden(Batch.of(batch.tokens, frozen=batch.frozen, positions=far))
    assert torch.allclose(here, there, atol=1e-5)
    assert not torch.allclose(here, other, atol=1e-3)


def test_rows_may_come_in_any_order_for_the_profile() -> None:
    made = model(kappa=0.3)
    one = law_at(made, canvas("LAGVSE", "LAGISD", "MAG-SE", "LA??S?", given=3), 3, 2)
    two = law_at(made, canvas("LAGVSE", "MAG-SE", "LAGISD", "LA??S?", given=3), 3, 2)
    assert torch.allclose(one, two, atol=1e-6)


def test_every_part_of_the_profile_learns() -> None:
    made = model().train()
    batch = canvas("LAGVSE", "LAGISD", "MAG-SE", "LA??S?", given=3)
    batch = Batch.of(batch.tokens, positions=batch.positions)
    states_at = made.hidden(batch)[0, batch.tokens[0] == MASK]
    made.logits(states_at).log_softmax(-1)[:, 5].sum().backward()  # type: ignore[no-untyped-call]
    profile = made.profile
    assert profile is not None
    for name in ("background", "substitution", "log_beta", "log_kappa"):
        gradient = getattr(profile, name).grad
        assert gradient is not None
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().sum()) > 0, name


def test_padding_changes_nothing() -> None:
    made = moved(model())
    rows = np.stack([encode("LAGVSE"), encode("LAG-SE")])
    rows[1, 2] = MASK
    alone = layout.batch([layout.Canvas(rows, 1)])
    long = np.stack([encode("LAGVSEWWWW")] * 3)
    both = layout.batch([layout.Canvas(rows, 1), layout.Canvas(long, 1)])
    with torch.no_grad():
        one, two = made.hidden(alone)[0], made.hidden(both)[0, : alone.length]
    assert torch.allclose(one, two, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="37 ids"):
        build(ProteinDiTConfig(**SIZES), vocab_size=36, mask_id=35, length=8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="four times"):
        ProteinDiTConfig(width=30, heads=5)
