"""Splitting by hash and packing into rows, against independent counts."""

from __future__ import annotations

import random
from hashlib import sha256

import numpy as np
import pytest

from mdlm_core import cache as cache_module
from mdlm_core.cache import cache_folder, cached, write_atomic
from mdlm_core.data import packing
from mdlm_core.data.packing import Packed, pack, token_dtype
from mdlm_core.data.split import SPLITS, is_held_out, survey
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.errors import DataError

DOCUMENTS = [f"document {i}: " + "lorem ipsum " * (i % 5) for i in range(60)]


def packed(documents, *, eod=True, holdout=0.3, tokenizer=None):
    found = survey(documents, holdout)
    return {
        split: pack(
            tokenizer or ByteTokenizer(),
            found.select(documents, split),
            found.facts[split],
            eod=eod,
        )
        for split in SPLITS
    }


# From sha256sum: the first 16 hex digits are below 0.2 * 16^16; the hash of the hashes.
HELD_OUT = [6, 11, 23, 37, 45, 50, 53]
VALIDATION_HASH = "2b6ab02e8d400bf602e6f4865c5aea3235d8dc21f7d7bb26c7232b8af3ddc465"


# ---- split ------------------------------------------------------------------


def test_the_split_is_fixed():
    """Published constants: held-out text must stay held out in every version."""
    found = survey(DOCUMENTS, 0.2)
    held_out = [i for i, side in enumerate(found.sides) if side == 1]
    assert held_out == HELD_OUT
    assert found.facts["validation"].sha256 == VALIDATION_HASH


def test_a_document_is_on_one_side_whatever_stands_around_it():
    side_of = dict(zip(DOCUMENTS, survey(DOCUMENTS, 0.3).sides, strict=True))
    mixed = [*DOCUMENTS, *DOCUMENTS[:20], "something new", "and more"]
    random.Random(0).shuffle(mixed)
    for text, side in zip(mixed, survey(mixed, 0.3).sides, strict=True):
        assert side_of.get(text, side) == side


def test_a_smaller_share_is_part_of_a_larger_one():
    small, large = (set(np.flatnonzero(survey(DOCUMENTS, h).sides)) for h in (0.1, 0.4))
    assert small < large


def test_the_share_is_what_was_asked_for():
    digests = [sha256(str(i).encode()).digest() for i in range(20_000)]
    held_out = sum(is_held_out(digest, 0.05) for digest in digests)
    assert abs(held_out - 1000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5


def test_the_hash_knows_content_and_order():
    hashes = {
        survey(documents, 0.3).facts["train"].sha256
        for documents in (DOCUMENTS, DOCUMENTS[::-1], DOCUMENTS[1:], DOCUMENTS * 2)
    }
    assert len(hashes) == 4


def test_facts_are_counts():
    found = survey([*DOCUMENTS, "", "ä" * 10], 0.3)
    assert found.empty == 1
    facts = found.facts
    assert facts["train"].documents + facts["validation"].documents == 61
    total = sum(len(text) for text in DOCUMENTS) + 20
    assert facts["train"].bytes + facts["validation"].bytes == total


@pytest.mark.parametrize("documents", [[], [""], ["", ""]])
def test_no_text_is_refused(documents):
    with pytest.raises(DataError, match="there is no text"):
        survey(documents, 0.5)


def test_an_empty_split_is_refused_with_the_way_out():
    with pytest.raises(DataError, match=r"validation split is empty.*raise data\.hold"):
        survey(DOCUMENTS[:3], 1e-9)
    with pytest.raises(DataError, match=r"training split is empty.*lower data\.holdo"):
        survey(DOCUMENTS[:3], 1 - 1e-9)
    with pytest.raises(DataError, match=r"of 1 document, .*split_on=blank-line"):
        survey(["one single file"], 0.05)


def test_data_that_changes_while_it_is_read_is_noticed():
    documents = list(DOCUMENTS)
    found = survey(documents, 0.3)
    for changed in (documents[:-1], [*documents, "more"]):
        with pytest.raises(DataError, match="changed while it was read"):
            list(found.select(changed, "train"))


# ---- packing ----------------------------------------------------------------


@pytest.mark.parametrize("eod", [True, False])
def test_the_tokens_are_the_documents_end_to_end(eod):
    found = survey(DOCUMENTS, 0.3)
    end = [256] if eod else []
    for split, result in packed(DOCUMENTS, eod=eod).items():
        side = SPLITS.index(split)
        expected: list[int] = []
        ends: list[int] = []
        for text, its in zip(DOCUMENTS, found.sides, strict=True):
            if its == side:
                expected += [*text.encode(), *end]
                ends.append(len(expected))
        assert result.tokens.tolist() == expected
        assert result.ends.tolist() == ends


class Slow:
    """The byte tokenizer with nothing but what the protocol asks for."""

    def __init__(self):
        inner = ByteTokenizer()
        self.name, self.vocab_size = "slow", inner.vocab_size
        self.eod_id, self.pad_id, self.mask_id = 256, 256, 257
        self.encode, self.decode = inner.encode, inner.decode
        self.calls = 0

    def save(self, folder): ...

    def fingerprint(self):
        self.calls += 1
        return "slow"


class Parallel(Slow):
    def encode_many(self, texts):
        return [self.encode(text) for text in texts]


@pytest.mark.parametrize("tokenizer", [Slow(), Parallel()])
def test_every_way_to_encode_gives_the_same(tokenizer):
    fast, other = packed(DOCUMENTS), packed(DOCUMENTS, tokenizer=tokenizer)
    for split in SPLITS:
        assert np.array_equal(fast[split].tokens, other[split].tokens)
        assert np.array_equal(fast[split].ends, other[split].ends)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.int32)],
)
def test_tokens_are_kept_small(size, dtype):
    assert token_dtype(size) == dtype


