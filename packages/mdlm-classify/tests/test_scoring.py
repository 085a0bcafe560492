"""Estimates of log p(text | class): laws, masks, invariance, cost, errors."""

import math
from collections import Counter
from itertools import product

import pytest
import torch

from mdlm_classify.config import ScoringConfig
from mdlm_classify.data.document import Document
from mdlm_classify.nn.condition import labels_of
from mdlm_classify.scoring.rows import evaluate, jobs_of, windows_of
from mdlm_classify.scoring.scorer import score, token_values
from mdlm_classify.scoring.scores import Scores
from mdlm_core.diffusion import LogLinear
from mdlm_core.diffusion.draws import measuring
from mdlm_core.errors import ConfigError, DataError, UsageError

from .class_toy import MASK, ClassToy, document, documents

SCHEDULE = LogLinear()
ESTIMATORS = ["exact-counts", "continuous-time", "sizes", "any-order"]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def scored(toy, texts, *, null=False, log_prior=None, **settings):
    return score(
        toy,
        texts,
        classes=toy.classes,
        settings=ScoringConfig(**settings),
        schedule=SCHEDULE,
        null=null,
        log_prior=log_prior,
    )


# ---- the law ----------------------------------------------------------------


@every_estimator
@pytest.mark.parametrize("control", [0.0, 0.7])
@pytest.mark.parametrize(
    "ids",
    [(0, 1, 2, 0), (2, MASK, 0, 1), (1, 0), (1, 1, 0, 2, 0, 2, 1)],
    ids=["whole", "with a gap", "short", "two windows"],
)
def test_expectation_against_enumeration(estimator, control, ids):
    toy, copies = ClassToy(2, seed=3), 800
    windows = [ids[at : at + 4] for at in range(0, len(ids), 4)]
    texts = [Document(windows=tuple(windows), key=key, gaps=0) for key in range(copies)]
    scores = scored(
        toy,
        texts,
        null=True,
        estimator=estimator,
        control=control,
        rule="fixed",
        start_draws=2,
        max_draws=2 if estimator == "any-order" else 4,
    )
    each = torch.cat([scores.log_likelihood, scores.null[:, None]], 1)
    error = each.std(0) / copies**0.5
    expected = torch.tensor(
        [
            sum(toy.bound(list(window), label) for window in windows)
            for label in (0, 1, -1)
        ]
    ).double()
    assert (error < 0.03 * expected.abs()).all()
    assert ((each.mean(0) - expected).abs() < 4.5 * error + 1e-5).all()
    assert (scores.tokens == sum(token != MASK for token in ids)).all()


def values_of(toy, texts, *, draws, **settings):
    """Return each draw of log p ``(N, draws, C)``, with the masks of `texts`."""
    windows = windows_of(texts, mask_id=MASK, device=torch.device("cpu"))
    everything = torch.ones(len(texts), toy.classes, dtype=torch.bool)
    settings = ScoringConfig(**settings)
    orders = settings.estimator == "any-order"
    values = torch.zeros(len(texts), draws, toy.classes, dtype=torch.float64)
    with measuring(toy):
        for part in evaluate(
            toy,
            windows,
            jobs_of(windows, everything, draws=draws, orders=orders),
            labels=torch.arange(toy.classes),
            first=0,
            draws=draws,
            settings=settings,
            schedule=SCHEDULE,
        ):
            at = (
                windows.owner[part.window[part.row]],
                part.draw[part.row],
                part.column[part.row],
            )
            values.index_put_(at, -part.nll * part.weight[part.row], accumulate=True)
    return values


def test_an_order_is_a_probability_and_a_bound_is_less():
    toy = ClassToy(2, seed=1)
    every = [list(ids) for ids in product(range(MASK), repeat=4)]
    same = [Document(windows=(tuple(ids),), key=99) for ids in every]
    values = values_of(toy, same, draws=3, estimator="any-order")
    torch.testing.assert_close(
        values.exp().sum(0), torch.ones(3, 2).double(), rtol=1e-5, atol=0
    )
    assert (values.mean(1).exp().sum(0) < 0.95).all()
    for label in range(2):
        assert sum(math.exp(toy.bound(ids, label)) for ids in every) < 0.95


