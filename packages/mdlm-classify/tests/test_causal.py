"""Causal models by class: an exact likelihood, whatever the batch."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import transformers

from mdlm_classify.causal.model import build
from mdlm_classify.causal.sample import sample
from mdlm_classify.causal.score import negative_log_likelihood, score
from mdlm_classify.causal.task import CausalModule
from mdlm_classify.config import ClassHuggingFaceConfig
from mdlm_classify.data.document import of_ids
from mdlm_classify.nn import labelled
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed

from .causal_toy import Ids, folder_of, models_of

V = 12
WORDS = Ids(V)
NAMES = ["GPT2", "Llama"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder and the model of transformers of each name."""
    return {n: folder_of(n, tmp_path_factory.mktemp(n), V) for n in NAMES}


def documents(*rows, length=8):
    return [of_ids(row, length=length, mask_id=WORDS.mask_id) for row in rows]


def random_rows(count, lengths=(3, 8, 5, 1, 12)):
    u = Noise(1).uniform(torch.arange(count), 12)
    ids = (u * (V - 2)).long().tolist()
    return [ids[row][: lengths[row % len(lengths)]] for row in range(count)]


# ---- the likelihood ---------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_that_of_transformers_with_a_start(models, name):
    path, model = models[name]
    made = models_of(path, WORDS, classes=1)
    row = random_rows(1)[0]
    ids = torch.tensor([[WORDS.eod_id, *row]])
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0, :-1].double()
    logits[:, WORDS.mask_id] = -torch.inf
    expected = logits.log_softmax(-1).gather(1, torch.tensor(row)[:, None]).sum()
    found = score(made, documents(row)).log_likelihood[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_of_all_texts_sum_to_one(tmp_path, name):
    words = Ids(4)  # two words, the end and the mask
    made = models_of(folder_of(name, tmp_path, 4)[0], words)
    texts = [of_ids(row, length=8, mask_id=3) for row in product(range(3), repeat=4)]
    found = score(made, texts).log_likelihood.exp().sum(0)
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-6, rtol=0)


def test_scores_depend_neither_on_the_batch_nor_on_the_order(models):
    made = models_of(models["GPT2"][0], WORDS)
    texts = documents(*random_rows(7))
    whole = score(made, texts)
    for tokens in (1, 20, 10_000):
        found = score(made, texts[::-1], tokens_at_once=tokens)
        torch.testing.assert_close(
            found.log_likelihood.flip(0), whole.log_likelihood, atol=1e-5, rtol=0
        )
    assert whole.exact
    assert (whole.se == 0).all()


def test_windows_of_a_long_text_add_up(models):
    made = models_of(models["Llama"][0], WORDS)
    row = [i % 9 for i in range(20)]
    parts = [row[:8], row[8:16], row[16:]]
    whole = score(made, documents(row))
    apart = score(made, documents(*parts)).log_likelihood.sum(0)
    torch.testing.assert_close(whole.log_likelihood[0], apart, atol=1e-5, rtol=0)
    assert whole.evaluations.tolist() == [3 * 2]
    assert whole.tokens.tolist() == [20]


def test_an_empty_text_has_probability_one(models):
    found = score(models_of(models["GPT2"][0], WORDS), documents([], [1, 2]))
    assert found.log_likelihood[0].tolist() == [0.0, 0.0]
    assert found.evaluations.tolist() == [0, 2]
    assert (found.log_likelihood[1] < 0).all()


def test_each_class_has_its_own_model(models):
    made = models_of(models["GPT2"][0], WORDS, classes=3)
    rows = random_rows(3, lengths=(6,))
    found = score(made, documents(*rows)).log_likelihood
    assert (found[:, 0] - found[:, 1]).abs().min() > 1e-3
    labels = torch.tensor([2, 0, 1])
    batch = labelled(Batch.of(torch.tensor(rows)), labels)
    loss = negative_log_likelihood(made, batch)
    own = found.gather(1, labels[:, None]).sum()
    torch.testing.assert_close(-loss.total.double(), own, atol=1e-4, rtol=0)
    assert (int(loss.count), len(loss.nll)) == (18, 18)


