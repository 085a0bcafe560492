"""What is shown beside the query, and how many rows a report speaks of."""

from __future__ import annotations

import numpy as np

from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import encode
from mdlm_msa.scoring.report import RowReport
from mdlm_msa.scoring.rows import score_rows
from mdlm_msa.scoring.shown import Shown, show

from .score_toys import ColumnLaws

NOISE = Noise(0)


def alignment(*rows: str) -> Alignment:
    ids = np.stack([encode(row) for row in rows])
    return Alignment(rows=ids, headers=tuple(rows), name="toy")


def test_neither_the_query_again_nor_a_row_of_gaps_is_shown() -> None:
    prompt = alignment("ACDX", "ACDX", "----", "WCDX", "X---", "ACDA")
    shown = show(
        alignment("ACDX"),
        prompt,
        count=16,
        select="top",
        length=400,
        noise=NOISE,
    )
    assert shown.prompt.tolist() == prompt.rows[[3, 5]].tolist()
    # the query alone is shown if there is nothing else
    nothing = alignment("ACDX", "ACDX")
    shown = show(nothing, nothing, count=9, select="maxmin", length=400, noise=NOISE)
    assert shown.prompt.shape == (0, 4)


def test_homologues_without_a_score_are_not_counted() -> None:
    for homologues, said in (
        (["ACDW", "--X-", "AWDW"], "2 homologues: 4.322"),
        (["ACDW", "--X-"], "1 homologue: 4.322"),
        (["--X-"], None),
    ):
        source = alignment("ACDE", *homologues)
        shown = Shown(source.rows[0], source.rows[:0])
        targets = [shown.target(row) for row in source.rows]
        model = ColumnLaws(np.full((4, 21), 1 / 21))
        report = RowReport(
            alignment=source,
            rows=np.arange(source.depth),
            targets=targets,
            scores=score_rows(model, targets, draws=2, noise=NOISE),
            gaps="given",
            draws=2,
        )
        assert report.card()["homologues"]["rows"] == len(homologues) - 1
        text = report.text()
        assert "nothing to score" in text
        assert said in text if said else "homologue" not in text
