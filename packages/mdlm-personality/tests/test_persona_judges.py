import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError, MissingExtraError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.testing.tiny import tiny_batch
from mdlm_personality.config import PersonaCorpusConfig
from mdlm_personality.data.corpus import persona_corpus
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.metrics.diversity import (
    cut,
    distinct,
    diversity,
    self_bleu,
    size_that_fits,
)
from mdlm_personality.metrics.judges import LexiconJudge, TextJudge, ceiling
from mdlm_personality.metrics.perplexity import (
    gen_ppl,
    mauve,
    ordered_ppl,
    token_entropy,
)
from mdlm_personality.metrics.tables import markdown
from mdlm_personality.traits import TRAITS

NOISE = Noise(5)


def corpus(authors: int = 120) -> PersonaTexts:
    return persona_corpus(PersonaCorpusConfig(authors=authors, sentences=18, seed=1))


def test_the_exact_judge_reads_the_corpus():
    texts = corpus()
    read = LexiconJudge(8.0).read(texts.texts)
    for k in range(5):
        r = np.corrcoef(read.scores[:, k], texts.values[:, k])[0, 1]
        assert r > 0.8
    clear = np.abs(texts.values[:, :5] - 0.5) > 0.25
    told = clear & ~np.isnan(read.sides)
    right = read.sides[told] == (texts.values[:, :5] > 0.5)[told]
    assert right.mean() > 0.95


def test_the_exact_judge_does_not_say_where_nothing_is_told():
    read = LexiconJudge(8.0).read(["", "xyzzy"])
    assert np.isnan(read.sides).all()
    assert np.isnan(read.scores).all()


def test_the_fitted_judge_reads_numbers_and_classes():
    texts = corpus()
    classes = PersonaTexts(
        texts.texts, texts.authors, np.round(texts.values[:, :5]), TRAITS
    )
    for known in (texts, classes):
        judge = TextJudge().fit(known.select(range(90)))
        read = judge.read(known.select(range(90, 120)).texts)
        truth = known.values[90:, :5]
        r = [np.corrcoef(read.scores[:, k], truth[:, k])[0, 1] for k in range(5)]
        assert np.mean(r) > 0.5
        assert ((read.scores >= 0) & (read.scores <= 1)).all()


def test_the_fitted_judge_is_scikit_learns_pipeline():
    texts = corpus()
    high = texts.values[:, :5] > 0.5
    known = PersonaTexts(texts.texts, texts.authors, high.astype(float), TRAITS)
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=1.0, max_iter=1000)
    model.fit(vectors.fit_transform(texts.texts), high[:, 3])
    expected = model.predict_proba(vectors.transform(texts.texts))[:, 1]
    found = TextJudge().fit(known).read(texts.texts)
    assert found.scores[:, 3] == pytest.approx(expected)


def test_a_trait_that_is_not_known_is_not_read():
    texts = corpus(40)
    values = texts.values[:, :5].copy()
    values[:, 1] = np.nan
    values[:, 2] = 0.5
    judge = TextJudge().fit(PersonaTexts(texts.texts, texts.authors, values, TRAITS))
    read = judge.read(texts.texts)
    assert np.isnan(read.scores[:, 1:3]).all()
    assert not np.isnan(read.scores[:, 3:]).any()
    with pytest.raises(DataError, match="fit"):
        TextJudge().read(["a"])


def test_the_ceiling_keeps_authors_apart():
    """Of random traits nothing can be read, though each author is easily known."""
    rng = np.random.default_rng(0)
    words = [" ".join([f"name{a}"] * 6 + ["and", "then"]) for a in range(30)]
    texts = [words[a] for a in range(30) for _ in range(4)]
    authors = tuple(f"{a}" for a in range(30) for _ in range(4))
    values = np.repeat(np.round(rng.uniform(size=(30, 5))), 4, axis=0)
    found = ceiling(
        PersonaTexts(tuple(texts), authors, values, TRAITS), noise=NOISE, folds=5
    )
    assert np.mean([each.accuracy.value for each in found]) < 0.7
    with pytest.raises(DataError, match="folds"):
        ceiling(
            PersonaTexts(tuple(texts), authors, values, TRAITS), noise=NOISE, folds=31
        )


def test_distinct_n_by_hand():
    words = [["a", "b", "a", "b"], ["a", "b", "c", "d"]]
    assert distinct(words, 1) == 4 / 8
    assert distinct(words, 2) == 4 / 6  # ab ba bc cd
    assert math.isnan(distinct([["a"]], 2))


def test_self_bleu_of_copies_is_one_and_of_strangers_near_none():
    same = [["a", "b", "c", "d", "e"]] * 3
    assert self_bleu(same) == pytest.approx(1)
    strangers = [[f"{i}{j}" for j in range(20)] for i in range(4)]
    assert self_bleu(strangers) < 0.02