@every_estimator
def test_reported_errors_are_the_spread_of_the_log_ratio(estimator):
    toy, copies = ClassToy(2, own=0.3), 600
    texts = [Document(windows=((0, 2, 1, 1),), key=key) for key in range(copies)]
    scores = scored(toy, texts, estimator=estimator, rule="fixed", max_draws=6)
    ratio = scores.log_likelihood[:, 0] - scores.log_likelihood[:, 1]
    reported = float(scores.se.amax(1).square().mean().sqrt())
    assert float(ratio.std()) < 1.07 * reported
    assert reported < 2 * float(ratio.std())


# ---- masks ------------------------------------------------------------------


class Watching(ClassToy):
    """Remembers which canvases it saw under which class."""

    def __init__(self, *args, **known):
        super().__init__(*args, **known)
        self.canvases = {}

    def hidden(self, batch, t=None):
        labels = labels_of(batch, self.classes).tolist()
        rows = zip(labels, batch.tokens, batch.pad, strict=True)
        for label, canvas, pad in rows:
            seen = self.canvases.setdefault(label, Counter())
            seen[tuple(canvas[~pad].tolist())] += 1
        return super().hidden(batch, t)


@every_estimator
def test_all_classes_see_the_same_masks(estimator):
    toy, texts = Watching(3), documents(20)
    scored(toy, texts, null=True, estimator=estimator, rule="fixed", max_draws=4)
    assert set(toy.canvases) == {-1, 0, 1, 2}
    assert all(seen == toy.canvases[0] for seen in toy.canvases.values())
    apart = Watching(3)
    scored(apart, texts, estimator=estimator, rule="fixed", max_draws=4, common=False)
    own = [{c for c in seen if MASK in c} for seen in apart.canvases.values()]
    assert own[0] != own[1] != own[2]


@every_estimator
def test_common_masks_have_the_smaller_variance(estimator):
    toy = ClassToy(2, own=0.3)
    texts = [Document(windows=((0, 2, 1, 1),), key=key) for key in range(300)]
    ratio = {}
    for common in (True, False):
        scores = scored(
            toy,
            texts,
            common=common,
            control=0.0,
            estimator=estimator,
            rule="fixed",
            start_draws=2,
            max_draws=2,
        )
        ratio[common] = scores.log_likelihood[:, 0] - scores.log_likelihood[:, 1]
    assert ratio[True].var() < 0.5 * ratio[False].var()
    assert ratio[True].mean() == pytest.approx(float(ratio[False].mean()), abs=0.6)


def test_masks_depend_on_the_seed_the_text_the_window_and_the_draw():
    toy, ids = ClassToy(2), (0, 1, 2, 0)
    settings = {"rule": "fixed", "max_draws": 8}
    once = scored(toy, [document(*ids)], **settings).log_likelihood
    assert torch.equal(scored(toy, [document(*ids)], **settings).log_likelihood, once)
    other = scored(toy, [document(*ids)], seed=1, **settings).log_likelihood
    assert not torch.allclose(other, once)
    text = document(*ids, *ids)  # two windows of the same tokens
    each = token_values(
        toy, text, labels=[0], draws=8, settings=ScoringConfig(**settings)
    )
    assert not torch.allclose(each[0, :4], each[0, 4:])
    draws = values_of(toy, [document(*ids)], draws=8)[0, :, 0]
    assert len(set(draws.tolist())) > 4


@every_estimator
def test_a_second_round_has_new_masks(estimator):
    toy = ClassToy(2)
    texts = [Document(windows=((0, 2, 1, 1),), key=key) for key in range(300)]
    variance = []
    for most in (2, 4):  # two draws, and two rounds of two draws
        scores = scored(
            toy,
            texts,
            null=True,
            estimator=estimator,
            rule="sequential",
            z=1e9,
            start_draws=2,
            max_draws=most,
        )
        assert (scores.draws == most).double().mean() > 0.9
        variance.append(float(scores.null.var()))
    assert 0.3 < variance[1] / variance[0] < 0.7


# ---- what must not matter ---------------------------------------------------


