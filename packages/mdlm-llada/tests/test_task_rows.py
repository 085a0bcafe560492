"""The examples of a task as a data source."""

from __future__ import annotations

import json

import pytest

from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_llada.config import TaskRowsConfig
from mdlm_llada.data.examples import encode
from mdlm_llada.data.sources import build_task_rows
from mdlm_llada.registry import Example

from .toy_tokenizer import BEGIN, TURN, write_tokenizer


def texts(source, split):
    """Return (prompt, answer) as each row of a split decodes."""
    found = []
    for batch in source.batches(split, size=1, seed=0):
        ids, there = batch.tokens[0], ~batch.pad[0]
        prompt = ids[batch.frozen[0] & there].tolist()
        answer = ids[batch.free[0]].tolist()
        decode = source.tokenizer.decode
        found.append((decode(prompt), decode(answer[:-1]), answer[-1]))
    return found


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sums(count, start=0):
    return [
        {"question": f"{i:03d}+{i + 1:03d}", "answer": f"#### {2 * i + 1}"}
        for i in range(start, start + count)
    ]


def test_generated_examples_are_held_out_by_the_task():
    source = build_task_rows(TaskRowsConfig(rows=300, held_out=60, max_length=64))
    assert (source.size("train"), source.size("validation")) == (300, 60)
    held = source.examples("validation")
    assert {e.prompt for e in held}.isdisjoint(
        {e.prompt for e in source.examples("train")}
    )
    assert texts(source, "validation") == [
        (e.prompt + "\n", e.answer, 256) for e in held
    ]
    left, _, right = held[0].prompt.partition("+")
    assert held[0].answer.endswith(f"#### {int(left) + int(right)}")
    assert source.template == "plain"
    assert source.length == 64


def test_examples_stay_beside_their_rows_when_rows_are_dropped():
    source = build_task_rows(TaskRowsConfig(rows=200, held_out=50, max_length=42))
    dropped = source.card()["too_long"]["validation"]["dropped"]
    assert 0 < dropped < 50
    assert source.size("validation") == 50 - dropped
    assert [(p, a) for p, a, _ in texts(source, "validation")] == [
        (e.prompt + "\n", e.answer) for e in source.examples("validation")
    ]


def test_a_share_of_a_file_is_held_out(tmp_path):
    write(tmp_path / "train.jsonl", sums(200))
    write(tmp_path / "test.jsonl", sums(7, 500))
    settings = {"path": str(tmp_path), "rows": 0, "max_length": 64}
    source = build_task_rows(TaskRowsConfig(**settings, train_ratio=0.8))
    sides = [{e.prompt for e in source.examples(s)} for s in ("train", "validation")]
    assert sides[0] | sides[1] == {row["question"] for row in sums(200)}
    assert not sides[0] & sides[1]
    assert 20 < len(sides[1]) < 60
    longer = build_task_rows(
        TaskRowsConfig(**settings, train_ratio=0.8, template="none")
    )
    assert {e.prompt for e in longer.examples("validation")} == sides[1]
    limited = build_task_rows(
        TaskRowsConfig(**{**settings, "rows": 30}, train_ratio=0.8, held_out=10)
    )
    assert (limited.size("train"), limited.size("validation")) == (30, 10)


def test_without_a_held_out_share_the_test_split_is_measured(tmp_path):
    write(tmp_path / "train.jsonl", sums(20))
    write(tmp_path / "test.jsonl", sums(7, 500))
    settings = {"rows": 0, "max_length": 64, "train_ratio": 1.0}
    source = build_task_rows(TaskRowsConfig(path=str(tmp_path), **settings))
    assert (source.size("train"), source.size("validation")) == (20, 7)
    one = build_task_rows(
        TaskRowsConfig(path=str(tmp_path / "train.jsonl"), **settings)
    )
    assert (one.size("train"), one.size("validation")) == (20, 0)
    assert list(one.batches("validation", size=4, seed=0)) == []


def test_the_chat_template_is_that_of_the_tokenizer(tmp_path):
    name = write_tokenizer(tmp_path)
    config = TaskRowsConfig(tokenizer=name, rows=8, held_out=4, max_length=128)
    source = build_task_rows(config)
    assert source.template == "llada"
    batch = next(source.batches("validation", size=1, seed=0))
    ids = batch.tokens[0]
    assert int(ids[0]) == BEGIN
    assert batch.frozen[0, 0]
    assert int(ids[batch.free[0]][-1]) == TURN
    assert int((ids == TURN).sum()) == 2  # the user's turn, and the answer


def test_what_cannot_be_learned_is_refused(tmp_path):
    tokenizer = ByteTokenizer()
    with pytest.raises(DataError, match=r"'x' has no answer to learn.*'42'"):
        encode(tokenizer, Example("x", "?", "", "42"), "plain")
    with pytest.raises(DataError, match=r"'x': character 1 of a text is U\+D800"):
        encode(tokenizer, Example("x", "a\ud800", "b", ""), "plain")
    with pytest.raises(UnknownNameError, match="addition"):
        build_task_rows(TaskRowsConfig(task="aditon"))
    with pytest.raises(ConfigError, match="llada needs the special tokens"):
        build_task_rows(TaskRowsConfig(template="llada", rows=4, held_out=4))
    with pytest.raises(DataError, match=r"train split of task 'addition' .* 8 tokens"):
        build_task_rows(TaskRowsConfig(rows=4, held_out=4, max_length=8))
