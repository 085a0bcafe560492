"""Words and marks as ids: what is a token, and that nothing moves on the way back."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_classify.data.document import encode
from mdlm_classify.tokenizer import WordTokenizer, join, split, train_words
from mdlm_core.data.tokenizers import DEFINITION, load_tokenizer
from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Tokenizer


@pytest.fixture(scope="module")
def words() -> WordTokenizer:
    return WordTokenizer(["good", "movie", ".", "a", "don't", ","])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's GOOD, isn't it?", ["it's", "good", ",", "isn't", "it", "?"]),
        ("'tis the dogs' rock'n'roll", ["'", "tis", "the", "dogs", "'", "rock'n'roll"]),
        ("isn\u2019t", ["isn't"]),
        ("3.50 x_y\t\n(ok)", ["3", ".", "50", "x", "_", "y", "(", "ok", ")"]),
        ("Cafe\u0301 CAF\u00c9", ["caf\u00e9", "caf\u00e9"]),
        ("\u6620\u753bok\u3067", ["\u6620", "\u753b", "ok", "\u3067"]),
        ("\u0939\u093f\u0928\u094d", ["\u0939\u093f\u0928\u094d"]),
        (" \n\t ", []),
        ("\U0001f600!", ["\U0001f600", "!"]),
    ],
)  # fmt: skip
def test_words_and_marks_are_tokens(text: str, tokens: list[str]) -> None:
    assert split(text) == tokens


@settings(deadline=None, max_examples=300)
@given(st.text() | st.text(alphabet="ab'\u2019\"-_.,( \u0301\u0130\u4e2d"))
def test_joined_tokens_are_divided_as_before(text: str) -> None:
    tokens = split(text)
    assert split(join(tokens)) == tokens


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="ab'\"-. \u0301"))
def test_decoded_text_stays_as_it_is(text: str) -> None:
    tokenizer = train_words(["a b ' . aa ab"], 4)
    once = tokenizer.decode(tokenizer.encode(text))
    ids = tokenizer.encode(once)
    assert ids == tokenizer.encode(text)
    assert tokenizer.decode(ids) == once
    assert tokenizer.mask_id not in ids


def test_text_reads_well() -> None:
    text = 'he said: "no (really)!", didn\'t he? well-known, $5'
    assert join(split(text)) == text


def test_ids_are_words_then_unknown_end_and_mask(words: WordTokenizer) -> None:
    assert isinstance(words, Tokenizer)
    assert (words.unknown_id, words.eod_id, words.mask_id) == (6, 7, 8)
    assert words.vocab_size == 9
    assert words.encode("A good film, don't") == [3, 0, 6, 5, 4]
    assert words.decode([3, 8, 8, 1, 2, 7]) == "a ▒ ▒ movie."
    assert words.decode([6, 0], mask="_") == "\ufffd good"
    with pytest.raises(DataError, match="9 is not in the vocabulary"):
        words.decode([9])


def test_words_go_by_frequency_then_alphabet() -> None:
    texts = ["b b a a c", "c d e e e \ufffd \ufffd \ufffd \ufffd"]
    counts = Counter(["b", "b", "a", "a", "c", "c", "d", "e", "e", "e"])
    expected = sorted(counts, key=lambda word: (-counts[word], word))
    assert list(train_words(texts, 100).words) == expected
    assert train_words(texts, 2).words == ("e", "a")
    assert train_words(texts, 100, min_count=2).words == ("e", "a", "b", "c")
    assert train_words(reversed(texts), 100).fingerprint() == (
        train_words(texts, 100).fingerprint()
    )
    with pytest.raises(DataError, match="no word occurs 9 times"):
        train_words(texts, 5, min_count=9)


def test_saved_words_are_loaded(words: WordTokenizer, tmp_path: Path) -> None:
    words.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, WordTokenizer)
    assert loaded.fingerprint() == words.fingerprint()
    assert (loaded.words, loaded.name) == (words.words, words.name)
    definition = json.loads((tmp_path / DEFINITION).read_text())
    definition["words"][0] = 7
    (tmp_path / DEFINITION).write_text(json.dumps(definition))
    with pytest.raises(DataError, match="words that are no text"):
        load_tokenizer(tmp_path)


def test_another_order_is_another_tokenizer(words: WordTokenizer) -> None:
    other = WordTokenizer(words.words[::-1])
    assert other.fingerprint() != words.fingerprint()
    with pytest.raises(DataError, match="'a' stands twice"):
        WordTokenizer(["a", "b", "a"])


def test_half_of_a_surrogate_pair_is_refused(words: WordTokenizer) -> None:
    with pytest.raises(DataError, match=r"U\+D800"):
        words.encode("a \ud800")


def test_a_long_text_becomes_windows(words: WordTokenizer) -> None:
    document = encode(words, "good " * 7, length=3)
    assert document.windows == ((0, 0, 0), (0, 0, 0), (0,))
    assert (document.tokens, document.gaps) == (7, 0)
    empty = encode(words, " \n", length=3)
    assert (empty.windows, empty.tokens) == ((), 0)


def test_the_key_is_of_the_ids_alone(words: WordTokenizer) -> None:
    keys = {encode(words, text, length=4).key for text in ("Good movie", "good  movie")}
    assert len(keys) == 1
    key = keys.pop()
    assert 0 <= key < 2**63
    assert encode(words, "good movie", length=1).key == key
    assert encode(words, "movie good", length=4).key != key
    texts = [f"{'good ' * i}movie" for i in range(500)]
    assert len({encode(words, text, length=4).key for text in texts}) == 500


def test_gaps_are_missing_tokens(words: WordTokenizer) -> None:
    document = encode(words, "a ___ movie ____{3}.", length=4, gaps=True)
    assert document.windows == ((3, 8, 1, 8), (8, 8, 2))
    assert (document.gaps, document.tokens) == (4, 3)
    as_text = encode(words, "a ___", length=9)
    assert as_text.windows == ((3, 6, 6, 6),)
    assert as_text.gaps == 0
    only = encode(words, "____{2}", length=4, gaps=True)
    assert (only.tokens, only.gaps) == (0, 2)
    for bad in ("____{0}", "____{100001}"):
        with pytest.raises(UsageError, match="it must have 1 to 100000"):
            encode(words, bad, length=4, gaps=True)