@every_estimator
def test_neither_batch_nor_order_nor_other_texts_matter(estimator):
    toy, texts = ClassToy(3), documents(16, length=9)
    settings = {"estimator": estimator, "start_draws": 2, "max_draws": 8}
    whole = scored(toy, texts, null=True, **settings)
    order = torch.tensor([13, 3, 15, 4, 0])
    few = scored(
        toy,
        [texts[i] for i in order.tolist()],
        null=True,
        tokens_at_once=15,
        **settings,
    )
    same = whole.select(order)
    for name in ("log_likelihood", "se", "null"):
        torch.testing.assert_close(
            getattr(few, name), getattr(same, name), atol=1e-5, rtol=1e-6
        )
    for name in ("draws", "tokens", "evaluations", "kept"):
        assert torch.equal(getattr(few, name), getattr(same, name)), name
    assert len(set(whole.draws.amax(1).tolist())) > 1


def test_no_forward_has_more_tokens_than_allowed():
    toy = ClassToy(3)
    scored(toy, documents(10, length=9), tokens_at_once=40, max_draws=8)
    sizes = [seen.numel() for seen in toy.seen]
    assert 20 < max(sizes) <= 40
    toy.seen.clear()
    scored(toy, documents(2), tokens_at_once=1, rule="fixed", max_draws=4)
    assert {len(seen) for seen in toy.seen} == {1}


# ---- cost -------------------------------------------------------------------


@every_estimator
def test_evaluations_are_the_rows_that_went_through_the_model(estimator):
    toy, texts = ClassToy(6), documents(20, length=9)
    scores = scored(toy, texts, null=True, estimator=estimator, max_draws=16)
    assert int(scores.evaluations.sum()) >= toy.rows  # rows of masks are shared
    alone = ClassToy(6)
    scored(alone, texts[3:4], null=True, estimator=estimator, max_draws=16)
    assert int(scores.evaluations[3]) == alone.rows


def test_classes_that_are_left_out_get_no_more_draws():
    scores = scored(ClassToy(6), documents(20), max_draws=32)
    assert scores.draws.amin() == 4
    most = scores.draws.amax(1, keepdim=True)
    assert torch.equal(scores.draws[scores.kept], most.expand(-1, 6)[scores.kept])
    joint = scores.log_likelihood
    assert scores.kept.gather(1, joint.argmax(1)[:, None]).all()
    assert (scores.se.gather(1, joint.argmax(1)[:, None]) == 0).all()


@pytest.mark.parametrize("rule", ["fixed", "sequential"])
def test_the_progress_is_that_of_the_tokens(rule):
    seen = []
    texts = [*documents(300), document(), *[document(*[0, 1] * 40)] * 10]
    score(
        ClassToy(2),
        texts,
        classes=2,
        settings=ScoringConfig(rule=rule, max_draws=16),
        progress=lambda done, of: seen.append((done, of)),
    )
    tokens = sum(text.tokens for text in texts)
    assert {of for _, of in seen} == {tokens + 1}  # the empty text counts 1
    assert seen[-1] == (tokens + 1, tokens + 1)
    assert sorted(seen) == seen
    first = sum(sorted(text.tokens for text in texts)[:256]) + 1
    assert (first, tokens + 1) in seen
    assert (len(seen) > 4) == (rule == "sequential")  # rounds are told too


# ---- tokens -----------------------------------------------------------------


@every_estimator
@pytest.mark.parametrize("control", [0.0, 1.0])
def test_tokens_sum_to_the_log_ratio_of_the_scores(estimator, control):
    toy = ClassToy(3, own=0.5)
    settings = ScoringConfig(estimator=estimator, control=control, max_draws=16)
    texts = [document(0, 2, 1, 1, 0, MASK, 2), document(1, 2), *documents(4)]
    scores = score(toy, texts, classes=3, settings=settings, schedule=SCHEDULE)
    for row, text in enumerate(texts):
        best = int(scores.log_likelihood[row].argmax())
        for other in range(3):
            draws = int(scores.draws[row, other])
            each = token_values(
                toy,
                text,
                labels=(best, other),
                draws=draws,
                settings=settings,
                schedule=SCHEDULE,
            )
            assert each.shape == (2, sum(map(len, text.windows)))
            ratio = scores.log_likelihood[row, best] - scores.log_likelihood[row, other]
            torch.testing.assert_close(
                each[0].sum() - each[1].sum(), ratio, atol=1e-5, rtol=1e-6
            )
            if other == best:
                torch.testing.assert_close(
                    each[0].sum(),
                    scores.log_likelihood[row, best],
                    atol=1e-5,
                    rtol=1e-6,
                )
    gap = token_values(toy, texts[0], labels=[0], draws=4, settings=ScoringConfig())
    assert (gap[0] == 0).nonzero()[:, 0].tolist() == [5]


