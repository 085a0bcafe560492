"""New rows: what they may be, what decides them, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import MdlmError, UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled
from mdlm_msa.alphabet import (
    GAP,
    GMASK,
    MASK,
    SEPARATOR,
    SOP,
    VOCAB_SIZE,
    WRITTEN,
    encode,
)
from mdlm_msa.config import GenerationConfig
from mdlm_msa.generation.band import COPY, EMPTY, FAR, NEAR, judge
from mdlm_msa.generation.canvases import Plan, Window, plan, spread, windows
from mdlm_msa.generation.demands import demands, parse_allowed, parse_columns
from mdlm_msa.generation.denoise import ColumnDenoiser
from mdlm_msa.generation.generate import BudgetError, generate
from mdlm_msa.generation.likelihood import row_costs
from mdlm_msa.layout import Canvas, batch
from mdlm_msa.scoring.residues import row_bits
from mdlm_msa.selection import select_rows

from .generation_toys import QUERY, ROWS, Context, Flat, family, texts, write

SAMPLERS = ("ddpm", "ddpm_cache", "confidence", "remask", "one-shot", "first-hitting")


# ---- what a new row is ------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_writes_residues_and_gaps_between_the_separators(sampler):
    model = Context()
    found = write(model=model, sampler=sampler, rows=5, together=2, prompt=3)
    assert found.alignment.query == QUERY
    assert found.alignment.rows.shape == (6, 20)
    assert set(np.unique(found.alignment.rows[1:]).tolist()) <= set(WRITTEN)
    known = {encode(row).tobytes() for row in ROWS[1:]}
    for seen in model.seen:  # what the model saw at every step
        assert seen.tokens[:, 0].unique().tolist() == [GMASK]
        assert seen.tokens[:, 1].unique().tolist() == [SOP]
        places = seen.positions[0, 1:, 0] == 0
        assert seen.tokens[:, 2:][:, places[1:]].unique().tolist() == [SEPARATOR]
        for line in seen.tokens:
            rows = line[1:-1].view(-1, 21)[:, 1:].numpy().astype(np.uint8)
            assert rows[0].tobytes() == encode(QUERY).tobytes()
            assert {row.tobytes() for row in rows[1:4]} <= known
    assert found.plan == Plan(shown=3, together=2, canvases=3)
    assert [row.canvas for row in found.rows] == [0, 0, 1, 1, 2]
    assert all(len(found.shown[number]) == 3 for number in range(3))


def test_a_sequence_alone_is_a_query():
    found = write(QUERY, rows=3)
    assert found.plan.shown == 0
    assert len(texts(found)) == 3
    with pytest.raises(UsageError, match="'k' at place 3"):
        write("MKkA")
    with pytest.raises(UsageError, match="query is empty"):
        write("")
    with pytest.raises(UsageError, match="has gaps"):
        write("MK-A")


def test_gaps_none_and_template_and_x():
    free = "".join(texts(write(rows=20)))
    assert "-" in free
    assert "X" not in free
    assert "-" not in "".join(texts(write(rows=20, gaps="none")))
    patterns = {tuple(c == "-" for c in row) for row in ROWS[1:]}
    found = texts(write(rows=30, gaps="template"))
    drawn = {tuple(c == "-" for c in row) for row in found}
    assert drawn == patterns
    with pytest.raises(UsageError, match="only the query"):
        write(QUERY, gaps="template")
    assert "X" in "".join(texts(write(rows=20, allow_x=True)))


def test_frozen_and_restricted_columns():
    found = texts(write(rows=20, freeze="1-3,20", allowed={5: "W", 7: "AG-"}))
    assert {row[:3] for row in found} == {"MKT"}
    assert {row[19] for row in found} == {"S"}
    assert {row[4] for row in found} == {"W"}
    assert {row[6] for row in found} == {"A", "G", "-"}
    assert len({row[10] for row in found}) > 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"freeze": "0-3"}, "columns go from 1 to 20"),
        ({"freeze": "3-x"}, "no column or range"),
        ({"freeze": "5-2"}, "lower to its higher end"),
        ({"allowed": {21: "A"}}, "columns go from 1 to 20"),
        ({"allowed": {2: "AJ"}}, "have 'J'"),
        ({"allowed": {2: "-"}, "gaps": "none"}, "nothing may stand in column 2"),
        ({"allowed": {2: "A"}, "freeze": "2"}, "kept as the query's K"),
    ],
)
def test_demands_that_cannot_be_met_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        write(**settings)


def test_a_column_without_a_residue_of_the_query_cannot_be_frozen():
    with pytest.raises(UsageError, match="query has 'X'"):
        write("MKXA", freeze="3")
    assert {row[1] for row in texts(write("MKXA", freeze="2"))} == {"K"}


def test_columns_and_letters_are_read():
    with pytest.raises(UsageError, match="rows go from 1 to 4"):
        parse_columns("9", 4, what="x", unit="row")
    assert parse_columns("2-3, 5", 6, what="x").nonzero()[0].tolist() == [1, 2, 4]
    assert not parse_columns("", 6, what="x").any()
    assert parse_allowed("12=ag, 40=-ST") == {12: "AG", 40: "-ST"}
    for wrong in ("12", "=A", "x=A", "3="):
        with pytest.raises(UsageError, match="COLUMN=LETTERS"):
            parse_allowed(wrong)
    with pytest.raises(UsageError, match="column 3 twice"):
        parse_allowed("3=A,3=G")


def test_the_law_is_renormalised_over_what_is_allowed():
    model = Context()
    wanted = demands(
        encode(QUERY), GenerationConfig(allowed={4: "AC"}, gaps="none")
    ).allowed
    rows = np.vstack([encode(QUERY)[None], np.full((1, 20), MASK, np.uint8)])
    laid = batch([Canvas(rows, 1)])
    denoiser = ColumnDenoiser.of(model, wanted, GenerationConfig())
    where = denoiser.masked(laid)
    laws = torch.cat(list(denoiser.laws(laid, where))).double().exp()
    logits = model.hidden(laid)[where].double()
    for place in range(20):
        weight = torch.exp(logits[place]) * torch.from_numpy(wanted[place])
        assert torch.allclose(laws[place], weight / weight.sum(), atol=1e-6)
    assert int((laws[3] > 0).sum()) == 2
    assert int((laws[0] > 0).sum()) == 20


def test_a_sampler_that_does_not_ask_the_denoiser_is_found_out():
    def careless(denoiser, canvas, *, schedule, noise, steps, callback=None):
        tokens = canvas.tokens.masked_fill(denoiser.masked(canvas), SEPARATOR)
        return Sampled(tokens, torch.ones(len(canvas), dtype=torch.long))

    with pytest.raises(MdlmError, match="'<M>' in column 1 of row"):
        write(sampler_=careless)
    with pytest.raises(UnknownNameError, match="remask"):
        write(sampler="re-mask-it")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (1, "a special token from 'sop'"),
        (25, "column 3 of row 1 from 'S' to 'L'"),
        (22, "a special token from '<M>'"),
    ],
)
def test_a_sampler_that_changes_what_is_given_is_found_out(place, words):
    def careless(denoiser, canvas, *, schedule, noise, steps, callback=None):
        tokens = canvas.tokens.masked_fill(denoiser.masked(canvas), 1)
        tokens[:, place] = 1
        return Sampled(tokens, torch.ones(len(canvas), dtype=torch.long))

    with pytest.raises(MdlmError, match="nothing to write") as caught:
        write(sampler_=careless, prompt=5, select="top", together=1, rows=1)
    assert words in str(caught.value)


# ---- what decides a row -----------------------------------------------------------


def test_rows_depend_on_the_seed_and_their_canvas_alone():
    whole = write(rows=9, together=2, batch=4, select="random", prompt=2)
    again = write(rows=9, together=2, batch=1, select="random", prompt=2)
    fewer = write(rows=5, together=2, batch=3, select="random", prompt=2)
    assert texts(whole) == texts(again)
    assert texts(whole)[:5] == texts(fewer)
    assert whole.shown == again.shown
    assert len(set(whole.shown.values())) > 1
    by_room = [write(rows=rows, prompt=2) for rows in (3, 9, 14)]
    assert texts(by_room[0]) == texts(by_room[1])[:3] == texts(by_room[2])[:3]
    assert texts(by_room[1]) == texts(by_room[2])[:9]
    other = write(rows=9, together=2, select="random", prompt=2, seed=1)
    assert texts(other) != texts(whole)


def test_likelihoods_do_not_depend_on_the_batch():
    one = write(rows=5, together=2, batch=1, draws=3)
    all_ = write(rows=5, together=2, batch=5, draws=3)
    assert [row.nats for row in one.rows] == pytest.approx(
        [row.nats for row in all_.rows]
    )


def test_a_flat_law_costs_the_logarithm_of_twenty_for_each_residue():
    found = write(rows=4, draws=2, model=Flat())
    for row, text in zip(found.rows, texts(found), strict=True):
        assert row.residues == sum(letter != "-" for letter in text)
        assert row.nats == pytest.approx(row.residues * np.log(20))
        assert row.se == pytest.approx(0, abs=1e-4)


def test_a_row_is_scored_by_itself_below_what_it_was_shown():
    found = write(rows=4, together=2, prompt=2, draws=3)
    row = found.rows[3]
    above = found.source.rows[[0, *found.shown[row.canvas]]]
    rows = np.vstack([above, found.alignment.rows[4][None]])
    expected = row_bits(
        Context(),
        batch([Canvas(rows, 3)], torch.tensor([row.canvas * 2 + row.place])),
        draws=3,
        noise=Noise(0).child("generate").child("score").child("window", 0),
        schedule=LogLinear(0.0),
    )
    assert row.nats == pytest.approx(float(expected.nats[0]))


def test_windows_share_the_cost_of_a_row():
    source, row = family(), encode(ROWS[2])[None]
    given = [source.rows[:1]]
    parts = windows(20, 8)
    cost = row_costs(
        Flat(), row, given, ids=[0], draws=2, noise=Noise(0), at_once=2, windows=parts
    )
    assert cost.residues.tolist() == [17]  # every residue once
    assert cost.nats[0] == pytest.approx(17 * np.log(20))


# ---- canvases ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "tokens", "available", "expected"),
    [
        # N (L + 1) + 2 tokens: 256 hold 12 rows of 20 columns, 11 besides the query
        ({"rows": 8, "prompt": 0}, 256, 5, Plan(0, 11, 1)),
        ({"rows": 8, "prompt": 16}, 256, 5, Plan(5, 6, 2)),
        ({"rows": 8, "prompt": 16}, 256, 50, Plan(5, 6, 2)),
        ({"rows": 1, "prompt": 16}, 256, 50, Plan(5, 6, 1)),
        ({"rows": 30, "prompt": 4}, 256, 9, Plan(4, 7, 5)),
        ({"rows": 30, "prompt": 16, "together": 3}, 256, 50, Plan(8, 3, 10)),
        ({"rows": 3, "prompt": 16}, 44, 50, Plan(0, 1, 3)),
    ],
)
def test_plan_by_hand(settings, tokens, available, expected):
    config = GenerationConfig(**settings)
    assert plan(20, config, tokens=tokens, available=available) == expected


@pytest.mark.parametrize(
    ("settings", "tokens", "available", "expected"),
    [
        ({"rows": 8, "prompt": 0}, 256, 5, Plan(0, 8, 1)),
        ({"rows": 8, "prompt": 16}, 256, 5, Plan(5, 4, 2)),
        ({"rows": 8, "prompt": 16}, 256, 50, Plan(7, 4, 2)),
        ({"rows": 1, "prompt": 16}, 256, 50, Plan(10, 1, 1)),
        ({"rows": 30, "prompt": 4}, 256, 9, Plan(4, 6, 5)),
        ({"rows": 3, "prompt": 16, "together": 2}, 256, 50, Plan(9, 2, 2)),
    ],
)
def test_rows_can_be_spread_so_that_none_is_written_in_vain(
    settings, tokens, available, expected
):
    room = {"tokens": tokens, "available": available}
    config = spread(20, GenerationConfig(**settings), **room)
    assert plan(20, config, **room) == expected


def test_a_canvas_has_no_more_rows_than_in_training():
    config = GenerationConfig(rows=20, prompt=2)
    assert plan(20, config, tokens=999, available=9, max_rows=6) == Plan(2, 3, 7)


def test_a_query_that_is_too_long_is_refused_with_numbers():
    with pytest.raises(UsageError, match=r"20 columns.*43 tokens.*44") as caught:
        write(tokens=43)
    assert "--length 44" in str(caught.value)
    with pytest.raises(UsageError, match=r"together is 3.*room for 1"):
        write(tokens=44, together=3)


def test_windows_cover_all_columns_and_overlap():
    assert windows(20, 0) == [Window(0, 20, 0)]
    assert windows(20, 20) == [Window(0, 20, 0)]
    assert windows(20, 8) == [
        Window(0, 8, 0),
        Window(6, 14, 2),
        Window(12, 20, 2),
    ]
    assert windows(17, 8)[-1] == Window(9, 17, 5)


def test_a_long_query_is_written_in_windows():
    model = Context()
    found = write(model=model, tokens=30, window=8, rows=3, freeze="7", draws=1)
    assert set(np.unique(found.alignment.rows[1:]).tolist()) <= set(WRITTEN)
    assert {row[6] for row in texts(found)} == {"A"}
    assert any("3 windows of 8" in note for note in found.notes)
    last = [seen for seen in model.seen if seen.tokens.shape[1] > 2][-1]
    assert int(last.positions[..., 0].max()) == 8
    # the second window shows the overlap as it was written; row 2 begins at 20
    second = next(
        seen
        for seen in model.seen
        if (seen.tokens[:, 2:10] == torch.from_numpy(encode(QUERY[6:14]))).all()
    )
    rows = {seen[20:22].tobytes() for seen in second.tokens.numpy().astype(np.uint8)}
    assert rows <= {r[6:8].tobytes() for r in found.alignment.rows[1:]}


# ---- the band ---------------------------------------------------------------------


def test_rows_are_judged_by_the_band():
    new = np.stack(
        [
            encode("-" * 20),
            encode(QUERY),
            encode("W" * 20),
            encode("MKTAYIAKQR----------"),
            encode("MKTAYIAKQRWWWWWWWWWW"),
            encode(ROWS[4]),
        ]
    )
    config = GenerationConfig(identity=(0.4, 0.9), max_similar=0.8)
    verdict = judge(new, family().rows, config)
    assert verdict.reason == (EMPTY, NEAR, FAR, NEAR, "", COPY)
    assert verdict.identity.tolist() == pytest.approx([0, 1, 0, 1, 0.5, 0.85])
    assert verdict.nearest[5] == pytest.approx(1)


def test_the_band_is_kept_and_the_acceptance_is_counted():
    settings = {"identity": (0.0, 0.05), "tries": 50, "rows": 12, "together": 4}
    found = write(**settings)
    assert all(row.identity <= 0.05 for row in found.rows)
    assert len(found.rows) == 12
    assert found.drawn == 12 + sum(found.rejected.values())
    assert found.acceptance == pytest.approx(12 / found.drawn)
    assert 0.1 < found.acceptance < 1
    again = write(batch=1, **settings)
    assert texts(again) == texts(found)
    assert again.drawn == found.drawn


def test_a_budget_that_ends_says_so_and_keeps_what_was_accepted():
    with pytest.raises(BudgetError, match="of 6 rows were accepted") as caught:
        write(identity=(0.1, 0.2), tries=2)
    found = caught.value.generated
    assert 0 < len(found.rows) < 6
    assert found.alignment.depth == len(found.rows) + 1
    assert found.drawn == 12
    assert "raise tries (2)" in str(caught.value)
    assert len(found.reached) == 12
    inside = [share for share in found.reached if 0.1 <= share <= 0.2]
    assert len(inside) == len(found.rows)
    low, high = min(found.reached), max(found.reached)
    assert f"{low:.2f} to {high:.2f} (median" in str(caught.value)
    with pytest.raises(BudgetError, match="0 of 6") as caught:
        write(identity=(0.99, 1.0), tries=1)
    assert caught.value.generated.rows == ()


def test_fewer_rows_than_asked_for_are_said():
    found = write(prompt=16, tokens=130)  # room for 5 rows, 5 may be shown
    assert found.plan.shown < 5
    said = f"{found.plan.shown} rows of the input are shown at once, and not 5"
    assert any(said in note for note in found.notes)
    for prompt in (0, 1):
        assert not any("shown at once" in n for n in write(prompt=prompt).notes)


def test_a_query_without_a_residue_is_refused():
    with pytest.raises(UsageError, match="no residue that is known"):
        write("XXXXXXXXXX")


def test_repetitions_are_noted():
    found = write(rows=6, together=1, temperature=0.0, prompt=0, sampler="one-shot")
    assert len(set(texts(found))) == 1
    assert any("5 new rows repeat" in note for note in found.notes)


def test_the_callback_sees_rows_fill_in():
    seen = []
    found = write(
        rows=2, together=2, callback=lambda step, rows: seen.append((step, rows))
    )
    masks = [int((rows[0] == MASK).sum()) for _, rows in seen]
    assert masks == sorted(masks, reverse=True)
    assert masks[-1] == 0
    assert np.array_equal(seen[-1][1][0][-2:], found.alignment.rows[1:])
    assert np.array_equal(seen[0][1][0][0], encode(QUERY))


def test_odd_letters_of_the_input_are_noted():
    found = write(family(QUERY, "UKTAYIAKQRQISFVKSHFB"))
    words = "letters U changed to C for the model, not in what is written: 1"
    assert words in found.notes
    assert found.source.rows[1, 0] == encode("C")[0]
    assert found.given.rows[1, 0] == encode("U")[0]


def test_the_query_is_written_as_it_was_given():
    odd = "MUTOBIZKQRQISFVKSHFS"
    model = Context()
    found = write(odd, model=model, rows=2, freeze="2")
    assert found.alignment.query == odd
    assert {row[1] for row in texts(found)} == {"C"}
    canonical = encode("MCTKXIXKQRQISFVKSHFS").tolist()
    assert all(seen.tokens[0, 2:22].tolist() == canonical for seen in model.seen)
    with pytest.raises(UsageError, match="has gaps"):
        write("MK.A")


def test_rows_that_say_nothing_are_never_shown_nor_copied():
    empty, short = "-" * 20, "MKT" + "-" * 17
    source = family(*ROWS, empty, short, QUERY)
    found = write(source, rows=12, together=1, prompt=9, gaps="template")
    assert {len(rows) for rows in found.shown.values()} == {5}
    assert {row for rows in found.shown.values() for row in rows} == {1, 2, 3, 4, 5}
    patterns = {tuple(c == "-" for c in row) for row in ROWS[1:]}
    assert {tuple(c == "-" for c in row) for row in texts(found)} <= patterns
    assert found.acceptance == 1.0
    assert (
        "3 of 8 rows of the input are never shown to the model: 1 no residue, "
        "1 the same as the query, 1 coverage below 0.5"
    ) in found.notes
    every = write(source, rows=3, together=1, prompt=9, min_coverage=0.0)
    assert {row for rows in every.shown.values() for row in rows} == {*range(1, 6), 7}
    with pytest.raises(UsageError, match="1 no residue; lower min_coverage"):
        write(family(QUERY, empty), gaps="template")


def test_templates_are_rows_that_the_canvas_shows():
    found = write(rows=24, together=2, prompt=1, gaps="template", select="random")
    assert len(set(found.shown.values())) > 1
    for about, text in zip(found.rows, texts(found), strict=True):
        (shown,) = found.shown[about.canvas]
        assert [c == "-" for c in text] == [c == "-" for c in ROWS[shown]]
    assert any("gaps of new rows are copied" in note for note in found.notes)
    with pytest.raises(UsageError, match="raise prompt"):
        write(gaps="template", prompt=0)


def test_rows_without_a_residue_have_advice_of_their_own():
    only = dict.fromkeys(range(1, 21), "-")
    with pytest.raises(BudgetError) as caught:
        write(rows=2, allowed=only, tries=1)
    assert "A row without a residue is no protein: set gaps=none" in str(caught.value)
    assert "widen the band" not in str(caught.value)


@pytest.mark.parametrize("select", ["weighted", "cluster"])
def test_prompts_are_chosen_as_by_the_selection(select):
    found = write(rows=3, together=1, prompt=2, select=select, seed=4)
    noise = Noise(4).child("generate")
    for number, rows in found.shown.items():
        expected = select_rows(family(), 2, select, noise.child("prompt", number))
        assert rows == tuple(expected)


def test_a_canvas_longer_than_in_training_is_noted():
    found = write(length=512, tokens=100)
    assert "canvases have up to 512 tokens; the model learned on 100" in found.notes


def test_ids_outside_the_alphabet_are_never_allowed():
    allowed = demands(encode(QUERY), GenerationConfig()).allowed
    assert allowed.shape == (20, VOCAB_SIZE)
    assert np.flatnonzero(allowed.all(0)).tolist() == sorted([*range(1, 21), GAP])
    assert allowed.sum() == 20 * 21


def test_generate_needs_no_settings():
    found = generate(Flat(), QUERY, schedule=LogLinear(0.0), length=128)
    assert len(found.rows) == 16
