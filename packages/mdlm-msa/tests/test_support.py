"""Further rows, which the profile alone sees: who gets them, and who never does."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import encode
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.data.source import MSASource
from mdlm_msa.evaluation.held_out import evaluate_model, split_rows
from mdlm_msa.layout import rows_of
from mdlm_msa.scoring.shown import Shown

from .family_toys import relatives
from .generation_toys import ROWS, Context, write


def beside(batch: Batch, row: int) -> list[list[int]]:
    """Return the further rows of a canvas, without padding."""
    more = batch.condition.get("support")
    if more is None:
        return []
    assert batch.positions is not None
    columns = int(batch.positions[row, :, 0].max())
    return [ids for ids in more[row, :, :columns].tolist() if any(ids)]


def on_canvas(batch: Batch, row: int) -> list[list[int]]:
    """Return the rows of a canvas, the query first."""
    assert batch.positions is not None
    columns = int(batch.positions[row, :, 0].max())
    found: list[list[int]] = rows_of(
        batch.tokens[row][~batch.pad[row]], columns
    ).tolist()
    return found


@pytest.mark.parametrize("prompt_rows", [-1, 1])
def test_a_source_takes_them_from_rows_not_on_the_canvas(prompt_rows: int) -> None:
    config = AlignmentsConfig(
        length=70,
        rows=3,
        support=12,
        prompt_rows=prompt_rows,
        hold_out=("family-2",),
        requery=0.0,
    )
    made = MSASource.from_alignments(
        [relatives(24, 16, i, name=f"family-{i}") for i in range(4)], config
    )
    counts = set()
    for split in ("train", "validation"):
        for batch in islice(made.batches(split, size=4, seed=0), 60):
            for b in range(len(batch)):
                rows, more = on_canvas(batch, b), beside(batch, b)
                counts.add(len(more))
                (family,) = (
                    f
                    for f in made.families.values()
                    if f.alignment.rows[0].tolist() == rows[0]
                )
                shown = family.held_out_rows if family.whole else family.train_rows
                known = family.alignment.rows[shown].tolist()
                assert all(row in known for row in more)
                assert not any(row in rows for row in more)
    assert {0, 12} <= counts <= set(range(13))


def test_generation_shows_and_scores_with_them() -> None:
    model = Context()
    found = write(model=model, rows=2, together=2, prompt=2, support=2, draws=2)
    known = [encode(text).tolist() for text in ROWS[1:]]
    assert model.seen
    for batch in model.seen:  # while rows are written, and while they are scored
        for b in range(len(batch)):
            more = beside(batch, b)
            assert len(more) == 2
            assert all(row in known for row in more)
            assert not any(row in on_canvas(batch, b)[:3] for row in more)
    (told,) = set(found.shown.values())
    assert len(told) == len(set(told)) == 4  # two on the canvas, two beside it
    plain = Context()
    write(model=plain, rows=2, together=2, prompt=2, draws=2)
    assert not any("support" in batch.condition for batch in plain.seen)


def test_a_row_is_never_beside_itself_when_it_is_scored() -> None:
    rows = np.stack([encode(text) for text in ROWS[1:]])
    shown = Shown(encode(ROWS[0]), rows[:1], support=rows[1:])
    for row in rows:
        target = shown.target(row)
        assert target.support is not None
        assert row.tolist() not in target.support.tolist()
        assert row.tolist() not in target.given[1:].tolist()
    assert len(shown.target(encode(ROWS[0])).support) == 4  # type: ignore[arg-type]


def test_measuring_shows_all_training_rows_but_the_prompts() -> None:
    family = split_rows(relatives(24, 20), Noise(2))
    model = Context()
    evaluate_model(
        model, {"a": family}, ks=(0, 3), draws=1, rows=3, noise=Noise(0), support=True
    )
    train = family.alignment.rows[family.train_rows].tolist()
    seen = set()
    for batch in model.seen:
        for b in range(len(batch)):
            prompts = on_canvas(batch, b)[1:-1]
            seen.add(len(prompts))
            more = beside(batch, b)
            assert sorted(more + prompts) == sorted(train)
    assert seen == {0, 3}