def test_progress_is_told_to_its_end(models):
    seen = []
    rows = random_rows(5)
    score(
        models_of(models["GPT2"][0], WORDS),
        documents(*rows),
        tokens_at_once=16,
        progress=lambda done, of: seen.append((done, of)),
    )
    assert seen[-1][0] == seen[-1][1] == sum(map(len, rows))
    assert seen == sorted(seen)


# ---- learning and sampling --------------------------------------------------


def test_gradients_go_to_the_models_of_the_classes_that_are_there(models):
    made = models_of(models["Llama"][0], WORDS, classes=2)
    batch = labelled(Batch.of(torch.tensor(random_rows(2, (5,)))), torch.tensor([1, 1]))
    CausalModule(made)(batch, None).total.backward()
    # zero, so that every process of a run has the same gradients to add
    assert all(not p.grad.any() for p in made.models[0].parameters())
    assert all(p.grad is not None for p in made.models[1].parameters())


def test_samples_follow_the_law(tmp_path):
    words = Ids(4)
    made = models_of(folder_of("Llama", tmp_path, 4)[0], words)
    law = score(made, [of_ids(r, length=2, mask_id=3) for r in product(range(3), [0])])
    pairs = [of_ids(r, length=2, mask_id=3) for r in product(range(3), repeat=2)]
    law = score(made, pairs).log_likelihood[:, 1].exp()
    count = 4000
    rows = sample(
        made, torch.ones(count).long(), length=2, noise=Noise(0), ids=words.vocab_size
    )
    found = torch.bincount(rows[:, 0] * 3 + rows[:, 1], minlength=9) / count
    assert (found - law).abs().max() < 4 * 0.5 / count**0.5
    again = sample(
        made, torch.ones(3).long(), length=2, noise=Noise(0), ids=words.vocab_size
    )
    assert torch.equal(again, rows[:3])


# ---- refusals ---------------------------------------------------------------


def test_a_missing_token_is_refused(models):
    made = models_of(models["GPT2"][0], WORDS)
    with pytest.raises(UsageError, match="cannot fill in or leave out"):
        score(made, documents([1, WORDS.mask_id, 2]))


def test_what_a_causal_predictor_cannot_do_is_refused(models):
    from mdlm_classify.causal.predictor import CausalPredictor

    made = models_of(models["GPT2"][0], WORDS)
    predictor = CausalPredictor(
        labels=("a", "b"),
        log_prior=torch.zeros(2),
        models=made,
        tokenizer=WORDS,
        length=8,
    )
    with pytest.raises(UsageError, match="gaps"):
        predictor.scores(["1 2"], gaps=True)
    with pytest.raises(UsageError, match="no class"):
        predictor.scores(["1 2"], null=True)
    assert len(predictor.scores(["1 2", "3"])) == 2


def test_a_model_that_sees_what_follows_is_refused(tmp_path):
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    with global_seed(Noise(0)):
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    made = build(ClassHuggingFaceConfig(path=str(tmp_path)), tokenizer=WORDS, length=8)
    with pytest.raises(CheckpointError, match=r"sees those that follow|left to right"):
        made.add_classes(1)


def test_settings_that_cannot_work_are_refused(models):
    with pytest.raises(ConfigError, match=r"model\.kind is masked"):
        models_of(models["GPT2"][0], WORDS, kind="masked")
    with pytest.raises(ConfigError, match="learned 32 positions"):
        models_of(models["GPT2"][0], WORDS, length=33)
    made = models_of(models["GPT2"][0], WORDS, length=32)
    with pytest.raises(UsageError, match="has 33 tokens"):
        score(made, documents([1] * 33, length=40))
    tokens = torch.tensor([[1, 2, 3]])
    pad = torch.tensor([[True, False, False]])
    with pytest.raises(UsageError, match="padded at their end"):
        made.models[0].hidden(Batch.of(tokens, pad=pad))
