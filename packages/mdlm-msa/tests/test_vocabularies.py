"""Which vocabulary has which id where, by a table written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdlm_core.errors import CheckpointError, DataError, UnknownNameError
from mdlm_msa.alphabet import BANNED, MASK, TOKENS, WRITTEN
from mdlm_msa.vocabulary import (
    VOCABULARIES,
    bans,
    convert_ids,
    detect_vocabulary,
    vocabulary,
)

# name: gMASK, sop, eop, </s>, <M>, diffusion mask
TABLE = {
    "msagpt36": (29, 32, 33, 34, 35, None),
    "seed37": (29, 32, 33, 34, 35, 36),
    "seed37-train": (28, 31, 32, 33, 34, 36),
    "compact32": (28, 29, None, None, 30, 31),
}


def test_special_ids_are_those_of_the_table() -> None:
    assert set(VOCABULARIES) == set(TABLE)
    for name, expected in TABLE.items():
        ids = VOCABULARIES[name].ids
        found = tuple(
            ids.get(token) for token in ("gMASK", "sop", "eop", "</s>", "<M>", "dMASK")
        )
        assert found == expected
        assert str(VOCABULARIES[name].size) in name


def test_letters_agree_everywhere() -> None:
    letters = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
    for known in VOCABULARIES.values():
        assert [known.ids[letter] for letter in letters] == list(range(1, 28))
        assert known.ids["[pad]"] == 0
        assert known.tokens[27] == "-", "the gap, also where MASK has its id"


def test_this_alphabet_is_seed37() -> None:
    assert {token: i for i, token in enumerate(TOKENS)} == VOCABULARIES["seed37"].ids


def test_a_canvas_is_converted() -> None:
    canvas = np.array([[29, 32, 17, 27, 35, 36, 1, 35]])
    assert convert_ids(canvas, "seed37", "seed37-train").tolist() == [
        [28, 31, 17, 27, 34, 36, 1, 34]
    ]
    assert convert_ids(canvas, "seed37", "compact32").tolist() == [
        [28, 29, 17, 27, 30, 31, 1, 30]
    ]
    for name in ("seed37-train", "compact32"):
        there = convert_ids(canvas, "seed37", name)
        assert (convert_ids(there, name, "seed37") == canvas).all()
    assert convert_ids([], "seed37", "compact32").shape == (0,)


def test_what_has_no_id_is_refused() -> None:
    with pytest.raises(DataError, match=r"dMASK.*id 36 in seed37.*msagpt36"):
        convert_ids([1, MASK], "seed37", "msagpt36")
    with pytest.raises(DataError, match="eop"):
        convert_ids([33], "seed37", "compact32")
    with pytest.raises(DataError, match=r"id 35 means nothing.* seed37-train"):
        convert_ids([35], "seed37-train", "seed37")
    with pytest.raises(UnknownNameError, match="did you mean seed37"):
        vocabulary("sed37")


def embedding(moved: set[int], rows: int, shrink: float = 1.0) -> np.ndarray:
    """Draw an embedding in which training moved the letters and `moved`."""
    random = np.random.default_rng(5)
    matrix = random.normal(0, 0.02 * shrink, (rows, 256))
    for row in {*range(1, 28), *moved}:
        matrix[row] = random.normal(0, 0.1, 256)
    return matrix


@pytest.mark.parametrize("rows", [37, 128])
@pytest.mark.parametrize("name", list(TABLE))
def test_the_rows_that_moved_tell_the_vocabulary(name: str, rows: int) -> None:
    gmask, sop, _, _, separator, mask = TABLE[name]
    moved = {i for i in (gmask, sop, separator, mask) if i is not None}
    assert detect_vocabulary(embedding(moved, rows)).name == name
    tensor = torch.from_numpy(embedding(moved, rows)).requires_grad_()
    assert detect_vocabulary(tensor).name == name
    ends = {i for i in TABLE[name][2:4] if i is not None}
    assert detect_vocabulary(embedding(moved | ends, rows)).name == name


def test_weight_decay_of_unused_rows_is_no_training() -> None:
    moved = {28, 31, 34, 36}
    shrunk = embedding(moved, 128, shrink=0.5)
    assert detect_vocabulary(shrunk).name == "seed37-train"
    with pytest.raises(CheckpointError, match=r"moved 28, 29, .* no known vocabulary"):
        detect_vocabulary(embedding(moved, 37, shrink=0.5))  # nothing to compare with


@pytest.mark.parametrize("moved", [set(), {28, 29}, {29, 35, 36}, {29, 30, 31, 32}])
def test_doubt_is_refused(moved: set[int]) -> None:
    with pytest.raises(CheckpointError, match="name the vocabulary"):
        detect_vocabulary(embedding(moved, 128))


def test_too_small_an_embedding_is_refused() -> None:
    with pytest.raises(CheckpointError, match="at least 32 rows"):
        detect_vocabulary(np.zeros((20, 8)))


def test_bans() -> None:
    assert bans() == BANNED
    assert set(bans()) | set(WRITTEN) == set(range(37))
    assert bans("msagpt") == (0, 26, 28, 29, 30, 31, 32)
    assert set(bans("msagpt", no_gap=True)) == {0, 26, 27, 28, 29, 30, 31, 32}
    assert 27 in bans(no_gap=True)
    assert 27 not in bans()
    assert 35 in bans(), "a separator is never drawn inside a row"
