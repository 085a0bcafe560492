"""Numbers about samples, each against a count by hand."""

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from mdlm_atat.atat_dit import ATATDiT, build
from mdlm_atat.judge import NGramJudge
from mdlm_atat.measures import distinct, infilling_accuracy, unigram_entropy
from mdlm_atat.quality import HELD_OUT, quality_against_nfe, usable_orders
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.samplers import Denoiser
from mdlm_core.tasks.held_out import held_out
from mdlm_core.testing import tiny_source

from .table import MASK, Table

# ---- measures -------------------------------------------------------------------


def rows(seed=0):
    u = Noise(seed).uniform(torch.arange(7), 11)
    return (u.square() * 5).long()


def test_entropy_is_the_mean_over_rows():
    tokens = rows()
    expected = 0.0
    for row in tokens.tolist():
        shares = [count / 11 for count in Counter(row).values()]
        expected -= sum(p * math.log(p) for p in shares) / 7
    assert unigram_entropy(tokens) == pytest.approx(expected)
    assert unigram_entropy(torch.full((3, 8), 4)) == 0
    assert unigram_entropy(torch.arange(8).expand(3, 8)) == pytest.approx(math.log(8))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 11])
def test_distinct_counts_n_grams_inside_rows(n):
    tokens = rows()
    grams = [
        tuple(row[i : i + n]) for row in tokens.tolist() for i in range(11 - n + 1)
    ]
    assert distinct(tokens, n) == pytest.approx(len(set(grams)) / len(grams))


@pytest.mark.parametrize("n", [0, 12])
def test_n_grams_that_do_not_exist_are_refused(n):
    with pytest.raises(UsageError, match=f"no {n}-grams"):
        distinct(rows(), n)


class Copy(Table):
    """Knows the tokens of even positions, and says 0 at the others."""

    def __init__(self, truth):
        super().__init__(1)
        self.truth, self.masked = truth, []

    def hidden(self, batch, t=None):
        self.masked.append((batch.tokens == MASK).sum(1).tolist())
        said = self.truth[batch.sample_id].clone()
        said[:, 1::2] = 0
        return 50.0 * torch.nn.functional.one_hot(said, 4).double()


@pytest.mark.parametrize(("share", "hidden"), [(0.15, 3), (0.5, 10), (0.001, 1)])
def test_infilling_counts_hidden_tokens_that_are_guessed(share, hidden):
    """Of exactly a share of the free tokens; the prompt is left alone."""
    truth = torch.full((40, 24), 3)
    frozen = torch.zeros(truth.shape, dtype=torch.bool)
    frozen[:, :4] = True
    model = Copy(truth)
    accuracy, nfe = infilling_accuracy(
        Denoiser(model, temperature=0.0),
        Batch.of(truth, frozen=frozen),
        share=share,
        steps=8,
        schedule=LogLinear(),
        noise=Noise(0),
        batch_size=40,
    )
    assert model.masked[0] == [hidden] * 40
    assert nfe == min(hidden, max(1, round(8 * share)))
    number = 40 * hidden
    spread = 4 * math.sqrt(0.25 / number)
    assert accuracy == pytest.approx(0.5, abs=spread)
    assert accuracy * number == pytest.approx(round(accuracy * number))


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_hides_nothing_or_too_much_is_refused(share):
    with pytest.raises(UsageError, match="hidden share"):
        infilling_accuracy(
            Denoiser(Copy(rows())),
            Batch.of(rows()),
            share=share,
            steps=2,
            schedule=LogLinear(),
            noise=Noise(0),
        )


# ---- the table --------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    with global_seed(Noise(0)):
        found = ATATDiT.from_sizes(
            tiny_source(), dim=32, n_layers=1, n_heads=2, importance_hidden_dim=32
        ).eval()
        with torch.no_grad():
            for parameter in found.backbone.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return found


