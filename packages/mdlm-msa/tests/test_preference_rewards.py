"""Rewards: what they measure, and that copies of the query do not win them."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import pearsonr, spearmanr

from mdlm_core.errors import DataError, UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import STATE_OF
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.gaps import gap_rate
from mdlm_msa.preference.making import (
    Candidate,
    Candidates,
    Halves,
    Making,
    make_candidates,
    merged,
    paired,
    synthetic_pairs,
)
from mdlm_msa.preference.nearness import Nearness
from mdlm_msa.preference.rewards import (
    REWARDS,
    Judge,
    find,
    repeated_share,
)
from mdlm_msa.substitution import conditional

from .family_toys import REAL, aligned, relatives
from .preference_toy import ids

ROWS = 8


def states(*rows):
    return STATE_OF[ids(*rows)]


def cheats(query, natural, rng):
    """Return alignments that no reward may prefer to homologues, by name."""
    copies = np.repeat(query[None], ROWS, 0)
    found = {
        "copies of the query": copies,
        "copies of a homologue": np.repeat(natural[:1], ROWS, 0),
    }
    for share, gaps in ((0.02, 0), (0.05, 1), (0.08, 1), (0.1, 0), (0.15, 1)):
        changed = (rng.random(copies.shape) < share) & (copies < 20)
        rows = np.where(changed, rng.integers(20, size=copies.shape), copies)
        if gaps:  # those of the homologues, so that they do not give the copies away
            rows = np.where(natural == 20, 20, rows)
        found[f"copies with {share:.0%} changed"] = rows.astype(np.uint8)
    return found


def beaten(alignment, rewards, columns=slice(None)):
    """Return by which rewards a cheat is at least as good as homologues."""
    rng = np.random.default_rng(0)
    order = rng.permutation(alignment.depth - 1) + 1
    every = alignment.states[:, columns]
    natural, held_out = every[order[:ROWS]], every[order[ROWS:][:100]]
    found = []
    for reward in rewards:
        judge = Judge(query=every[0], held_out=held_out, reward=reward)
        honest = judge(natural).reward
        for name, rows in cheats(every[0], natural, rng).items():
            if judge(rows).reward >= honest:
                found.append((alignment.name, reward, name))
    return found


def test_copies_lose_on_synthetic_families():
    for family in synthetic_families(12, Noise(0)):
        assert beaten(family.alignment, set(REWARDS) - {"pairs"}) == []
        assert beaten(family.alignment, {"pairs"}, slice(24)) == []


def test_copies_lose_on_real_families():
    """Statistics of pairs are taken of 24 columns, for the time that they take."""
    files = sorted(REAL.glob("*.a3m.gz"))
    if not files:
        pytest.skip(f"there are no real families in '{REAL}'")
    count = 0
    for file in files:
        alignment = read_alignment(file).canonical()
        if alignment.depth <= 20:
            continue
        count += 1
        assert beaten(alignment, set(REWARDS) - {"pairs"}) == []
        middle = max(0, alignment.length // 2 - 12)
        assert beaten(alignment, {"pairs"}, slice(middle, middle + 24)) == []
    assert count >= 20


def test_measures_are_those_written_out():
    rng = np.random.default_rng(1)
    # far enough apart that each row has a weight of one
    rows, held_out = (
        STATE_OF[relatives(n, 12, seed, change=0.9).rows[1:]]
        for n, seed in ((8, 0), (20, 0))
    )
    held_out = held_out[7:]
    query = rng.integers(20, size=12).astype(np.uint8)

    def law(part):
        hot = np.eye(21)[part].sum(0) + 1 / 21
        return hot / hot.sum(1, keepdims=True)

    g, h = law(rows), law(held_out)
    js = [jensenshannon(a, b, base=2) ** 2 for a, b in zip(g, h, strict=True)]
    expected = {"profile": -np.mean(js)}

    def conserved(f):
        f = f[:, :20] / f[:, :20].sum(1, keepdims=True)
        return np.log2(20) + (f * np.log2(f)).sum(1)

    expected["conservation"] = spearmanr(conserved(g), conserved(h)).statistic

    def connected(part):
        hot = np.eye(21)[part]
        f = hot.mean(0)
        return np.concatenate(
            [
                (hot[:, i].T @ hot[:, j] / len(part) - np.outer(f[i], f[j])).ravel()
                for i in range(12)
                for j in range(i + 4, 12)
            ]
        )

    expected["pairs"] = pearsonr(connected(rows), connected(held_out)).statistic
    known = np.concatenate([query[None], rows])
    count = np.eye(21)[known].sum(0)[:, :20]
    n = count.sum(1, keepdims=True)
    profile = (count + 10 * (count / n) @ conditional()) / (n + 10)
    total, symbols = 0.0, 0
    for row in held_out:
        there = row < 20
        total -= np.log2(profile[there, row[there]]).sum()
        symbols += there.sum()
    expected["pssm"] = -total / symbols
    assert set(expected) == set(REWARDS)
    for name, value in expected.items():
        judge = Judge(query=query, held_out=held_out, reward=name)
        # columns that are equally conserved are ranked by the rounding of logarithms
        error = 0.02 if name == "conservation" else 1e-5
        assert judge(rows).measure == pytest.approx(value, abs=error), name


def test_the_penalties_are_counted_by_hand():
    query = states("LAGVSERTID" * 2)[0]
    rows = states(
        "LAGVSERTID" * 2, "-" * 10 + "LAGVSERTID", "W" * 20, "WWWW" + "C" * 16
    )
    held_out = states("LAGVSERTI-" * 2)
    assert repeated_share(rows, query) == 0.5  # a copy, and a part of it
    assert gap_rate(rows).mean() == 10 / 80
    judge = Judge(query=query, held_out=held_out, repeats=2.0, gaps=3.0)
    score = judge(rows)
    assert score.repeated == 0.5
    assert score.gap_error == pytest.approx(abs(10 / 80 - 2 / 20))
    assert score.reward == pytest.approx(
        score.measure - 2.0 * 0.5 - 3.0 * score.gap_error - 2.0 * score.excess
    )
    assert repeated_share(states("C" * 20, "C" * 20), query) == 0.5
    assert repeated_share(states("C" * 20, "C" * 19 + "W"), query) == 0.0  # just 95 %


def test_nearness_is_counted_by_hand():
    query = states("LAGVSERTID")[0]
    held_out = states("LAGVSWWWWW", "LAGCCCCCCC", "LAGVCCC---")
    near = Nearness.of(query, held_out)
    to_query = [0.5, 0.3, 4 / 7]
    among = [(0.3 + 4 / 7) / 2, (0.3 + 6 / 7) / 2, (4 / 7 + 6 / 7) / 2]
    assert near.query == pytest.approx(np.mean(to_query))
    assert near.query_spread == pytest.approx(np.std(to_query))
    assert near.rows == pytest.approx(np.mean(among))
    assert near.rows_spread == pytest.approx(np.std(among))
    rows = states("LAGVSERTIW", "LAGVSERTWW")
    excess = 0.85 - np.mean(to_query) - np.std(to_query) / np.sqrt(2)
    excess += 0.9 - np.mean(among) - 2 * np.std(among) / np.sqrt(2)
    assert near.excess(rows, query) == pytest.approx(excess)
    assert near.excess(states("W" * 10), query) == 0
    one = Nearness.of(query, held_out[:1])
    assert (one.rows, one.query_spread, one.rows_spread) == (0.5, 0, 0)
    judge = Judge(query=query, held_out=held_out, nearness=3.0, repeats=0, gaps=0)
    score = judge(rows)
    assert score.reward == pytest.approx(score.measure - 3.0 * excess)


def test_homologues_lose_little_for_nearness():
    for family in synthetic_families(6, Noise(2)):
        every = family.alignment.states
        rng = np.random.default_rng(0)
        found = []
        for _ in range(20):
            order = rng.permutation(len(every) - 1) + 1
            near = Nearness.of(every[0], every[order[ROWS:]])
            found.append(near.excess(every[order[:ROWS]], every[0]))
        assert np.mean(found) < 0.02
        assert np.median(found) == 0
        copies = np.repeat(every[:1], ROWS, 0)
        assert near.excess(copies, every[0]) > 0.3


def test_what_cannot_be_scored_is_said():
    query = states("LAG")[0]
    with pytest.raises(UnknownNameError, match=r"'profil' \(did you mean 'profile'"):
        find("profil")
    with pytest.raises(UnknownNameError, match="there are profile, pairs"):
        Judge(query=query, held_out=states("LAG"), reward="plddt")
    with pytest.raises(DataError, match="no held-out homologue"):
        Judge(query=query, held_out=states("LAG")[:0])
    judge = Judge(query=query, held_out=states("LAG"))
    with pytest.raises(DataError, match="no row besides the query"):
        judge(states("LAG")[:0])
    with pytest.raises(DataError, match="4 columns"):
        judge(states("LAGV"))


def test_pairs_are_best_against_worst():
    given = aligned("LAGV", "LVGV", name="f")
    scores = {"a": 0.3, "b": 0.9, "c": 0.1, "d": 0.5, "e": 0.85}
    group = Candidates(
        given=given,
        found=tuple(
            Candidate(rows=ids("WCP" + letter), score=score, name=name)
            for letter, (name, score) in zip("LAGVS", scores.items(), strict=True)
        ),
        reward="mine",
    )
    found = paired(group, Making(per_query=4))
    names = [(p.meta["winner"]["name"], p.meta["loser"]["name"]) for p in found]
    assert names == [("b", "c"), ("e", "a")]
    assert [p.score_difference for p in found] == pytest.approx([0.8, 0.55])
    assert (found[0].prompt == given.rows[1:]).all()
    assert len(paired(group, Making(min_difference=0.6))) == 1
    assert len(paired(group, Making(per_query=1))) == 1
    with pytest.raises(DataError, match="17 tokens on a canvas, and 12"):
        paired(group, Making(length=12))
    split = [
        Candidates(given=given, found=(each,), reward="mine") for each in group.found
    ]
    assert [len(g.found) for g in merged(split)] == [5]
    level = Candidates(given=given, found=(group.found[0],) * 2, reward="mine")
    assert paired(level, Making()) == []


def test_natural_candidates_hold_no_row_that_they_are_compared_with():
    alignment = relatives(41, 20, change=0.8)
    making = Making(rows=6, candidates=4, prompt=3, seed=1)
    group = make_candidates(alignment, making)
    halves = Halves.of(alignment, Noise(1).child("pairs", "toy").child("halves"))
    assert sorted([*halves.pool, *halves.held_out]) == list(range(1, 41))
    held = {alignment.rows[i].tobytes() for i in halves.held_out}
    given = {row.tobytes() for row in group.given.rows}
    assert group.given.depth == 4
    for candidate in group.found:
        rows = {row.tobytes() for row in candidate.rows}
        assert len(rows) == 6
        assert not rows & held
        assert not rows & given
    again = make_candidates(alignment, making)
    assert [c.score for c in again.found] == [c.score for c in group.found]
    assert len({c.score for c in group.found}) == 4


def test_candidates_of_a_model_are_given_query_and_prompt():
    alignment = relatives(21, 10, change=0.8)
    asked = []

    def write(given, rows, count, noise):
        asked.append((given, rows, count))
        return [np.repeat(given.rows[:1], rows, 0) for _ in range(count)]

    alone = make_candidates(alignment, Making(prompt=2, candidates=3), write)
    assert [c.name for c in alone.found] == [
        "generated-0",
        "generated-1",
        "generated-2",
    ]
    assert asked[0][0].depth == 3
    assert asked[0][1:] == (16, 3)
    mixed = make_candidates(alignment, Making(prompt=2, candidates=3, mix=True), write)
    assert len(mixed.found) == 6
    assert mixed.meta["source"] == "natural+generated"
    worst = min(mixed.found, key=lambda c: c.score)
    assert worst.name.startswith("generated")


def test_families_that_are_too_small_or_long_are_said():
    with pytest.raises(DataError, match="has 7 homologues, and pairs take 8"):
        make_candidates(relatives(8, 10), Making())
    with pytest.raises(DataError, match="with 0 rows of a prompt no row fits in 16"):
        make_candidates(relatives(20, 10), Making(length=16))
    with pytest.raises(DataError, match="too few for 9 rows of a prompt and two"):
        make_candidates(relatives(20, 10), Making(prompt=9))
    with pytest.raises(DataError, match="has gaps"):
        make_candidates(aligned("L-G", *["LAG"] * 9), Making())


def test_synthetic_pairs_fit_and_are_of_one_family():
    found = list(synthetic_pairs(128, 0))
    assert len(found) > 40
    for each in found:
        assert each.tokens <= 128
        assert each.score_difference > 0
        assert each.meta["source"] == "natural"
