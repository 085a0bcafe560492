"""How much of a validation text stands in a training text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_atat.datasets import overlap as module
from mdlm_atat.datasets.overlap import _Words, find_overlap, hash_runs, overlap
from mdlm_core import DataError


def numbers(first: int, last: int) -> str:
    return " ".join(f"w{number}" for number in range(first, last))


@pytest.fixture
def write(tmp_path):
    def write(name: str, *documents: str):
        path = tmp_path / name
        lines = [json.dumps({"text": text}) for text in documents]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return write


def test_text_of_its_own_does_not_overlap_and_a_copy_does(write):
    train = write("train.jsonl", numbers(0, 400))
    assert overlap(train, write("other.jsonl", numbers(1000, 1400))) == 0
    assert overlap(train, write("copy.jsonl", numbers(0, 400))) == 1


def test_share_is_that_of_the_planted_runs(write):
    train = write("train.jsonl", numbers(0, 1000))
    val = write("val.jsonl", numbers(900, 1300))  # 400 words, the first 100 known
    found = find_overlap(train, val)
    assert (found.runs, found.found) == (351, 51)
    assert found.share == 51 / 351
    assert found.example == numbers(900, 950)
    assert found.searched == 1


def test_where_the_training_text_was_cut_does_not_matter(write):
    val = write("val.jsonl", numbers(100, 300))
    pieces = [numbers(i, i + 30) for i in range(0, 600, 30)]
    assert overlap(write("train.jsonl", *pieces), val) == 1


def test_short_documents_are_compared_as_a_whole(write):
    train = write("train.jsonl", "a b c", numbers(0, 100), "d e")
    val = write("val.jsonl", "A  B\nC", "a b", "d e", "b c d")
    found = find_overlap(train, val)
    assert (found.runs, found.found) == (4, 2)


def test_blocks_join_without_a_gap(write, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 64)
    pieces = [numbers(i, i + 37) for i in range(0, 740, 37)]
    val = write("val.jsonl", numbers(0, 740))
    assert overlap(write("train.jsonl", *pieces), val) == 1


def test_sample_of_runs_estimates_the_share(write):
    train = write("train.jsonl", numbers(0, 5000))
    val = write("val.jsonl", numbers(2000, 12000))
    whole = find_overlap(train, val)
    part = find_overlap(train, val, runs=1000, seed=3)
    assert (whole.runs, part.runs) == (9951, 1000)
    error = (whole.share * (1 - whole.share) / part.runs) ** 0.5
    assert abs(part.share - whole.share) < 4 * error
    assert find_overlap(train, val, runs=1000, seed=3) == part
    assert find_overlap(train, val, runs=1000, seed=4) != part


def test_part_of_a_large_training_file_is_read_and_said(write):
    pages = [numbers(100 * i, 100 * i + 100) for i in range(200)]
    train, val = write("train.jsonl", *pages), write("val.jsonl", *pages)
    size = train.stat().st_size
    found = find_overlap(train, val, train_bytes=size // 4)
    assert found.searched == pytest.approx(0.25, rel=1e-3)
    assert abs(found.share - 0.25) < 4 * (0.25 * 0.75 / 200) ** 0.5


def test_plain_text_is_read_too(tmp_path, write):
    plain = tmp_path / "train.txt"
    plain.write_text(numbers(0, 100) + "\n\n" + numbers(100, 200))
    assert overlap(plain, write("val.jsonl", numbers(0, 200))) == 1


def test_nothing_to_look_for_is_refused(write):
    with pytest.raises(DataError, match="no words to look for"):
        overlap(write("train.jsonl", "a"), write("val.jsonl", " "))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("ab"), max_size=30),
    st.lists(st.sampled_from("ab"), max_size=30),
    st.integers(min_value=1, max_value=4),
)
def test_hashes_are_equal_where_the_runs_are(one, two, words):
    hasher = _Words()

    def pairs(text):
        hashes = hash_runs(hasher(" ".join(text)), words)
        runs = [tuple(text[i : i + words]) for i in range(len(text) - words + 1)]
        if 0 < len(text) < words:
            runs = [tuple(text)]
        assert len(runs) == len(hashes)
        return list(zip(runs, hashes.tolist(), strict=True))

    known = pairs(one) + pairs(two)
    assert len(set(known)) == len({run for run, _ in known})
    assert len(set(known)) == len({value for _, value in known})


def test_hash_is_the_polynomial():
    values = np.array([3, 5, 2**63, 7], dtype=np.uint64)
    base, modulus = module._BASE, 2**64
    want = [
        sum(int(values[i + k]) * base ** (2 - k) for k in range(3)) % modulus
        for i in range(2)
    ]
    assert hash_runs(values, 3).tolist() == want
