"""The words of the invented persons tell one column and one side each."""

import re

from mdlm_personality.config.data import TIERS
from mdlm_personality.data import lexicon
from mdlm_personality.data.lexicon import COLUMNS, LABEL_TIERS, MEANING, pairs_of
from mdlm_personality.traits import TRAITS

ALL_FRAMES = [*lexicon.FRAMES, *(f for fs in lexicon.LABEL_FRAMES.values() for f in fs)]


def test_a_word_stands_in_one_pair_alone():
    assert len(MEANING) == 2 * sum(len(pairs_of(column)) for column in COLUMNS)
    for column in COLUMNS:
        for high, low in pairs_of(column):
            assert MEANING[high] == (column, 1)
            assert MEANING[low] == (column, 0)


def test_frames_tell_nothing():
    plain = {
        word
        for frame in ALL_FRAMES
        for word in re.findall(r"[a-z]+", re.sub(r"\{.\}", "", frame).lower())
    }
    assert not plain & set(MEANING)
    assert 150 <= len(plain | set(MEANING)) <= 300


def test_a_frame_is_a_sentence_with_two_places():
    for frame in ALL_FRAMES:
        places = re.findall(r"\{([abgh])\}", frame)
        assert len(places) == 2, frame
        assert 4 <= len(frame.split()) <= 9, frame
        assert frame[0].isupper()
        assert frame.endswith(".")
        assert frame.count(".") == 1


def test_every_column_has_words_and_labels_have_tiers():
    assert COLUMNS[:5] == TRAITS
    assert set(LABEL_TIERS.values()) <= set(TIERS)
    assert set(lexicon.LABEL_FRAMES) == set(lexicon.LABEL_WORDS) == set(LABEL_TIERS)
    assert set(lexicon.QUALITIES) == set(lexicon.PASTIMES) == set(TRAITS)
