"""Words of a text: every token in one word, and each as it is written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_classify.tokenizer import train_words
from mdlm_classify.words import GAP, tail, words_of
from mdlm_core.data.bpe import train_bpe
from mdlm_core.data.tokenizers import ByteTokenizer

TEXT = "The Film's plot — it is NOT bad (though “long”).  I don't know Zyzzyva!\n"
KNOWN = train_words([TEXT.replace("Zyzzyva", "")], 100)
TOKENIZERS = [KNOWN, ByteTokenizer(), train_bpe(300, [TEXT], None)]
ALPHABET = "ab' .,\n(\u00e9\u4e00"


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda item: item.name)
def test_words_look_as_they_are_written(tokenizer):
    words = words_of(tokenizer, tokenizer.encode(TEXT), TEXT)
    assert "".join(w.before + w.text for w in words) + tail(words, TEXT) == TEXT
    shown = [word.text for word in words]
    assert {"Film's", "NOT", "bad", "don't", "Zyzzyva", "!"} <= set(shown)
    assert words[shown.index("I")].before == "  "


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda item: item.name)
@settings(max_examples=60, deadline=None)
@given(text=st.text(ALPHABET, max_size=20))
def test_every_token_is_in_one_word(tokenizer, text):
    ids = tokenizer.encode(text)
    words = words_of(tokenizer, ids, text)
    edges = [(word.first, word.end) for word in words]
    assert [i for first, end in edges for i in range(first, end)] == [*range(len(ids))]
    assert all(first < end for first, end in edges)
    assert all(word.before.strip() == "" for word in words)


def test_missing_tokens_are_words_of_their_own():
    ids = [*KNOWN.encode("the film"), *[KNOWN.mask_id] * 2, *KNOWN.encode("bad zyzzy")]
    words = words_of(KNOWN, ids, "The film ____{2} bad zyzzy")
    assert [w.text for w in words] == ["the", "\ufffd", GAP, GAP, "bad", "\ufffd"]
    assert [w.gap for w in words] == [False, False, True, True, False, False]
    assert [w.before for w in words] == ["", *[" "] * 5]
    assert words_of(KNOWN, []) == []
    written = words_of(TOKENIZERS[1], TOKENIZERS[1].encode(GAP), GAP)
    assert [(word.text, word.gap) for word in written] == [(GAP, False)]
