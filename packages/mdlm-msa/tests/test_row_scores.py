"""Bits of rows: against enumeration, closed forms, and each other."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GAP, STATE_OF, encode
from mdlm_msa.laws import nats, pssm
from mdlm_msa.scoring.report import RowReport, entropy
from mdlm_msa.scoring.rows import Target, laws_alone, score_rows
from mdlm_msa.scoring.shown import Shown, show

from .score_toys import ColumnLaws, JointLaw, random_laws

QUERY = encode("ACDEFGHIKL")
NOISE = Noise(3)


def rows(*texts: str) -> np.ndarray:
    return np.stack([encode(text) for text in texts])


def test_uniform_law_costs_log2_20_bits_without_error() -> None:
    model = ColumnLaws(np.full((10, 21), 1 / 21))
    targets = [Target(row, QUERY[None]) for row in rows("ACDE-GHIKL", "LLLLLLLLL-")]
    found = score_rows(model, targets, draws=4, noise=NOISE)
    assert found.count.tolist() == [9, 9]
    assert found.per_residue == pytest.approx(math.log2(20), abs=1e-6)
    assert found.se == pytest.approx(0, abs=1e-6)
    with_gaps = score_rows(model, targets, draws=4, noise=NOISE, gaps="scored")
    assert with_gaps.count.tolist() == [10, 10]
    assert with_gaps.per_residue == pytest.approx(math.log2(21), abs=1e-6)


def test_laws_of_columns_add_up_within_the_error() -> None:
    laws = random_laws(10)
    model = ColumnLaws(laws)
    texts = rows("ACDE-GHIKL", "WYVACDEFGH", "-----GHIKL")
    found = score_rows(
        model, [Target(row, QUERY[None]) for row in texts], draws=400, noise=NOISE
    )
    residues = laws[:, :20] / laws[:, :20].sum(1, keepdims=True)
    for row, bits, se in zip(texts, found.bits, found.se, strict=True):
        place = np.flatnonzero(row != GAP)
        exact = -np.log2(residues[place, STATE_OF[row[place]]]).sum()
        assert abs(bits - exact) < 4 * se
        assert se < 0.1 * exact


def test_bound_of_a_joint_law_is_the_mean_over_orders() -> None:
    joint = np.random.default_rng(1).dirichlet(np.full(8, 0.3)).reshape(2, 2, 2)
    letters = (int(encode("A")[0]), int(encode("W")[0]))
    model = JointLaw(joint, letters)
    row = rows("AWA")[0]
    exact = np.mean(
        [
            -sum(math.log2(model.conditional(*_before(row, order, i))[_of(row, j)])
                 for i, j in enumerate(order))
            for order in permutations(range(3))
        ]
    )  # fmt: skip
    chain = -math.log2(joint[0, 1, 0])
    assert exact == pytest.approx(chain)  # the exact posterior is consistent
    query = encode("DDD")[None]
    found = score_rows(model, [Target(row, query)], draws=300, noise=NOISE)
    assert abs(found.bits[0] - exact) < 4 * found.se[0]
    assert found.per_position[0].sum() == pytest.approx(found.bits[0])
    alone = laws_alone(model, Target(row, query), [1])[0]
    law = model.conditional([int(row[0]), 36, int(row[2])], 1)
    assert 2 ** alone[STATE_OF[list(letters)]] == pytest.approx(law, abs=1e-6)
    assert entropy(alone) == pytest.approx(-(law * np.log2(law)).sum(), abs=1e-5)


def _before(row: np.ndarray, order: tuple[int, ...], i: int) -> tuple[list[int], int]:
    seen = [36] * len(row)
    for j in order[:i]:
        seen[j] = int(row[j])
    return seen, order[i]


def _of(row: np.ndarray, column: int) -> int:
    return int(row[column] != row[0])


def test_errors_are_those_that_repeated_measurements_show() -> None:
    model = ColumnLaws(random_laws(10))
    targets = [Target(QUERY, QUERY[None])] * 200  # the masks of each are its own
    found = score_rows(model, targets, draws=8, noise=NOISE, batch=50)
    spread = found.bits.std()
    assert np.sqrt((found.se**2).mean()) == pytest.approx(spread, rel=0.35)
    errors = np.sqrt((found.per_position_se**2).mean(0))
    ratio = errors / found.per_position.std(0)
    assert 0.8 < np.median(ratio) < 1.6


def test_score_depends_on_nothing_else_that_is_scored() -> None:
    model = ColumnLaws(random_laws(10))
    texts = rows("ACDE-GHIKL", "WYVACDEFGH", "X----GHIKL", "----------")
    targets = [Target(row, QUERY[None].repeat(1 + i, 0)) for i, row in enumerate(texts)]
    one = score_rows(model, targets, draws=4, noise=NOISE, batch=1)
    four = score_rows(model, targets, draws=4, noise=NOISE, batch=4)
    assert np.array_equal(one.bits, four.bits)
    assert np.array_equal(one.per_position, four.per_position, equal_nan=True)
    assert one.count.tolist() == [9, 10, 5, 0]  # X is never scored
    assert np.isnan(one.per_position[2, 0])
    assert np.isnan(one.per_residue[3])
    assert one.bits[3] == 0
    assert one.given.tolist() == [1, 2, 3, 4]


def test_common_masks_take_away_what_rows_share() -> None:
    model = ColumnLaws(np.tile(random_laws(1), (10, 1)))
    targets = [Target(row, QUERY[None]) for row in rows("ACDEFGHIKL", "LACDEFGHIK")]
    found = score_rows(model, targets, draws=6, noise=NOISE, ids=[0, 0])
    apart = score_rows(model, targets, draws=6, noise=NOISE)
    hidden = ~np.isclose(found.per_position, 0)
    assert np.array_equal(hidden[0], hidden[1])
    assert not np.isclose(apart.bits, found.bits).all()


def test_mean_over_rows_is_a_ratio_of_sums() -> None:
    model = ColumnLaws(random_laws(10))
    targets = [
        Target(row, QUERY[None])
        for row in rows("ACDE-GHIKL", "WYVACDEFGH", "-----GHIKL", "----------")
    ]
    found = score_rows(model, targets, draws=4, noise=NOISE)
    rate, error = found.mean()
    assert rate == pytest.approx(found.bits.sum() / found.count.sum())
    assert error > 0
    which = np.array([False, False, True, False])
    assert found.mean(which)[1] == pytest.approx(found.se[2] / found.count[2])
    assert math.isnan(found.mean(np.zeros(4, bool))[0])


def test_row_is_never_shown_to_itself() -> None:
    prompt = rows("ACDEFGHIKL", "WCDEFGHIKL", "WWWEFGHIKL")
    shown = Shown(QUERY, prompt)
    assert len(shown.target(prompt[1]).given) == 3  # the query and two others
    assert not (shown.target(prompt[1]).given == prompt[1]).all(1).any()
    alone = shown.target(QUERY, is_query=True).given
    assert np.array_equal(alone, prompt[1:])
    assert len(Shown(QUERY, prompt, 0.85).target(prompt[1]).given) == 2
    nothing = Shown(QUERY, prompt[:0]).target(QUERY, is_query=True)
    found = score_rows(
        ColumnLaws(np.full((10, 21), 1 / 21)), [nothing], draws=2, noise=NOISE
    )
    assert found.given.tolist() == [0]
    assert found.per_residue == pytest.approx(math.log2(20), abs=1e-6)


def test_prompt_is_of_the_same_query_and_fits() -> None:
    alignment = _alignment(QUERY[None])
    prompt = _alignment(rows("ACDEFGHIKL", "WCDEFGHIKL", "WWWEFGHIKL"))
    settings = {"count": 16, "select": "top", "length": 400, "noise": NOISE}
    assert len(show(alignment, prompt, **settings).prompt) == 2
    assert len(show(alignment, prompt, **{**settings, "count": 1}).prompt) == 1
    assert len(show(alignment, None, **settings).prompt) == 0
    # 400 tokens hold 36 rows, 37 hold 3: the query, one of the prompt, the row
    assert len(show(alignment, prompt, **{**settings, "length": 37}).prompt) == 1
    with pytest.raises(UsageError, match=r"10 residues.*24 tokens.*--length 24"):
        show(alignment, prompt, **{**settings, "length": 20})
    with pytest.raises(DataError, match=r"has K in column 1.* A; "):
        show(alignment, _alignment(rows("KCDEFGHIKL")), **settings)
    with pytest.raises(DataError, match="has 3 residues"):
        show(alignment, _alignment(rows("ACD")), **settings)


def test_rows_of_several_lengths_are_refused() -> None:
    model = ColumnLaws(random_laws(10))
    with pytest.raises(UsageError, match=r"\[9, 10\]"):
        score_rows(
            model,
            [Target(QUERY, QUERY[None]), Target(QUERY[:9], QUERY[None, :9])],
            noise=NOISE,
        )


def test_report_says_what_simple_laws_cost() -> None:
    texts = rows("ACDEFGHIKL", "ACDE-GHIKW", "WYVACDEFGH")
    alignment = _alignment(texts)
    shown = Shown(QUERY, texts[1:])
    targets = [shown.target(row, is_query=i == 0) for i, row in enumerate(texts)]
    model = ColumnLaws(np.full((10, 21), 1 / 21))
    scores = score_rows(model, targets, draws=2, noise=NOISE)
    report = RowReport(
        alignment=alignment,
        rows=np.arange(3),
        targets=targets,
        scores=scores,
        gaps="given",
        draws=2,
        alone=[
            laws_alone(model, target, np.flatnonzero(target.row != GAP).tolist())
            for target in targets
        ],
    )
    names = list(report.baselines())
    assert names == ["background", "BLOSUM62 given the query", "PSSM of the rows shown"]
    assert 3.5 < report.baselines()["background"] < 5.5
    first, second = (
        nats(pssm(STATE_OF[target.given]), STATE_OF[target.row[None]])
        for target in targets[1:]
    )  # each homologue given the query and the other
    bits = (first[0] + second[0]) / (first[1] + second[1]) / math.log(2)
    assert report.baselines()["PSSM of the rows shown"] == pytest.approx(bits[0])
    card = report.card()
    assert card["homologues"]["rows"] == 2
    assert card["homologues"]["bits_per_residue"] == pytest.approx(math.log2(20))
    assert [line["given"] for line in card["rows"]] == [2, 2, 2]
    assert report.csv().splitlines()[2].startswith("2,row 1,9,2,4.32193,")
    places = report.csv(positions=True).splitlines()
    assert places[0] == "row,name,column,letter,bits,se,alone,entropy,hidden"
    assert len(places) == 1 + 10 + 9 + 10
    assert ",4.32193,4.32193," in places[-1]  # alone, and its entropy
    assert "2 homologues: 4.322" in report.text()
    assert "(the query)" in report.text()


def _alignment(matrix: np.ndarray) -> Alignment:
    return Alignment(
        rows=matrix, headers=tuple(f"row {i}" for i in range(len(matrix))), name="toy"
    )


def test_time_that_a_model_sees_is_that_of_one_hidden_token() -> None:
    class Clock(ColumnLaws):
        def hidden(self, batch: object, t: torch.Tensor) -> torch.Tensor:
            times.extend(t.tolist())
            return super().hidden(batch, t)

    times: list[float] = []
    model = Clock(random_laws(10))
    row = encode("AC-EFXHIKL")
    laws_alone(model, Target(row, QUERY[None]), [0, 1], batch=2)
    assert times == pytest.approx([2 / 9] * 2)  # itself and X, of 9