# ---- edges and errors -------------------------------------------------------


@every_estimator
def test_a_text_without_a_token_is_left_to_the_prior(estimator):
    toy = ClassToy(2)
    texts = [document(), document(0, 1), document(MASK, MASK)]
    scores = scored(toy, texts, null=True, estimator=estimator)
    for row in (0, 2):
        assert scores.log_likelihood[row].tolist() == [0, 0]
        assert scores.se[row].tolist() == [0, 0]
        assert scores.draws[row].tolist() == [0, 0]
        assert scores.kept[row].all()
        assert float(scores.null[row]) == 0
        assert int(scores.evaluations[row]) == 0
    assert scores.tokens.tolist() == [0, 2, 0]
    assert len(scored(toy, [])) == 0
    nothing = token_values(
        toy, document(), labels=[0, 1], draws=4, settings=ScoringConfig()
    )
    assert nothing.shape == (2, 0)


def test_a_window_of_gaps_alone_costs_nothing():
    toy = ClassToy(2)
    plain = scored(toy, [Document(windows=((0, 1, 2, 0),), key=5)])
    gaps = Document(windows=((0, 1, 2, 0), (MASK,) * 4), key=5, gaps=4)
    both = scored(toy, [gaps])
    assert torch.equal(both.log_likelihood, plain.log_likelihood)
    assert torch.equal(both.evaluations, plain.evaluations)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (torch.zeros(3), "shape"),
        (torch.tensor([0.0, math.nan]), "nan"),
        (torch.tensor([-math.inf, -math.inf]), "-inf for all"),
    ],
)
def test_priors_that_are_none(prior, message):
    with pytest.raises(UsageError, match=message):
        scored(ClassToy(2), documents(1), log_prior=prior)


def test_a_class_of_prior_zero_cannot_win():
    toy, texts = ClassToy(2), documents(40)
    plain = scored(toy, texts)
    assert (plain.log_likelihood.argmax(1) == 1).any()
    prior = torch.tensor([0.0, -math.inf])
    scores = scored(toy, texts, log_prior=prior)
    assert torch.equal(scores.kept, torch.tensor([[True, False]]).expand(40, 2))
    assert torch.isfinite(scores.log_likelihood).all()


def test_what_cannot_be_scored():
    toy = ClassToy(2)
    with pytest.raises(UsageError, match="classes is 0"):
        score(toy, documents(1), classes=0, settings=ScoringConfig())
    with pytest.raises(ConfigError, match="needs a schedule"):
        score(
            toy,
            documents(1),
            classes=2,
            settings=ScoringConfig(estimator="continuous-time"),
        )
    with pytest.raises(UsageError, match="4, 8, 16 draws"):
        token_values(
            toy,
            document(0),
            labels=[0],
            draws=5,
            settings=ScoringConfig(max_draws=16),
        )
    toy.table.data.fill_(math.nan)
    with pytest.raises(DataError, match="not a finite number"):
        scored(toy, documents(1))


def test_scores_are_joined_and_selected():
    texts = documents(6)
    whole = scored(ClassToy(2), texts, null=True)
    parts = [
        scored(ClassToy(2), texts[cut], null=True) for cut in (slice(2), slice(2, 6))
    ]
    joined = Scores.join(parts)
    assert len(joined) == 6
    torch.testing.assert_close(joined.log_likelihood, whole.log_likelihood)
    torch.testing.assert_close(joined.null, whole.null)
    with pytest.raises(DataError, match="different ways"):
        Scores.join([whole, scored(ClassToy(2), texts)])
    with pytest.raises(DataError, match="no scores"):
        Scores.join([])
