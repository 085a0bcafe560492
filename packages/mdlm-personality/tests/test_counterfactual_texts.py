"""Coupled pairs, edits of given texts, long texts, sweeps."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.categorical import categorical
from mdlm_core.kernels.gumbel import posterior_gumbel
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers.analytic import analytic
from mdlm_core.samplers.confidence import confidence
from mdlm_core.samplers.first_hitting import first_hitting
from mdlm_core.samplers.semi_autoregressive import semi_autoregressive
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.generation.changes import changes, marked
from mdlm_personality.generation.counterfactual import counterfactual_pair
from mdlm_personality.generation.edit import _coupled, edit, hidden_levels, windows
from mdlm_personality.generation.long import generate_sar, spans
from mdlm_personality.generation.personas import Given
from mdlm_personality.generation.views import told
from mdlm_personality.generation.writing import (
    denoiser_for,
    generate,
    shown,
    telling,
)

from .generation_toy import LENGTH, SOMEBODY, manner, toy

INTROVERT = {"extraversion": 0.1}
TEXT = "abc def. gh ab"


@pytest.fixture(scope="module")
def trained():
    return toy()


def first_law(trained, values):
    """Return the law ``(V,)`` of the token of a canvas of one."""
    course = told(trained.persona, Given.of(trained.persona, values))
    tokens = torch.full((1, 1), trained.backbone.mask_id)
    canvas = telling(trained, Batch.of(tokens), course)
    denoiser = denoiser_for(trained, course, manner())
    with denoiser.evaluating():
        return next(denoiser.laws(canvas, denoiser.masked(canvas)))[0].double()


# ---- pairs --------------------------------------------------------------------


@pytest.mark.parametrize(
    "guidance",
    [None, GuidanceConfig(scale=3.0), GuidanceConfig(scale=2.0, schedule="linear")],
)
def test_with_the_value_that_it_has_the_text_is_the_same(trained, guidance):
    pair = counterfactual_pair(
        trained,
        SOMEBODY,
        {"extraversion": SOMEBODY[2]},
        num=4,
        guidance=guidance,
        contrast=1.0,
        manner=manner(),
    )
    assert torch.equal(pair.factual.tokens, pair.counterfactual.tokens)
    assert [found.share for found in pair.changes] == [0.0] * 4
    assert pair.moved(trained.persona) == []


def test_each_text_has_the_law_of_its_persona_and_the_pair_is_stable(trained):
    count = 1500
    pair = counterfactual_pair(
        trained, SOMEBODY, INTROVERT, num=count, length=1, manner=manner(batch_size=512)
    )
    p = first_law(trained, SOMEBODY)
    q = first_law(trained, (*SOMEBODY[:2], 0.1, *SOMEBODY[3:]))
    assert (p.exp() - q.exp()).abs().sum() > 0.2
    drawn = pair.factual.tokens[:, 0], pair.counterfactual.tokens[:, 0]
    for law, tokens in zip((p, q), drawn, strict=True):
        possible = ~law.isneginf()
        seen = torch.bincount(tokens, minlength=len(law))[possible]
        expected = law.exp()[possible] / law.exp()[possible].sum() * count
        assert chisquare(seen, expected).pvalue > 1e-4
    ratio = q - p  # a token gives way only to one that gained more
    assert bool((ratio[drawn[1]] >= ratio[drawn[0]] - 1e-9).all())
    changed = (drawn[0] != drawn[1]).double().mean()
    independent = 1 - (p.exp() * q.exp()).sum()
    least = 0.5 * (p.exp() - q.exp()).abs().sum()  # no coupling changes fewer
    assert least - 0.05 < changed < 0.7 * independent


def test_the_pair_is_closer_than_two_texts(trained):
    pair = counterfactual_pair(trained, SOMEBODY, INTROVERT, num=20, manner=manner())
    other = generate(trained, SOMEBODY, num=20, seed=1, manner=manner())
    apart = (pair.factual.tokens != pair.counterfactual.tokens).double().mean()
    by_chance = (pair.factual.tokens != other.tokens).double().mean()
    assert 0.02 < apart < 0.75 * by_chance
    assert torch.equal(pair.factual.nfe, pair.counterfactual.nfe)  # one order


def test_only_what_is_set_and_its_descendants_move(trained):
    pair = counterfactual_pair(trained, SOMEBODY, {"wellness": 0.9}, manner=manner())
    names = [one.name for one in pair.moved(trained.persona)]
    assert names[0] == "wellness"
    tiers = {name.split(".")[0] for name in names[1:]}
    assert tiers == {"intentions", "actions", "exercise"}
    assert pair.moved(trained.persona)[0].after == pytest.approx(0.9, abs=1e-6)
    assert pair.moved(trained.persona)[0].known


def test_a_shift_moves_by_so_much(trained):
    pair = counterfactual_pair(
        trained, SOMEBODY, {"openness": -0.3}, kind="shift", manner=manner()
    )
    first = pair.moved(trained.persona)[0]
    assert (first.name, first.before) == ("openness", pytest.approx(0.8, abs=1e-6))
    assert first.after == pytest.approx(0.5, abs=1e-6)


# ---- edits --------------------------------------------------------------------


@pytest.mark.parametrize("time_conditioned", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_an_unchanged_persona_gives_the_text_back(share, time_conditioned):
    trained = toy(time_conditioned=time_conditioned)
    text = TEXT * 4 + "\nab"
    found = edit(
        trained,
        text,
        SOMEBODY,
        {"extraversion": SOMEBODY[2]},
        share=share,
        num=3,
        guidance=GuidanceConfig(scale=2.0, schedule="linear"),
        contrast=2.0,
        manner=manner(temperature=0.7),
    )
    assert found.before == text
    assert found.texts == [text] * 3
    assert found.moved(trained) == []


def test_only_hidden_tokens_change_and_more_of_them_with_a_larger_share(trained):
    rows = windows(trained, TEXT * 4 + "\nab", 2)
    assert rows.tokens.shape == (6, LENGTH)
    assert rows.pad.sum() == 2 * (3 * LENGTH - 59)
    before = torch.zeros_like(rows.frozen)
    for share, count in ((0.0, 0), (0.25, 6 + 6 + 3), (0.5, 12 + 12 + 5), (1.0, 58)):
        hidden = hidden_levels(trained, rows, share, Noise(0)) >= 0
        assert hidden[:3].sum() == count
        assert bool((hidden | ~before).all())  # what was hidden is hidden still
        assert not bool((hidden & rows.frozen).any())
        assert not bool((hidden & (rows.tokens == trained.tokenizer.eod_id)).any())
        before = hidden


def test_what_is_not_hidden_stays(trained):
    text = TEXT[:12]
    found = edit(trained, text, SOMEBODY, INTROVERT, share=0.5, num=8, manner=manner())
    assert found.hidden == 6
    apart = [sum(a != b for a, b in zip(text, t, strict=True)) for t in found.texts]
    assert max(apart) <= 6
    assert sum(apart) > 0
    assert any(one.share for one in found.changes)


def test_the_numbers_behind_a_drawn_token_give_the_other_law(trained):
    """If x has the law p, what it becomes has the law q, and only where q gained."""
    count = 20000
    p = first_law(trained, SOMEBODY)
    q = first_law(trained, (*SOMEBODY[:2], 0.1, *SOMEBODY[3:]))
    rows = torch.arange(count)
    u, v = Noise(0).uniform(rows, 2).unbind(1)
    true = categorical(p.expand(count, -1), u)
    drawn = _coupled(p.expand(count, -1), q.expand(count, -1), true, v)
    possible = ~q.isneginf()
    seen = torch.bincount(drawn, minlength=len(q))[possible]
    expected = q.exp()[possible] / q.exp()[possible].sum() * count
    assert chisquare(seen, expected).pvalue > 1e-4
    gain = q - p
    assert bool((gain[drawn] >= gain[true] - 1e-9).all())
    assert torch.equal(
        _coupled(p.expand(count, -1), p.expand(count, -1), true, v), true
    )


def test_an_edit_is_two_canvases_in_lockstep(trained):
    """The same, written out: one position after the other, one row at a time."""
    text, num, do = (TEXT + TEXT)[:LENGTH], 8, {"e": 0.0, "o": 0.1}
    found = edit(
        trained,
        text,
        SOMEBODY,
        do,
        share=1.0,
        num=num,
        manner=manner(steps=9999),
    )
    noise, rows = Noise(0).child("edit"), windows(trained, text, num)
    level = hidden_levels(trained, rows, 1.0, noise.child("when"))
    numbers = noise.child("what").uniform(rows.sample_id, LENGTH)
    people = SOMEBODY, (0.1, SOMEBODY[1], 0.0, *SOMEBODY[3:])
    courses = [
        told(trained.persona, Given.of(trained.persona, values)) for values in people
    ]
    true = rows.tokens[0]
    for row in range(num):
        hidden = level[row] >= 0
        seen = true.masked_fill(hidden, trained.backbone.mask_id)
        other = seen.clone()
        for place in level[row].argsort(descending=True)[: int(hidden.sum())]:
            laws = []
            for canvas, course in zip((seen, other), courses, strict=True):
                batch = telling(trained, Batch.of(canvas.unsqueeze(0)), course)
                denoiser = denoiser_for(trained, course, manner())
                where = (torch.arange(LENGTH) == place).unsqueeze(0)
                with denoiser.evaluating():
                    laws.append(next(denoiser.laws(batch, where)))
            drawn, number = true[place].view(1), numbers[row, place].view(1)
            gumbel = posterior_gumbel(laws[0], drawn, number)
            seen[place] = true[place]
            other[place] = (laws[1] + gumbel).argmax()
        assert found.texts[row] == shown(trained.tokenizer, other.tolist())


def test_an_edit_that_cannot_be(trained):
    for share in (-0.1, 1.5, math.nan):
        with pytest.raises(UsageError, match="share"):
            edit(trained, TEXT, SOMEBODY, INTROVERT, share=share, manner=manner())
    for ways in ({"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.9}):
        with pytest.raises(UsageError, match="every token of the text is possible"):
            edit(trained, TEXT, SOMEBODY, INTROVERT, manner=manner(**ways))
    with pytest.raises(UsageError, match="empty"):
        edit(trained, "", SOMEBODY, INTROVERT, manner=manner())
    with pytest.raises(UsageError, match="one writer"):
        edit(trained, TEXT, [SOMEBODY, SOMEBODY], INTROVERT, manner=manner())


# ---- long texts ---------------------------------------------------------------


def test_windows_cover_the_text():
    assert spans(10, 24, 7) == [(0, 10)]
    assert spans(24, 24, 7) == [(0, 24)]
    assert spans(40, 24, 7) == [(0, 24), (7, 31), (14, 38), (16, 40)]


def test_a_long_text_begins_as_a_short_one_and_keeps_what_is_written(trained):
    seen = []
    found = generate_sar(
        trained,
        SOMEBODY,
        60,
        7,
        num=2,
        prompt="abc",
        manner=manner(),
        callback=lambda _, tokens: seen.append(tokens),
    )
    mask = trained.backbone.mask_id
    assert found.tokens.shape == (2, 60)
    assert not bool((found.tokens == mask).any())
    short = generate(trained, SOMEBODY, num=2, prompt="abc", manner=manner())
    assert torch.equal(found.tokens[:, :LENGTH], short.tokens)
    assert all(bool(((s == found.tokens) | (s == mask)).all()) for s in seen)
    assert torch.equal(seen[-1], found.tokens)
    assert bool((found.nfe <= 12 + 6 * 4).all())  # a stride has its share of the steps
    again = generate_sar(trained, SOMEBODY, 60, 7, num=1, prompt="abc", manner=manner())
    assert torch.equal(found.tokens[:1], again.tokens)


def test_lengths_that_do_not_fit(trained):
    for stride in (0, LENGTH, LENGTH + 1):
        with pytest.raises(UsageError, match="stride"):
            generate_sar(trained, SOMEBODY, 60, stride, manner=manner())
    with pytest.raises(UsageError, match="total length"):
        generate_sar(trained, SOMEBODY, 0, 7, manner=manner())


# ---- words --------------------------------------------------------------------


def test_changed_words_are_marked():
    found = changes("I am bold and tidy.", "I am quiet and very tidy.")
    assert marked(found) == "I am [-bold-]{+quiet+} and {+very+} tidy."
    assert found.share == pytest.approx(1 - 2 * 5 / 13)
    gone = changes("So bold, so tidy", "So tidy")
    assert marked(gone) == "So [-bold, so-] tidy"
    shown = marked(found, colour=True)
    assert "\x1b[32mquiet\x1b[0m" in shown
    assert "[-" not in shown


def test_texts_without_a_difference():
    for text in ("", "a", "Don't stop;\nnow."):
        found = changes(text, text)
        assert (found.share, found.changed) == (0.0, ())
        assert marked(found) == text
    assert changes("a b", "c d").share == 1.0


def test_the_pieces_are_both_texts_but_for_blanks():
    draw = np.random.default_rng(0)
    for _ in range(50):
        one, two = (" ".join(draw.choice(list("abcd."), 12)) for _ in range(2))
        found = changes(one, two)
        before = "".join(piece.before for piece in found.pieces)
        after = "".join(piece.after for piece in found.pieces)
        assert before.replace(" ", "") == one.replace(" ", "")
        assert after == two
        assert 0 <= found.share <= 1


def test_control_characters_do_not_reach_a_terminal():
    assert "\x1b" not in marked(changes("a \x1b[2J b", "a c"))


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        (first_hitting, {}),
        (analytic, {}),
        (confidence, {}),
        (confidence, {"threshold": 0.3}),
        (semi_autoregressive, {"block": 7}),
        (semi_autoregressive, {"block": 7, "inner": confidence}),
    ],
)
def test_every_sampler_shares_its_noise(trained, sampler, settings):
    """The same value gives the same text, another one a text that is close to it.

    Not so close where the order depends on the text; see `counterfactual_pair`.
    """
    how = replace(manner(steps=LENGTH), sampler=partial(sampler, **settings))
    guidance = GuidanceConfig(scale=2.0, schedule="linear")
    ways = {"num": 6, "manner": how, "guidance": guidance}
    pair = counterfactual_pair(trained, SOMEBODY, {"e": SOMEBODY[2]}, **ways)
    assert pair.factual.tokens.equal(pair.counterfactual.tokens)
    assert pair.factual.nfe.equal(pair.counterfactual.nfe)
    if sampler is confidence:
        return
    near = counterfactual_pair(trained, SOMEBODY, {"e": 0.69}, **ways)
    anew = counterfactual_pair(trained, SOMEBODY, {"e": 0.69}, seed=1, **ways)
    share = (near.factual.tokens != near.counterfactual.tokens).double().mean()
    other = (near.factual.tokens != anew.factual.tokens).double().mean()
    assert share < 0.5 * other