def table(model, **settings):
    return quality_against_nfe(
        model.backbone,
        tiny_source(),
        schedule=model.schedule,
        policy=model.policy,
        **({"num": 6, "steps": (2, 16)} | settings),
    )


def test_the_table_has_a_row_for_each_order_and_cost(model):
    orders = ["random", "importance", "confident_first"]
    found = table(model, num=3, orders=orders, entropy_bounds=[3.0])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    keys = [(row["order"], row["steps"], row["entropy_bound"]) for row in found]
    settings = [(2, None), (16, None), (None, 3.0)]
    assert keys == [
        (HELD_OUT, None, None),
        *((order, *each) for order in orders for each in settings),
    ]
    for row in found[1:]:
        if row["steps"]:
            assert row["nfe"] == row["steps"]
        assert 1 <= row["nfe"] <= 16
        assert len(row["distinct"]) == 4
        assert row["judge_nats"] > 0
        assert 0 <= row["unigram_entropy"] <= math.log(11)
        for share, infilling in row["infilling"].items():
            assert 0 <= infilling["accuracy"] <= 1
            assert infilling["nfe"] <= round(16 * float(share))
    assert found[0]["nfe"] is None


def test_the_judge_prefers_the_text_to_a_model_that_knows_nothing(model):
    """Letters are unequally frequent, and documents are longer than rows."""
    text, drawn = table(model, num=12, orders=["random"], steps=[16])
    assert text["judge_nats"] < drawn["judge_nats"] - 0.3
    assert text["distinct"][0] <= 11 / (12 * 16)
    assert drawn["unigram_entropy"] > 1.5  # drawn, not the most probable each time


def test_ids_without_a_token_are_never_drawn(model):
    """The judge would refuse them."""
    tokenizer = tiny_source().tokenizer
    backbone = build(
        model.backbone.config,
        vocab_size=tokenizer.vocab_size + 40,
        mask_id=tokenizer.mask_id,
        length=16,
    )
    wide = ATATDiT(backbone.eval(), model.policy)
    assert len(table(wide, orders=["random"], steps=[4])) == 2


class HalfFrozen:
    """A source whose rows end in a frozen half."""

    def __init__(self):
        self.source = tiny_source()
        self.length, self.tokenizer = self.source.length, self.source.tokenizer

    def size(self, split):
        return self.source.size(split)

    def batches(self, split, **settings):
        for batch in self.source.batches(split, **settings):
            frozen = torch.arange(batch.length).expand(batch.tokens.shape) >= 8
            yield replace(batch, frozen=frozen)


def test_the_judge_counts_what_is_free_in_one_epoch(model):
    source = HalfFrozen()
    [text] = quality_against_nfe(
        model.backbone, source, schedule=model.schedule, orders=[], num=5
    )
    size = source.size("train")
    epoch = next(source.batches("train", size=size, seed=0))
    judge = NGramJudge.train(
        epoch.tokens.numpy(),
        vocab_size=source.tokenizer.vocab_size,
        mask_id=source.tokenizer.mask_id,
        keep=epoch.free.numpy(),
    )
    shown = torch.cat([batch.tokens for batch in held_out(source, 5, at_once=5)])
    assert len(shown) == 5
    expected = judge.nll(shown.numpy()).mean()
    assert text["judge_nats"] == pytest.approx(expected)


def test_the_seed_decides_the_table(model):
    settings = {"orders": ["random"], "steps": [4]}
    assert table(model, **settings) == table(model, **settings)
    assert table(model, **settings) != table(model, seed=1, **settings)


def test_orders_need_what_they_need(model):
    assert "importance" in usable_orders(model.policy)
    assert "importance" not in usable_orders(None)
    plain = ATATDiT.from_sizes(
        tiny_source(), dim=32, n_layers=1, n_heads=2, use_importance=False
    )
    assert "importance" not in usable_orders(plain.policy)
    with pytest.raises(UsageError, match="entropy bound inf"):
        table(model, entropy_bounds=[math.inf])
