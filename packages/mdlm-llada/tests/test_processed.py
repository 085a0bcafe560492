"""Files of token ids: what is read, what is refused, what stands beside them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from mdlm_core.cli import run
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.testing.contract import cases
from mdlm_llada.config import ProcessedConfig, TaskRowsConfig
from mdlm_llada.data.preprocess import preprocess
from mdlm_llada.data.processed import read_processed
from mdlm_llada.data.rows import Fit
from mdlm_llada.data.sidecar import Sidecar
from mdlm_llada.data.sources import build_processed, build_task_rows
from mdlm_llada.registry import BaseTaskSpec, Example, get_task

from .toy_tokenizer import write_tokenizer


def write(path, *lines):
    path.write_text(
        "".join(
            (line if isinstance(line, str) else json.dumps(line)) + "\n"
            for line in lines
        )
    )
    return path


def made(out, task="addition", rows=40, tokenizer=None, **more):
    return preprocess(
        get_task(task) if isinstance(task, str) else task,
        out,
        split="train",
        cfg={"rows": rows},
        tokenizer=tokenizer or ByteTokenizer(),
        fit=Fit(64, "drop"),
        **more,
    )


def rows_of(source, split):
    """Return {tokens: prompt's length} of a split."""
    found = {}
    batches = source.batches(split, size=1, seed=0)
    for batch in islice(batches, source.size(split)):  # one epoch
        ids = batch.tokens[0][~batch.pad[0]].tolist()
        found[tuple(ids)] = len(ids) - int(batch.free.sum())
    return found


def test_every_name_of_a_field_is_read(tmp_path):
    file = write(
        tmp_path / "rows.jsonl",
        {"input_ids": [1, 2, 3], "prompt_length": 2, "labels": [-100, -100, 3]},
        {"ids": [4, 5], "prompt_len": 1},
        "",
        {"input_ids": [6, 7], "prompt_ids_len": 0},
        {"input_ids": [8]},
        {"input_ids": [9, 8], "ids": [9, 8], "prompt_length": 1, "prompt_len": 1},
    )
    found = [(r.ids, r.prompt_length) for r in read_processed(file, ByteTokenizer())]
    assert found == [([1, 2, 3], 2), ([4, 5], 1), ([6, 7], 0), ([8], 0), ([9, 8], 1)]


@pytest.mark.parametrize(
    ("line", "key", "rule"),
    [
        ('{"input_ids": [1, 2', "", "is no JSON"),
        ("[1, 2]", "", "holds a list"),
        ({"tokens": [1]}, "", "no 'input_ids'; its keys are 'tokens'"),
        ({"input_ids": []}, "input_ids", "not empty"),
        ({"input_ids": 7}, "input_ids", "list of whole numbers"),
        ({"input_ids": [1, True]}, "input_ids", "list of whole numbers"),
        ({"ids": [1, 2.0]}, "ids", "list of whole numbers"),
        ({"input_ids": [1, [2]]}, "input_ids", "list of whole numbers"),
        ({"input_ids": [1, 258]}, "input_ids", "id 258 at place 1 is not in"),
        ({"input_ids": [-100, 1]}, "input_ids", "id -100 at place 0 is not in"),
        ({"input_ids": [1, 257]}, "input_ids", "place 1 holds 257, the mask"),
        ({"input_ids": [1, 2], "prompt_length": 3}, "prompt_length", "has 2 tokens"),
        ({"input_ids": [1, 2], "prompt_len": 2}, "prompt_len", "an answer is left"),
        ({"input_ids": [1, 2], "prompt_length": -1}, "prompt_length", "from 0"),
        ({"input_ids": [1, 2], "prompt_length": "1"}, "prompt_length", "from 0"),
        ({"input_ids": [1, 2], "prompt_length": None}, "prompt_length", "from 0"),
        ({"input_ids": [1], "ids": [2]}, "input_ids", "with different values"),
        (
            {"input_ids": [1, 2], "prompt_length": 0, "prompt_ids_len": 1},
            "prompt_length",
            "with different values",
        ),
    ],
)
def test_a_broken_line_is_refused_by_place_key_and_rule(tmp_path, line, key, rule):
    file = write(tmp_path / "rows.jsonl", {"input_ids": [1, 2]}, line)
    with pytest.raises(DataError) as caught:
        list(read_processed(file, ByteTokenizer()))
    text = str(caught.value)
    assert f"{file}:2" in text
    assert key in text
    assert rule in text


def test_a_processed_file_gives_the_rows_of_the_task(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    made(path)
    source = build_processed(
        ProcessedConfig(path=str(path), train_ratio=0.75, max_length=64)
    )
    held, train = rows_of(source, "validation"), rows_of(source, "train")
    task = build_task_rows(TaskRowsConfig(rows=5, held_out=40, max_length=64))
    assert held
    assert not set(held) & set(train)
    found = {**held, **train}
    examples = get_task("addition").build_dataset("train", {"rows": 40})
    expected = {
        (*f"{e.prompt}\n{e.answer}".encode(), 256): len(e.prompt) + 1 for e in examples
    }
    assert found == expected
    assert source.template == task.template == "plain"
    assert source.examples("train") is None
    assert source.card()["task"] == "addition"


def test_what_is_held_out_does_not_move_with_length_order_or_more_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        {"input_ids": [i % 256, i // 256, 5, 6], "prompt_length": 2} for i in range(400)
    ]
    write(path, *lines)
    config = ProcessedConfig(path=str(path), train_ratio=0.8, too_long="truncate")
    held = rows_of(build_processed(config), "validation")
    assert 40 < len(held) < 120
    write(path, *lines[::-2])
    some = rows_of(build_processed(config), "validation")
    kept = {(i % 256, i // 256, 5, 6) for i in range(400)[::-2]}
    assert set(some) == set(held) & kept
    write(path, *lines)
    shorter = rows_of(build_processed(replace(config, max_length=3)), "validation")
    assert set(shorter) == {ids[:3] for ids in held}


def test_rows_to_measure_on_may_have_a_file(tmp_path):
    train = write(tmp_path / "a.jsonl", *({"input_ids": [i, 1]} for i in range(9)))
    held = write(tmp_path / "b.jsonl", *({"input_ids": [i, 2]} for i in range(4)))
    config = ProcessedConfig(path=str(train), validation_path=str(held))
    source = build_processed(config)
    assert source.size("train") == 9
    assert set(rows_of(source, "validation")) == {(i, 2) for i in range(4)}
    whole = build_processed(ProcessedConfig(path=str(train), train_ratio=1.0))
    assert (whole.size("train"), whole.size("validation")) == (9, 0)


def test_another_tokenizer_is_refused(tmp_path):
    name = write_tokenizer(tmp_path / "toy")
    path = tmp_path / "rows.jsonl"
    made(path)
    config = ProcessedConfig(path=str(path), tokenizer=name)
    with pytest.raises(DataError, match=r"made with the tokenizer 'byte' \(V 258") as e:
        build_processed(config)
    assert "data.tokenizer=byte" in str(e.value)
    build_processed(replace(config, tokenizer="byte"))


def test_a_changed_file_or_a_damaged_sidecar_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    sidecar = made(path)
    beside = tmp_path / "rows.jsonl.meta.json"
    assert Sidecar.read(path) == sidecar
    assert sidecar.rows == 40
    config = ProcessedConfig(path=str(path))
    with path.open("a") as file:
        file.write('{"input_ids": [1, 2]}\n')
    with pytest.raises(DataError, match="SHA-256 differs"):
        build_processed(config)
    for content, what in (
        ("{", "cannot be read"),
        ("[]", "no object"),
        ('{"tokenizer": 3}', r"'tokenizer' is 3, which is not a text; write"),
        ('{"tokenizer": "byte"}', r"'fingerprint' is missing; it should be a text"),
    ):
        beside.write_text(content)
        with pytest.raises(DataError, match=what):
            build_processed(config)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"input_ids": [1, 2', "is no JSON"),
        ('{"input_ids": [1, 2], "prompt_length": 9}', "'prompt_length': is 9"),
        ('{"input_ids": [1, 258]}', "id 258 at place 1"),
    ],
)
@pytest.mark.parametrize("key", ["path", "validation_path"])
def test_a_broken_line_is_named_before_the_hash(tmp_path, line, said, key):
    paths = {name: str(tmp_path / name) for name in ("path", "validation_path")}
    for path in paths.values():
        made(Path(path))
    with Path(paths[key]).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=rf"{key}:41'.*{said}"):
        build_processed(ProcessedConfig(**paths))


def test_rows_that_are_left_out_are_said_once(tmp_path, caplog, monkeypatch):
    lines = [{"input_ids": [i, *[1] * (i % 3)]} for i in range(60)]
    path = write(tmp_path / "rows.jsonl", *lines)
    config = ProcessedConfig(path=str(path), max_length=2, train_ratio=1.0)
    build_processed(config)
    said = "20 of 60 rows have more than data.max_length=2 tokens and are left out"
    assert caplog.text.count(said) == 1
    build_processed(replace(config, too_long="truncate"))
    assert caplog.text.count("tokens and are cut") == 1
    caplog.clear()
    monkeypatch.setenv("RANK", "1")
    build_processed(config)
    assert said not in caplog.text
    monkeypatch.delenv("RANK")
    build_task_rows(TaskRowsConfig(rows=50, held_out=5, max_length=43))
    assert "the train split of task 'addition': " in caplog.text


def test_a_file_without_a_sidecar_is_read_and_said(tmp_path, caplog):
    path = write(tmp_path / "old.jsonl", *({"ids": [i, 1]} for i in range(50)))
    with caplog.at_level(logging.WARNING):
        source = build_processed(ProcessedConfig(path=str(path)))
    assert "old.jsonl.meta.json" in caplog.text
    assert source.template == "unknown"
    assert source.card()["task"] == ""


def test_no_file_no_path_and_no_rows_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path is empty"):
        build_processed(ProcessedConfig())
    with pytest.raises(DataError, match="does not exist"):
        build_processed(ProcessedConfig(path=str(tmp_path / "none.jsonl")))
    one = write(tmp_path / "one.jsonl", {"input_ids": [1, 2]})
    with pytest.raises(DataError, match=r"train_ratio=0.9, has no rows"):
        build_processed(ProcessedConfig(path=str(one)))
    long = write(tmp_path / "long.jsonl", {"input_ids": [1, 2, 3]})
    with pytest.raises(DataError, match=r"all 1 have more than 2 tokens"):
        build_processed(ProcessedConfig(path=str(long), train_ratio=1.0, max_length=2))


class Failing(BaseTaskSpec):
    """Breaks off after a few examples."""

    name = "failing"

    def build_dataset(self, split, cfg):
        return [Example("0", "a", "b", ""), Example("1", "a", "", "c")]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    made(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="no answer to learn"):
        made(path, task=Failing())
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "rows.jsonl",
        "rows.jsonl.meta.json",
    ]
    build_processed(ProcessedConfig(path=str(path)))


def test_the_command_writes_counts_and_refuses(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    command = ["llada", "preprocess", "--task", "llada_addition", "--rows", "50"]
    assert run([*command, "--out_file", str(path), "--max_len", "42"]) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    dropped = 50 - len(lines)
    assert dropped > 0
    assert max(len(line["input_ids"]) for line in lines) == 42
    out = capsys.readouterr().out
    assert f"{len(lines)} rows of addition, train" in out
    assert f"{dropped} rows" in out
    assert run([*command, "--out", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["rows"] == 50
    assert record["fingerprint"] == ByteTokenizer().fingerprint()

    foreign = write(tmp_path / "mine.jsonl", {"text": "hello"})
    assert run([*command, "--out", str(foreign)]) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert "hello" in foreign.read_text()
    assert run([*command, "--out", str(foreign), "--force"]) == 0
    assert run([*command, "--out", str(path), "--cfg", "[1]"]) == 2
    assert run([*command, "--out", str(path), "--max-length", "5"]) == 1
    assert "--max-length" in capsys.readouterr().err


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    path = tmp_path_factory.mktemp("processed") / "rows.jsonl"
    made(path, rows=80)
    return path


NAMES = [
    case.id for case in cases("llada") if case.id.startswith("dataset-llada-processed-")
]


@pytest.mark.parametrize("name", NAMES)
def test_a_processed_file_keeps_the_laws_of_data(name, processed):
    settings = {"dataset-llada-processed": {"path": str(processed), "max_length": 64}}
    (case,) = [c for c in cases("llada", settings=settings) if c.id == name]
    assert not case.skipped
    case.run()