def test_self_bleu_by_the_formula():
    """Clipped counts against the greatest of the other texts; equal lengths."""
    rng = np.random.default_rng(1)
    words = [[str(w) for w in rng.integers(4, size=12)] for _ in range(5)]

    def grams(text, n):
        return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

    scores = []
    for i, text in enumerate(words):
        logs = []
        for n in (1, 2, 3, 4):
            most: Counter = Counter()
            for j, other in enumerate(words):
                if j != i:
                    most |= grams(other, n)
            own = grams(text, n)
            hits = sum((own & most).values())
            logs.append(math.log((hits or 0.1) / sum(own.values())))
        scores.append(math.exp(sum(logs) / 4))
    assert self_bleu(words) == pytest.approx(np.mean(scores))


def test_diversity_is_of_a_fixed_number_of_words():
    texts = [f"{'A b ' * 10}{i}" for i in range(6)] + ["short"]
    words = cut(texts, count=4, words=12, noise=NOISE)
    assert [len(text) for text in words] == [12] * 4
    assert words[0][:2] == ["a", "b"]
    found = diversity(words)
    assert (found.texts, found.words, found.distinct[0]) == (4, 12, 2 / 48)
    with pytest.raises(DataError, match="6 of 7"):
        cut(texts, count=7, words=12, noise=NOISE)
    count, width = size_that_fits(texts, texts[:5], count=100)
    assert (count, width) == (4, 21)
    assert len(cut(texts[:5], count=count, words=width, noise=NOISE)) == count


class Uniform:
    """A denoiser whose law is the same everywhere."""

    mask_id, vocab_size, time_conditioned = 5, 13, False

    def __init__(self, law):
        self.law = law

    def hidden(self, batch: Batch, t=None):
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, states):
        return self.law.expand(len(states), -1)


def test_ordered_ppl_of_a_law_without_context_is_exact():
    law = torch.randn(13, generator=torch.Generator().manual_seed(0))
    batch = tiny_batch()
    found = ordered_ppl(Uniform(law), batch, orders=3, noise=NOISE)
    logs = law.index_fill(0, torch.tensor([5]), -torch.inf).log_softmax(0).double()
    nats = -logs[batch.tokens[batch.free]].mean()
    assert found.perplexity == pytest.approx(math.exp(nats), rel=1e-5)
    assert found.mixed == pytest.approx(found.perplexity, rel=1e-6)
    assert found.tokens == int(batch.free.sum())


def test_gen_ppl_is_the_mean_over_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[UNK]": 0, "one": 1, "two": 2, "three": 3}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    config = transformers.GPT2Config(
        vocab_size=4, n_positions=16, n_embd=8, n_layer=1, n_head=2
    )
    config.bos_token_id = config.eos_token_id = 0
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    texts = ["one two three two", "three one", "two"]
    found = gen_ppl(texts, tmp_path)
    nats = 0.0
    for ids in ([1, 2, 3, 2], [3, 1]):
        row = torch.tensor([ids])
        with torch.no_grad():
            nats += float(model(row, labels=row).loss) * (len(ids) - 1)
    assert found.perplexity == pytest.approx(math.exp(nats / 4), rel=1e-5)
    assert (found.texts, found.tokens) == (2, 4)
    entropy = (token_entropy([1, 2, 3, 2]) + math.log(2)) / 2
    assert found.entropy == pytest.approx(entropy)
    with pytest.raises(DataError, match="two tokens"):
        gen_ppl(["one"], tmp_path)
    with pytest.raises(UsageError, match="causal language model"):
        gen_ppl(texts, tmp_path / "nowhere")


def test_entropy_of_counts():
    assert token_entropy([7, 7, 7]) == 0
    assert token_entropy([1, 2, 3, 4]) == pytest.approx(math.log(4))


def test_mauve_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mauve", None)
    with pytest.raises(MissingExtraError, match=r"mdlm-personality\[mauve\]"):
        mauve(["a"], ["b"], model="gpt2")


def test_tables_are_markdown():
    assert markdown(("a", "bb"), [("x", 1), ("long", "2.0")]).splitlines() == [
        "| a    |  bb |",
        "| ---- | --: |",
        "| x    |   1 |",
        "| long | 2.0 |",
    ]
    assert markdown(("a", "r"), [("x", 1)]).splitlines()[1] == "| --- | --: |"
    assert json.dumps(markdown(("a",), []))


def test_the_fitted_judge_says_nothing_of_texts_without_known_words():
    texts = corpus(40)
    read = TextJudge().fit(texts).read(["", "zzz qqq", texts.texts[0]])
    assert np.isnan(read.scores[:2]).all()
    assert np.isnan(read.sides[:2]).all()
    assert not np.isnan(read.sides[2]).any()


def test_high_is_above_the_mean_of_what_was_fitted_to():
    texts = corpus(120)
    high = 0.6 + 0.4 * texts.values[:, :5]
    judge = TextJudge().fit(PersonaTexts(texts.texts, texts.authors, high, TRAITS))
    assert ((judge.read(texts.texts).sides.mean(0) - 0.5) < 0.2).all()
