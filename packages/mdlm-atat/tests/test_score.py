"""The score of a run: core's bound, window by window, and parts that add up to it."""

import math

import pytest
import torch
from torch import nn

from mdlm_atat.ablation.score import (
    QUARTERS,
    Scoring,
    frequency_quarters,
    score,
    time_bin,
    windows,
)
from mdlm_core.config.components import DiTConfig, PackingConfig, PythonDocsConfig
from mdlm_core.data.source import PackedSource
from mdlm_core.diffusion import LogLinear
from mdlm_core.diffusion.likelihood import Estimate, exact_counts
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.dit import DiT

LENGTH = 16
SCHEDULE = LogLinear()


def source(eod=True):
    words = ["aaab aaba", "abcd aaaa", "a a bb aa", "dcba aaab", "bbaa abab"]
    documents = [" ".join([words[i % 5]] * (2 + i % 3)) + f"{i % 7}" for i in range(80)]
    config = PythonDocsConfig(
        length=LENGTH,
        tokenizer="char",
        packing=PackingConfig(eod=eod),
        holdout=0.3,
    )
    return PackedSource.from_documents(documents, config)


def model(data, *, time_conditioned=False):
    config = DiTConfig(
        blocks=1, width=16, heads=2, cond_width=8, time_conditioned=time_conditioned
    )
    tokenizer = data.tokenizer
    with global_seed(Noise(1).child("model")):
        backbone = DiT(
            config,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=LENGTH,
        )
        for parameter in backbone.parameters():
            nn.init.normal_(parameter, std=0.3)
    return backbone


@pytest.mark.parametrize("time_conditioned", [False, True])
@pytest.mark.parametrize("rows", [0, 7])
def test_windows_have_the_values_of_the_exact_count_estimator(rows, time_conditioned):
    data, scoring = source(), Scoring(rows=rows, draws=5, seed=3)
    backbone = model(data, time_conditioned=time_conditioned)
    found = score(backbone, data, SCHEDULE, scoring)
    expected = Estimate.join(
        [
            exact_counts(
                backbone, batch, draws=5, noise=scoring.noise(), schedule=SCHEDULE
            )
            for batch in windows(data, rows)
        ]
    )
    mean, error = expected.per_token()
    assert found["bound"]["nats"] == pytest.approx(mean, rel=1e-6)
    assert found["bound"]["nats_se"] == pytest.approx(error, rel=1e-5)
    assert found["windows"]["nats"] == pytest.approx(expected.nats.tolist(), abs=1e-4)
    assert found["windows"]["tokens"] == expected.tokens.tolist()
    assert len(found["windows"]["tokens"]) == (rows or data.size("validation"))


def test_quarters_add_up_to_the_bound():
    data, scoring = source(), Scoring(rows=0, draws=4)
    found = score(model(data), data, SCHEDULE, scoring)
    quarter = frequency_quarters(data)
    counts = torch.zeros(QUARTERS)
    for batch in windows(data, 0):
        counts += torch.bincount(quarter[batch.tokens[batch.free]], minlength=QUARTERS)
    means = [value or 0.0 for value in found["ce_by_frequency"]]
    total = float((counts * torch.tensor(means)).sum())
    assert total / found["bound"]["tokens"] == pytest.approx(
        found["bound"]["nats"], rel=1e-6
    )
    assert sum(counts) == found["bound"]["tokens"]


class Share(nn.Module):
    """A denoiser that knows nothing but the share s of hidden tokens.

    Weight 1 for each token but the end of a document, which has e^s: the others have
    -log p = log(V - 2 + e^s), with V - 2 of them.
    """

    time_conditioned = False

    def __init__(self, data):
        super().__init__()
        self.vocab_size = data.tokenizer.vocab_size
        self.mask_id = data.tokenizer.mask_id
        self.eod_id = data.tokenizer.eod_id
        self.nothing = nn.Parameter(torch.zeros(()))

    def hidden(self, batch, t=None):
        hidden = (batch.tokens == self.mask_id) & batch.free
        share = hidden.sum(1) / batch.free.sum(1)
        return share[:, None, None].expand(*batch.tokens.shape, 1).double()

    def logits(self, hidden):
        logits = torch.zeros(len(hidden), self.vocab_size, dtype=hidden.dtype)
        logits[:, self.eod_id] = hidden[:, 0]
        return logits


def test_the_bins_of_time_are_shares_of_hidden_tokens():
    data = source(eod=False)
    found = score(Share(data), data, SCHEDULE, Scoring(rows=0, draws=20))

    def loss(share):
        return math.log(data.tokenizer.vocab_size - 2 + math.exp(share))

    for index, value in enumerate(found["ce_by_time"]):
        assert loss(index / 10) < value <= loss((index + 1) / 10) + 1e-6


def test_tenths_are_closed_above():
    share = torch.tensor([0.001, 0.1, 0.1001, 0.55, 0.9, 1.0], dtype=torch.float64)
    assert time_bin(share).tolist() == [0, 0, 1, 5, 8, 9]


def test_quarters_hold_a_quarter_of_the_text_each_at_most_one_token_off():
    data = source()
    quarter = frequency_quarters(data)
    counts = torch.zeros(data.tokenizer.vocab_size, dtype=torch.float64)
    batches = data.batches("train", size=1, seed=0)
    for _, batch in zip(range(data.size("train")), batches, strict=False):
        counts += torch.bincount(batch.tokens[batch.free], minlength=len(counts))
    seen = counts > 0
    unseen = ~seen
    unseen[data.tokenizer.mask_id] = False
    assert (quarter[unseen] == QUARTERS - 1).all()
    order = counts.argsort(descending=True)
    assert (quarter[order][seen[order]].diff() >= 0).all()  # frequent first
    share = counts / counts.sum()
    for index in range(1, QUARTERS):
        below = float(share[(quarter < index) & seen].sum())
        assert abs(below - index / QUARTERS) <= float(share.max()) / 2 + 1e-9


def test_other_held_out_text_can_be_scored():
    data, other = source(), source()
    shuffled = PackedSource(
        data.tokenizer,
        {"train": other._packed["train"], "validation": other._packed["train"]},
        {"train": other._facts["train"], "validation": other._facts["train"]},
        length=LENGTH,
    )
    backbone, scoring = model(data), Scoring(rows=5, draws=2)
    own = score(backbone, data, SCHEDULE, scoring)
    there = score(backbone, data, SCHEDULE, scoring, measured=shuffled)
    assert own["windows"]["nats"] != there["windows"]["nats"]