def test_rows_drop_or_pad_the_remainder():
    ten = Packed(np.arange(10, dtype=np.uint16), np.array([4, 10]))
    dropped = ten.cut(4, pad_id=99, remainder=False)
    assert dropped.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    padded = ten.cut(4, pad_id=99, remainder=True)
    assert padded.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 99, 99]]
    assert ten.cut(5, pad_id=99, remainder=True).tolist() == [
        [*range(5)],
        [*range(5, 10)],
    ]
    assert ten.cut(11, pad_id=99, remainder=False).shape == (0, 11)


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_documents_encoded_together_stay_apart(chunk):
    encoded = packing.encode_documents(Parallel(), DOCUMENTS, eod=True, chunk=chunk)
    assert [ids.tolist() for ids in encoded] == [[*d.encode(), 256] for d in DOCUMENTS]


# ---- cache ------------------------------------------------------------------


def test_tokens_of_large_texts_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path))
    monkeypatch.setattr(packing, "_PAYS", 10)
    first = packed(DOCUMENTS, tokenizer=Slow())
    assert len(list((tmp_path / "tokens").iterdir())) == 2

    tokenizer = Slow()
    tokenizer.encode = None  # not used again
    again = packed(DOCUMENTS, tokenizer=tokenizer)
    for split in SPLITS:
        assert np.array_equal(first[split].tokens, again[split].tokens)
        assert first[split].tokens.dtype == again[split].tokens.dtype

    with pytest.raises(TypeError):  # another policy is another entry
        packed(DOCUMENTS, tokenizer=tokenizer, eod=False)


def test_a_stored_result_is_used_until_it_is_damaged(tmp_path, caplog):
    calls = []

    def build():
        calls.append(1)
        return b"result"

    for _ in range(2):
        assert cached("a/b.bin", build, folder=tmp_path) == b"result"
    assert len(calls) == 1
    path = tmp_path / "a" / "b.bin"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:10], whole[:-1] + b"!", whole + b"more"):
        path.write_bytes(damaged)
        assert cached("a/b.bin", build, folder=tmp_path) == b"result"
        assert path.read_bytes() == whole
    assert len(calls) == 6
    assert "is damaged" in caplog.text


def test_a_result_that_cannot_be_stored_is_still_returned(
    tmp_path, monkeypatch, caplog
):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "write_atomic", full)
    assert cached("a.bin", lambda: b"result", folder=tmp_path) == b"result"
    assert "No space left" in caplog.text


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError("lost power")

    monkeypatch.setattr(cache_module.os, "replace", fail)
    with pytest.raises(OSError, match="lost power"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen"
    monkeypatch.delenv("MDLM_CACHE")
    monkeypatch.setattr(cache_module, "_user_cache", lambda: tmp_path / "user")
    assert cache_folder() == tmp_path / "user" / "mdlm"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(cache_module, "_user_cache", lambda: tmp_path / "file")
    monkeypatch.setattr(cache_module.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_folder().parent == tmp_path
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "file" / "chosen"))
    with pytest.raises(OSError, match="file"):
        cache_folder()
