"""Rows by author, with what is known of each. R rows, L length, K columns."""

from itertools import islice

import numpy as np
import pytest
import torch

from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.errors import DataError
from mdlm_personality.config import PersonaCorpusConfig, PersonaTextConfig
from mdlm_personality.data.source import PersonaSource, build_corpus
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.traits import TRAITS

EOD = ByteTokenizer.eod_id


def some_texts(count=60, *, columns=TRAITS, tiers=None):
    """Texts of 20 authors, in mixed order."""
    rng = np.random.default_rng(3)
    authors = [f"a{i % 20}" for i in range(count)]
    of = rng.random((20, len(columns)))
    of[0, 1] = np.nan
    texts = [f"text {i} of {a}" + " etc" * (i % 5) for i, a in enumerate(authors)]
    values = of[[i % 20 for i in range(count)]]
    return PersonaTexts(
        tuple(texts), tuple(authors), values, tuple(columns), tiers or {}
    )


def source_of(texts, *, length=16, holdout=0.3):
    config = PersonaTextConfig(tokenizer="byte", length=length, holdout=holdout)
    return PersonaSource.from_texts(texts, config)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("length", [1, 7, 16, 400])
def test_an_authors_texts_follow_each_other_and_are_cut(split, length):
    source = source_of(some_texts(), length=length)
    texts = source.texts(split)
    expected = {}
    for author, text in zip(texts.authors, texts.texts, strict=True):
        expected.setdefault(author, []).extend([*text.encode(), EOD])
    found = []
    rows = []
    for batch in source.batches(split, size=1, seed=0):
        ids = batch.tokens[0][~batch.pad[0]].tolist()
        rows.append((int(batch.sample_id), ids, batch.condition["traits"][0]))
        if len(rows) == source.size(split):
            break
    owner = source.windows(split).authors
    joined = {}
    for row, ids, _ in sorted(rows, key=lambda row: row[0]):
        assert len(ids) <= length
        joined.setdefault(owner[row], []).extend(ids)
        found.append(owner[row])
    assert joined == expected
    assert found == sorted(found, key=list(expected).index)  # an author's rows together


def test_a_row_has_the_values_of_its_author():
    source = source_of(some_texts())
    texts = source.texts("train")
    of = dict(zip(texts.authors, texts.values, strict=True))
    owner = source.windows("train").authors
    for batch in islice(source.batches("train", size=4, seed=1), 20):
        for row, traits, known in zip(
            batch.sample_id.tolist(),
            batch.condition["traits"],
            batch.condition["known"],
            strict=True,
        ):
            expected = of[owner[row]]
            np.testing.assert_array_equal(known.numpy(), ~np.isnan(expected))
            np.testing.assert_allclose(
                traits.numpy(), np.nan_to_num(expected).astype(np.float32)
            )
        assert batch.condition["traits"].dtype == torch.float32
        assert batch.condition["known"].dtype == torch.bool


def test_statistics_are_of_the_training_persons():
    source = source_of(some_texts(50))  # some have two texts, some three
    texts = source.texts("train")
    of = np.stack(list(dict(zip(texts.authors, texts.values, strict=True)).values()))
    mean, std = source.statistics()
    np.testing.assert_allclose(mean, np.nanmean(of, axis=0))
    np.testing.assert_allclose(std, np.nanstd(of, axis=0))
    assert mean.dtype == std.dtype == np.float64


def test_statistics_of_what_does_not_vary_or_is_not_known():
    texts = some_texts(columns=(*TRAITS, "calm"), tiers={"calm": "beliefs"})
    values = texts.values.copy()
    values[:, 2], values[:, 4] = 0.7, np.nan
    same = PersonaTexts(texts.texts, texts.authors, values, texts.columns, texts.tiers)
    mean, std = source_of(same).statistics()
    assert (mean[2], std[2]) == (pytest.approx(0.7), 1e-6)
    assert (mean[4], std[4]) == (0.5, pytest.approx(12**-0.5))
    values[:, 5] = np.nan
    with pytest.raises(DataError, match="calm is not known of any of the"):
        source_of(same).statistics()


