"""No author is in two splits, and a split does not depend on what else there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.errors import DataError
from mdlm_personality.data.split import divide, held_out, same_author
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.traits import TRAITS

names = st.lists(st.text(max_size=6), min_size=1, max_size=60)


def texts_by(authors):
    rng = np.random.default_rng(len(authors))
    texts = tuple(f"text {i}" for i in range(len(authors)))
    return PersonaTexts(texts, tuple(authors), rng.random((len(authors), 5)), TRAITS)


@settings(max_examples=40)
@given(names, st.floats(0.05, 0.95))
def test_an_author_is_on_one_side(authors, holdout):
    texts = texts_by(authors)
    try:
        splits = divide(texts, holdout)
    except DataError:
        assert len({held_out(author, holdout) for author in authors}) == 1
        return
    train, out = splits["train"], splits["validation"]
    assert not set(train.authors) & set(out.authors)
    assert sorted(train.texts + out.texts) == sorted(texts.texts)


@settings(max_examples=40)
@given(st.text(max_size=8), st.floats(0.05, 0.5))
def test_what_is_held_out_stays_held_out_when_more_is(author, holdout):
    if held_out(author, holdout):
        assert held_out(author, holdout * 1.5)


def test_values_stay_with_their_texts():
    texts = texts_by([f"p{i % 40}" for i in range(100)])
    place = {text: row for row, text in enumerate(texts.texts)}
    for part in divide(texts, 0.3).values():
        rows = [place[text] for text in part.texts]
        np.testing.assert_array_equal(part.values, texts.values[rows])
        assert rows == sorted(rows)


def test_the_share_is_that_of_the_authors():
    found = np.mean([held_out(f"person-{i}", 0.1) for i in range(5000)])
    assert found == pytest.approx(0.1, abs=0.015)


def test_an_empty_split_says_the_way_out():
    with pytest.raises(DataError, match=r"of 1 author, data.holdout=0.1 leaves none"):
        divide(texts_by(["only", "only"]), 0.1)
    with pytest.raises(DataError, match="there are no persons"):
        divide(texts_by([]), 0.1)


@settings(max_examples=40)
@given(st.text(max_size=8), st.floats(0.05, 0.95))
def test_spellings_of_a_name_are_on_one_side(author, holdout):
    side = held_out(author, holdout)
    for other in (f"  {author}\t", author.casefold(), f"{author}".replace(" ", "  ")):
        assert held_out(other, holdout) == side
    assert same_author("ANN  Lee ") == same_author("ann lee") == "ann lee"
    assert same_author("A\u030angstr\u00f6m") == same_author("\u00e5ngstro\u0308m")
    assert same_author("ann") != same_author("anna")
