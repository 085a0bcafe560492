"""Canvases of families: which rows they hold, in which numbers, and what is held out.

Letters: B canvases, N rows of a canvas, R rows of a family, L columns.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.alphabet import GMASK, MASK, SEPARATOR, SOP, Ids, decode, encode
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.data.canvases import Shapes, window
from mdlm_msa.data.division import divide, hold_out_rows, rules_of
from mdlm_msa.data.family import Family
from mdlm_msa.data.source import MSASource, build, by_size
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.formats.writing import write_alignment
from mdlm_msa.identity import identity_pair
from mdlm_msa.layout import rows_of
from mdlm_msa.weights import neff

from .family_toys import REAL, aligned, relatives


@dataclass
class Seen:
    """One canvas of a batch."""

    rows: Ids
    given: list[bool]
    sample: int


def canvases(batches: Iterable[Batch]) -> list[Seen]:
    """Take batches apart, and check what holds for every canvas."""
    found = []
    for batch in batches:
        for b in range(len(batch)):
            there = ~batch.pad[b]
            assert batch.positions is not None
            columns = int(batch.positions[b, :, 0].max())
            tokens = batch.tokens[b][there]
            rows = rows_of(tokens, columns)
            frozen = batch.frozen[b][there]
            assert tokens[0] == GMASK
            assert tokens[1] == SOP
            assert tokens[-1] == SEPARATOR
            assert frozen[[0, 1, -1]].all()
            inner = frozen[1:-1].view(len(rows), columns + 1)
            assert inner[:, 0].all()  # separators
            assert inner[0].all()  # the query
            given = inner[:, 1:].all(1).tolist()
            assert given == sorted(given, reverse=True)  # free rows come last
            assert not given[-1]
            found.append(Seen(rows, given, int(batch.sample_id[b])))
    return found


def train(source: MSASource, count: int, size: int = 8, seed: int = 0) -> list[Seen]:
    return canvases(islice(source.batches("train", size=size, seed=seed), count))


def many(count: int = 6, rows: int = 40, columns: int = 20) -> list[Alignment]:
    return [relatives(rows, columns, seed=i, name=f"family-{i}") for i in range(count)]


def source_of(alignments: list[Alignment], **settings: Any) -> MSASource:
    given = {"filter": "none", "length": 400, "rows": 10, **settings}
    return MSASource.from_alignments(
        alignments, AlignmentsConfig(**{"requery": 0.0, **given})
    )


# ---- training -----------------------------------------------------------------


def test_a_canvas_is_the_query_and_homologues_of_one_family() -> None:
    source = source_of(many(), holdout=0.2)
    by_query = {f.alignment.query: f for f in source.families.values()}
    for seen in train(source, 20):
        family = by_query[decode(seen.rows[0])]
        assert not family.whole
        known = Counter(map(bytes, family.train))
        assert not Counter(map(bytes, seen.rows[1:])) - known  # each row once
        assert 2 <= len(seen.rows) <= 10


def test_nothing_held_out_is_trained_on() -> None:
    source = source_of(many(), holdout=0.2, holdout_rows=0.2, max_identity=0.5)
    held = {bytes(r) for f in source.families.values() for r in f.held_out}
    assert held
    for seen in train(source, 60):
        assert not held & set(map(bytes, seen.rows[1:]))


def test_numbers_of_rows_and_of_given_rows() -> None:
    """All depths alike; nothing given for half, then any number that leaves a row."""
    source = source_of(many(), epoch=2000, holdout=0.2)
    seen = train(source, 250)
    depth = Counter(len(s.rows) - 1 for s in seen)
    assert sorted(depth) == list(range(1, 10))
    assert chisquare([depth[m] for m in range(1, 10)]).pvalue > 1e-3
    alone = sum(sum(s.given) == 1 for s in seen)
    half = sum(0.5 + 0.5 / (len(s.rows) - 1) for s in seen)
    assert abs(alone - half) < 4 * 0.5 * len(seen) ** 0.5
    prompts = Counter(sum(s.given) - 1 for s in seen if len(s.rows) == 7)
    total = sum(prompts.values())
    chance = [0.5 + 0.5 / 6, *[0.5 / 6] * 5]  # of 6 homologues 0 to 5 are given
    expected = np.array(chance) * total
    assert chisquare([prompts[k] for k in range(6)], expected).pvalue > 1e-3


def test_a_fixed_number_of_given_rows() -> None:
    source = source_of(many(), prompt_rows=4, holdout=0.2)
    for seen in train(source, 20):
        assert sum(seen.given) == 5
        assert len(seen.rows) >= 6
    small = source_of(many(rows=4), prompt_rows=4, holdout=0.2)
    for seen in train(small, 8):  # 3 homologues: 2 given, so that a row is left
        assert sum(seen.given) == 3
        assert len(seen.rows) == 4


def test_rows_of_a_canvas_are_in_no_order() -> None:
    source = source_of(many(count=2, rows=30), epoch=400, holdout=0.5)
    home = next(f for f in source.families.values() if not f.whole)
    number = {bytes(row): r for r, row in enumerate(home.alignment.rows)}
    rising = 0
    pairs = 0
    for seen in train(source, 50):
        places = [number[bytes(row)] for row in seen.rows[1:]]
        rising += sum(a < b for a, b in pairwise(places))
        pairs += len(places) - 1
    assert abs(rising / pairs - 0.5) < 4 * 0.5 / pairs**0.5


def test_epochs_draw_anew_and_batches_are_of_one_size() -> None:
    source = source_of(many(), epoch=64, holdout=0.2)
    seen = train(source, 16)
    first, second = seen[:64], seen[64:]
    assert sorted(s.sample for s in first) == sorted(s.sample for s in second)
    one = {s.sample: s.rows.tobytes() for s in first}
    assert sum(one[s.sample] == s.rows.tobytes() for s in second) < 8
    padding = [
        float(batch.pad.double().mean())
        for batch in islice(source.batches("train", size=8, seed=0), 8)
    ]
    assert np.mean(padding) < 0.15  # about 0.4 in a drawn order


def test_batches_by_size_hold_each_canvas_once() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(10, 500, 100)
    order = rng.permutation(100)[:96]
    found = by_size(sizes, order, 4, seed=0, epoch=1)
    assert sorted(np.concatenate(found).tolist()) == sorted(order.tolist())
    assert {len(batch) for batch in found} == {4}
    spread = np.mean([np.ptp(sizes[batch]) for batch in found])
    assert spread < 100 < np.mean([np.ptp(sizes[order[i : i + 4]]) for i in range(90)])
    again = by_size(sizes, order, 4, seed=0, epoch=2)
    assert [b.tolist() for b in found] != [b.tolist() for b in again]


@pytest.mark.parametrize("weighting", ["uniform", "rows", "neff"])
def test_chance_of_a_family(weighting: Any) -> None:
    deep = relatives(200, 20, seed=1, change=0.08, name="alike")
    alignments = [deep, relatives(50, 20, seed=2, name="b"), relatives(9, 20, name="c")]
    source = source_of(
        [*alignments, relatives(5, 20, seed=7, name="held")],
        weighting=weighting,
        hold_out=("held",),
        epoch=1200,
    )
    seen = Counter(decode(s.rows[0]) for s in train(source, 150))
    rows = [np.unique(a.rows[1:], axis=0) for a in alignments]
    trained = [source.families[a.name].alignment for a in alignments]
    sizes = {
        "uniform": [1.0, 1.0, 1.0],
        "rows": [len(r) ** 0.5 for r in rows],
        "neff": [neff(a.states) ** 0.5 for a in trained],
    }[weighting]
    expected = 1200 * np.array(sizes) / sum(sizes)
    found = np.array([seen[a.query] for a in alignments])
    # One row of 200 more or less, the query, and less than a canvas of each.
    assert abs(found - expected).max() < 2 + 0.03 * 1200


def test_an_epoch_uses_an_average_row_once() -> None:
    source = source_of(many(count=4, rows=200), holdout=0.25)
    used = sum(
        len(s.rows) - 1
        for s in canvases(
            islice(source.batches("train", size=1, seed=0), source.size("train"))
        )
    )
    rows = sum(len(f.train_rows) for f in source.families.values())
    assert used == pytest.approx(rows, rel=0.15)
    assert source_of(many(count=2, rows=3), holdout=0.5).size("train") == 64
    assert source_of(many(count=2), epoch=5, holdout=0.5).size("train") == 5


@pytest.mark.parametrize("select", ["random", "top", "maxmin", "weighted", "cluster"])
def test_every_selection_gives_canvases(select: Any) -> None:
    source = source_of(many(count=3), select=select, holdout=0.3)
    seen = train(source, 4)
    again = train(source, 4)
    assert [s.rows.tobytes() for s in seen] == [s.rows.tobytes() for s in again]
    if select == "top":
        by_query = {f.alignment.query: f for f in source.families.values()}
        for s in seen:
            best = by_query[decode(s.rows[0])].alignment.rows[1 : len(s.rows)]
            assert sorted(map(bytes, s.rows[1:])) == sorted(map(bytes, best))


def test_x_of_a_free_row_is_hidden_and_not_scored() -> None:
    family = aligned("ACDEFGHIKL", *["ACDEXGHIK-"] * 2, "XXDEFGHIKW", name="a")
    source = source_of([family, relatives(5, 10, name="b")], hold_out=("b",))
    for batch in islice(source.batches("train", size=4, seed=0), 8):
        hidden = batch.tokens == MASK
        assert batch.frozen[hidden].all()
        assert (hidden.sum(1) > 0).any()


# ---- long queries -------------------------------------------------------------


def test_a_long_query_is_cut_to_a_window_that_moves() -> None:
    """34 tokens hold two rows of 15 columns: 2 (15 + 1) + 2."""
    source = source_of(many(columns=40), length=34, epoch=160, holdout=0.2)
    texts = {f.alignment.query: f for f in source.families.values()}
    starts = Counter()
    for seen in train(source, 20):
        assert seen.rows.shape == (2, 15)
        part = decode(seen.rows[0])
        home = next(f for query, f in texts.items() if part in query)
        start = home.alignment.query.index(part)
        starts[start] += 1
        there = {bytes(r) for r in home.train[:, start : start + 15]}
        assert bytes(seen.rows[1]) in there
    assert len(starts) > 15


def test_rows_without_a_residue_in_the_window_are_not_used() -> None:
    """One row covers the last columns only, the other one the first only."""
    query = "ACDEFGHIKLMNPQRSTVWY" * 2
    family = aligned(query, "-" * 35 + "WWWWW", "WWWWW" + "-" * 35, name="a")
    home = Family.of(family)
    everything = np.arange(40)
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(300):
        columns, among = window(home, home.train_rows, everything, 10, rng)
        assert columns.tolist() == list(range(columns[0], columns[0] + 10))
        assert len(among)
        part = family.is_residue[np.ix_(among, columns)]
        assert part.any(1).all()
        seen[tuple(among.tolist())] += 1
    assert set(seen) == {(1,), (2,)}
    columns, among = window(home, home.train_rows, everything, 40, rng)
    assert columns.tolist() == everything.tolist()
    assert among.tolist() == [1, 2]


def test_another_row_may_stand_for_the_query() -> None:
    """Then the canvas has its columns, and it is not among the homologues."""
    rows = ["ACDEFGHIKL", "AC--FGHIKW", "ACDEFG---V", "--------KL"]
    made = source_of(
        [aligned(*rows, name="a"), aligned("WWWWWWW", "WWAWWWW", name="b")],
        hold_out=("b",),
        filter="none",
        requery=1.0,
        epoch=64,
    )
    queries: Counter[str] = Counter()
    for batch in islice(made.batches("train", size=8, seed=0), 16):
        for b in range(len(batch)):
            tokens = batch.tokens[b][~batch.pad[b]]
            columns = int(batch.positions[b, :, 0].max())
            found = [decode(row) for row in rows_of(tokens, columns)]
            query = found[0]
            queries[query] += 1
            assert "-" not in query
            place = [row.replace("-", "") for row in rows].index(query)
            kept = [i for i, letter in enumerate(rows[place]) if letter != "-"]
            others = {"".join(row[i] for i in kept) for row in rows[1:]}
            assert set(found[1:]) <= others
            assert query not in found[1:]
    # The last row has too few columns: the query itself stands in for it.
    assert set(queries) == {"ACDEFGHIKL", "ACFGHIKW", "ACDEFGV"}


def test_shapes_fit_the_canvas() -> None:
    for length in (8, 9, 33, 100, 1000):
        for columns in (1, 2, 3, 7, 40, 2000):
            config = AlignmentsConfig(length=length, rows=12)
            family = Family.of(relatives(30, columns))
            shapes = Shapes([family], [29], config)
            assert shapes.most[0] >= 1
            full = int(shapes.sizes(np.array([0]), shapes.most[:1])[0])
            assert full <= length
            width = int(shapes.width[0])
            assert width == columns or 2 * (columns + 1) + 2 > length


# ---- what is measured ---------------------------------------------------------


def test_every_held_out_row_is_measured_once() -> None:
    source = source_of(
        many(), holdout=0.3, holdout_rows=0.2, max_identity=0.9, length=150
    )
    by_query = {f.alignment.query: f for f in source.families.values()}
    free: dict[str, Counter[bytes]] = {name: Counter() for name in source.families}
    for batch_size in (1, 7):
        for name in free:
            free[name].clear()
        seen = canvases(source.batches("validation", size=batch_size, seed=0))
        assert [s.sample for s in seen] == list(range(source.size("validation")))
        for s in seen:
            family = by_query[decode(s.rows[0])]
            here = [bytes(r) for r, g in zip(s.rows, s.given, strict=True) if not g]
            prompts = [
                bytes(r) for r, g in zip(s.rows[1:], s.given[1:], strict=True) if g
            ]
            free[family.name].update(here)
            allowed = family.held_out if family.whole else family.train
            assert set(prompts) <= set(map(bytes, allowed))
            assert not set(prompts) & set(here)
        for name, family in source.families.items():
            assert free[name] == Counter(map(bytes, family.held_out))
    assert any(f.whole for f in source.families.values())
    assert any(not f.whole and len(f.held_out) for f in source.families.values())


def test_measured_canvases_have_prompts_and_none() -> None:
    source = source_of(many(), holdout=0.3, length=230)
    given = Counter(
        sum(s.given) > 1 for s in canvases(source.batches("validation", size=4, seed=0))
    )
    assert given[True] > 3
    assert given[False] > 3
    fixed = source_of(many(), holdout=0.3, prompt_rows=3)
    for s in canvases(fixed.batches("validation", size=4, seed=0)):
        assert sum(s.given) == 4


def test_long_queries_are_measured_in_windows() -> None:
    source = source_of(many(columns=60), holdout=0.3, length=50)
    seen = canvases(source.batches("validation", size=4, seed=0))
    assert {s.rows.shape[1] for s in seen} == {23}
    held = sum(len(f.held_out_rows) for f in source.families.values())
    assert sum(len(s.rows) - sum(s.given) for s in seen) == held


# ---- what is held out ---------------------------------------------------------


def test_held_out_families_do_not_depend_on_the_order() -> None:
    config = AlignmentsConfig(filter="none", holdout=0.3)

    def whole(alignments: list[Alignment], **settings: Any) -> set[str]:
        done = divide(alignments, replace(config, **settings))
        return {name for name, family in done.families.items() if family.whole}

    names = whole(many(10))
    assert len(names) == 3
    assert whole(many(10)[::-1]) == names
    assert any(whole(many(10), seed=s) != names for s in range(1, 4))
    assert whole(many(10), hold_out=("family-7",)) == {"family-7"}


def test_a_family_with_the_query_of_a_held_out_one_is_held_out_too() -> None:
    twin = replace(many(3)[2], name="twin")
    config = AlignmentsConfig(filter="none", hold_out=("family-2",))
    done = divide([*many(3), twin], config)
    assert {n for n, f in done.families.items() if f.whole} == {"family-2", "twin"}


def test_rows_like_held_out_ones_are_not_learned_from() -> None:
    family = Family.of(relatives(400, 30, change=0.35))
    found, lost = hold_out_rows(family, 0.1, 0.65, Noise(0))
    held, rest = found.held_out_rows, found.train_rows
    assert len(held) == 40
    assert lost == 399 - 40 - len(rest) > 0
    states = family.alignment.states
    assert identity_pair(states[rest], states[held]).max() <= 0.65
    assert identity_pair(states[:1], states[held]).max() <= 0.65
    left = np.setdiff1d(np.arange(1, 400), np.concatenate([held, rest]))
    assert (identity_pair(states[left], states[held]).max(1) > 0.65).all()
    other, _ = hold_out_rows(family, 0.1, 0.65, Noise(1))
    assert other.held_out_rows.tolist() != held.tolist()


@pytest.mark.parametrize("filter", ["default", "msagpt", "none"])
def test_held_out_rows_are_as_unlike_after_every_filter(filter: Any) -> None:
    near = relatives(200, 60, change=0.09)
    changes = {"min_identity": 0.0, "max_gaps": 1.0, "min_coverage": 0.0}
    config = AlignmentsConfig(
        filter=filter, holdout=0, holdout_rows=0.1, max_identity=1.0, **changes
    )
    family = divide([near], config).families["toy"]
    states = family.alignment.states
    held, train = states[family.held_out_rows], states[family.train_rows]
    assert len(held) > 3
    assert np.triu(identity_pair(states), 1).max() > 0.9
    assert identity_pair(train, held).max() <= 0.9
    assert identity_pair(states[:1], held).max() <= 0.9


def test_too_small_to_hold_out_rows() -> None:
    for alignment in (aligned("ACDE", "ACDW"), aligned("ACDE", "ACDW", "ACDW")):
        family = Family.of(alignment)
        found, lost = hold_out_rows(family, 0.5, 0.9, Noise(0))
        assert found is family
        assert not lost


# ---- settings and errors ------------------------------------------------------


def test_settings_change_the_filter() -> None:
    rules = rules_of(AlignmentsConfig(filter="msagpt", min_identity=0.2))
    assert (rules.min_identity, rules.max_gaps, rules.min_rows) == (0.2, 0.1, 9)


def test_families_that_do_not_fit_are_left_out_and_named() -> None:
    alone = aligned("ACDEFGHIKL", "ACDEFGHIKL", name="alone")
    source = source_of([*many(3), alone], holdout=0.3)
    assert "alone" not in source.families
    card: Any = source.card()
    assert "0 homologues" in card["skipped_families"]["alone"]
    assert card["dropped_rows"]["the same as a kept row"] >= 1


def test_names_that_occur_twice_stay_apart() -> None:
    found = divide(
        [replace(a, name="same") for a in many(3)],
        AlignmentsConfig(filter="none", holdout=0.3),
    )
    assert sorted(found.families) == ["same", "same_2", "same_3"]


def test_a_random_choice_of_rows_of_a_large_family() -> None:
    config = AlignmentsConfig(filter="none", holdout=0.5, max_rows=30)
    done = divide(many(2, rows=100), config)
    for family in done.families.values():
        assert family.alignment.depth == 31
        numbers = [int(h.split("/")[1]) for h in family.alignment.headers]
        assert numbers[0] == 0
        assert numbers == sorted(numbers)
        assert max(numbers) > 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"holdout": 1.0}, "all families are held out"),
        ({"holdout": 0.0}, "nothing is held out"),
        ({"hold_out": ("family-9",)}, "did you mean family-"),
        ({"min_coverage": 1.0, "min_identity": 1.0}, "leaves no family of 3"),
    ],
)
def test_divisions_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, UnknownNameError), match=message):
        source_of(many(3), **settings)


def test_one_family_is_divided_by_rows(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        DataError, match=r"--set data\.holdout_rows=0\.1; with --family"
    ):
        source_of(many(1), holdout=0.1)
    with pytest.raises(DataError, match="nothing is held out of family-0"):
        source_of(many(1), holdout=0.0)
    assert not caplog.records
    source = source_of(many(1))
    held = len(source.families["family-0"].held_out_rows)
    assert held == 4  # a tenth of 40
    assert f"only family, so that {held} of its rows are held out" in caplog.text
    assert "--family" in caplog.text
    caplog.clear()
    source = source_of(many(1), holdout_rows=0.3)
    assert len(source.families["family-0"].held_out_rows) == 12
    assert not caplog.records  # it was asked for
    assert [f.whole for f in source_of(many(2)).families.values()].count(True) == 1
    source = source_of(many(1), holdout=0.0, holdout_rows=0.1)
    assert source.size("validation") >= 1
    assert train(source, 2)


def test_no_alignment_at_all() -> None:
    with pytest.raises(DataError, match="there is no alignment"):
        source_of([])


def test_an_epoch_must_fill_a_batch() -> None:
    source = source_of(many(), epoch=5, holdout=0.2)
    with pytest.raises(DataError, match="an epoch has 5 canvases, and a batch takes 8"):
        source.batches("train", size=8, seed=0)
    with pytest.raises(ConfigError, match="so that a row is left to restore"):
        AlignmentsConfig(rows=4, prompt_rows=3)


def test_files_and_synthetic_families_give_the_same(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"length": 256, "families": 3, "holdout": 0.3}
    made = synthetic_families(3, Noise(0).child("msa", "synthetic"))
    for family in made:
        write_alignment(family.alignment, tmp_path / f"{family.name}.a3m.gz")
    one = build(AlignmentsConfig(**settings))
    two = build(AlignmentsConfig(path=str(tmp_path), **settings))
    assert one.card()["splits"] == two.card()["splits"]
    assert one.card()["synthetic"] != two.card()["synthetic"]
    first = next(one.batches("train", size=4, seed=0))
    second = next(two.batches("train", size=4, seed=0))
    assert torch.equal(first.tokens, second.tokens)
    assert one.families["synthetic-000"].contacts is not None


def test_processes_get_parts_of_one_width_even_if_empty() -> None:
    source = source_of(many(), holdout=0.2)
    last = source.size("validation") // 4
    for start in (0, last):
        parts = [
            list(
                source.batches(
                    "validation", size=4, seed=0, start=start, rank=r, world=4
                )
            )
            for r in range(4)
        ]
        whole = list(source.batches("validation", size=4, seed=0, start=start))
        for index, batch in enumerate(whole):
            joined = torch.cat([part[index].tokens for part in parts])
            assert torch.equal(joined, batch.tokens)
            ids = torch.cat([part[index].sample_id for part in parts])
            assert torch.equal(ids, batch.sample_id)


def test_real_families() -> None:
    if not REAL.is_dir():
        pytest.skip("the real families are not beside the checkout")
    names = ("1ycr", "5wn9", "hmmer_fn3", "casp13_T1001")
    path = ",".join(str(REAL / f"{name}.a3m.gz") for name in names)
    source = build(AlignmentsConfig(path=path, length=512, hold_out=("1ycr",)))
    assert set(source.families) == set(names)
    assert source.families["1ycr"].whole
    assert train(source, 4)
    assert canvases(source.batches("validation", size=4, seed=0))
    assert encode(source.families["1ycr"].alignment.query).max() <= 20