def test_an_author_with_several_values_is_several_persons_on_one_side():
    texts = some_texts(40)
    values = texts.values.copy()
    values[20:, 0] = 1 - values[:20, 0]  # each author has two texts
    source = source_of(PersonaTexts(texts.texts, texts.authors, values, TRAITS))
    card = source.card()["splits"]
    for split in ("train", "validation"):
        assert card[split]["persons"] == 2 * card[split]["authors"]
        windows = source.windows(split)
        pairs = set(zip(windows.authors, windows.values[:, 0], strict=True))
        assert len(pairs) == card[split]["persons"]
    train = set(source.texts("train").authors)
    assert not train & set(source.texts("validation").authors)


def test_a_table_without_texts_has_one_frozen_token_a_person():
    values = np.random.default_rng(0).random((30, 5))
    names = tuple(f"line {i}" for i in range(30))
    texts = PersonaTexts(("",) * 30, names, values, TRAITS)
    config = PersonaTextConfig(holdout=0.2)
    source = PersonaSource.from_texts(texts, config)
    assert source.size("train") + source.size("validation") == 30
    batch = next(source.batches("train", size=4, seed=0))
    assert batch.tokens.shape == (4, 1)
    assert (batch.tokens == source.tokenizer.eod_id).all()
    assert not batch.free.any()
    assert not batch.pad.any()
    assert batch.condition["known"].all()


def test_the_corpus_tells_its_labels():
    config = PersonaCorpusConfig(authors=40, sentences=6, tokenizer="byte", length=64)
    source = build_corpus(config)
    assert source.labels == tuple(source.label_tiers)
    assert source.columns == (*TRAITS, *source.labels)
    assert source.completed(config) is config
    batch = next(source.batches("validation", size=2, seed=0))
    assert batch.condition["traits"].shape == (2, 10)
    assert source.table("train").shape[1] == 10


def test_default_words_are_single_tokens():
    """So that a window of 64 tokens holds about eight sentences."""
    source = build_corpus(PersonaCorpusConfig(authors=500))
    texts = source.windows("validation").texts
    sentences = [text.count(".") for text in texts]
    assert 7.5 < np.mean(sorted(sentences)[len(sentences) // 5 :]) < 10
    ids = source.tokenizer.encode(
        "I am lively and kind. So anxious, and fond of sorting."
    )
    assert len(ids) == 14


def test_requests_that_cannot_be_served():
    source = source_of(some_texts())
    rows = source.size("train")
    with pytest.raises(DataError, match=rf"has {rows} rows of 16 tokens"):
        source.batches("train", size=rows + 1, seed=0)
    with pytest.raises(DataError, match="no split 'test'"):
        source.texts("test")
    assert source.steps_per_epoch(7) == rows // 7


def test_values_and_texts_must_belong_together():
    with pytest.raises(DataError, match=r"it must be \(2, 5\)"):
        PersonaTexts(("a", "b"), ("x", "y"), np.zeros((2, 4)), TRAITS)


def test_the_card_changes_with_the_values():
    texts = some_texts()
    one, again = source_of(texts).card(), source_of(texts).card()
    other = PersonaTexts(texts.texts, texts.authors, texts.values * 0.9, TRAITS)
    assert one == again
    assert one["splits"] != source_of(other).card()["splits"]


def test_rows_are_asked_for_by_their_places():
    source = source_of(some_texts(50))
    owners, windows = source.owners("train"), source.windows("train")
    assert len(owners) == source.size("train")
    places = [5, 0, 5]
    batch = source.rows("train", places)
    assert batch.sample_id.tolist() == places
    for row, place in enumerate(places):
        values = source.table("train")[owners[place]]
        np.testing.assert_array_equal(values, windows.values[place])
        known = batch.condition["known"][row].numpy()
        np.testing.assert_array_equal(known, ~np.isnan(values))
        ids = batch.tokens[row][~batch.pad[row]].tolist()
        assert source.tokenizer.decode(ids) == windows.texts[place]
