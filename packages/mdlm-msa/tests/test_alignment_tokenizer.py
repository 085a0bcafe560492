"""The tokenizer of alignments, against MSAGPT's ids written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_core.data.tokenizers import load_tokenizer
from mdlm_core.errors import DataError, UnknownNameError
from mdlm_core.protocols import Tokenizer
from mdlm_msa.tokenizer import AlignmentTokenizer

TOKENIZER = AlignmentTokenizer()
LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"


def test_ids_are_msagpts() -> None:
    assert TOKENIZER.encode("MKV-<M>MASK<M>") == [
        *(17, 12, 4, 27, 35),
        *(17, 2, 5, 12, 35),
    ], "MASK inside a protein is four residues"
    assert TOKENIZER.encode(" M K\n\tV ") == [17, 12, 4]
    assert TOKENIZER.encode("") == []
    assert TOKENIZER.vocab_size == 37
    assert isinstance(TOKENIZER, Tokenizer)


@given(st.lists(st.text(LETTERS, max_size=9), min_size=1, max_size=5))
def test_text_comes_back(rows: list[str]) -> None:
    text = "<M>".join(rows)
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.mask_id not in ids
    assert TOKENIZER.encode_array(text).tolist() == ids


def test_special_tokens_vanish_and_masks_show() -> None:
    ids = [29, 32, 17, 36, 36, 35, 12, 31, 0]
    assert TOKENIZER.decode(ids) == "M▒▒<M>K"
    assert TOKENIZER.decode(ids, mask="?") == "M??<M>K"
    with pytest.raises(DataError, match="id 37"):
        TOKENIZER.decode([37])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MKv", "'v' at place 3 of the query.*upper case"),
        ("MKV<M>MJV", "'J' at place 2 of row 2.*write X"),
        ("MKV<M>MKV<M>*", r"'\*' at place 1 of row 3"),
        ("[gMASK]MKV", r"'\[' at place 1 of the query.*by their ids"),
        ("MK1", "'1' at place 3"),
        ("M\u00e9", "'\u00e9' at place 2"),
    ],
)
def test_letters_without_an_id_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TOKENIZER.encode(text)


def test_commands_have_the_names_in_use() -> None:
    expected = {
        "[gMASK]": 29,
        "gMASK": 29,
        "sop": 32,
        "eop": 33,
        "eod": 31,
        "<M>": 35,
        "[pad]": 0,
        "MASK": 28,
        "tMASK": 28,
        "sMASK": 30,
        "eos": 34,
        "</s>": 34,
        "dMASK": 36,
        "DIFFUSION_MASK": 36,
    }
    for name, id_ in expected.items():
        assert TOKENIZER.get_command(name) == id_
    with pytest.raises(UnknownNameError, match="gMASK"):
        TOKENIZER.get_command("gMSK")


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, AlignmentTokenizer)
    assert loaded.fingerprint() == TOKENIZER.fingerprint()
