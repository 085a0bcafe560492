"""The commands of the documentation one after the other, at tiny size."""

import io
import json

import pytest

from mdlm_core.cli import run

SHORT = [
    "train.steps=2", "train.batch_size=4", "train.eval_every=0", "train.warmup=0",
    "train.precision=fp32", "task.eval_rows=2", "task.eval_draws=2",
    "model={name: llada, blocks: 1, width: 32, heads: 2, mlp_width: 64}",
]  # fmt: skip
EIGHT = ["--gen-length", "8", "--steps", "8", "--block-length", "8"]


@pytest.fixture
def sums(tmp_path):
    """Return files in GSM8K's format, with questions of our own."""
    for name, start in (("train", 2), ("test", 40)):
        rows = [
            {
                "question": f"Ann has {n} pens and buys {n} more. How many are there?",
                "answer": f"{n} + {n} = <<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}",
            }
            for n in range(start, start + 24)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    return tmp_path


def mdlm(*words):
    assert run([str(word) for word in words]) == 0, words


def test_from_files_to_a_scored_and_chatting_model(sums, monkeypatch, capsys):
    rows, model, answers = sums / "rows.jsonl", sums / "run", sums / "answers.jsonl"
    mdlm("llada", "preprocess", "--task", "gsm8k", "--path", sums / "train.jsonl",
         "--out", rows)  # fmt: skip
    sets = [word for text in SHORT for word in ("--set", text)]
    mdlm("train", "--preset", "llada/sft", "--set", f"data.path={rows}", *sets,
         "--device", "cpu", "--out", model)  # fmt: skip
    infer = ["llada", "infer", "--task", "gsm8k", "--path", sums / "test.jsonl",
             "--model", model, "--out", answers, "--rows", "4", *EIGHT]  # fmt: skip
    mdlm(*infer)
    written = answers.read_text()
    first = json.loads(written.splitlines()[0])
    assert {"task", "prompt", "gold_raw", "prediction", "meta"} <= first.keys()
    assert first["meta"]["index"] == 0
    mdlm(*infer)  # nothing is left to do
    assert answers.read_text() == written
    mdlm("llada", "score", "--task", "gsm8k", "--pred", answers)
    capsys.readouterr()
    mdlm("llada", "eval", "--task", "gsm8k", "--pred", answers, "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["total"] == 4
    monkeypatch.setattr("sys.stdin", io.StringIO("How many pens?\n"))
    mdlm("llada", "chat", model, *EIGHT)
    assert capsys.readouterr().out


def test_the_default_preset_answers_without_options(tmp_path, monkeypatch, capsys):
    sets = [word for text in (*SHORT, "task.eval_generate=0", "data.rows=8")
            for word in ("--set", text)]  # fmt: skip
    mdlm(
        "train", "--plugin", "llada", *sets, "--device", "cpu", "--out", tmp_path / "r"
    )
    answers = tmp_path / "answers.jsonl"
    mdlm("llada", "infer", "--task", "sudoku4", "--model", tmp_path / "r", "--out",
         answers, "--rows", "2")  # fmt: skip
    rows = answers.read_text().splitlines()
    nfe = [json.loads(line)["meta"]["nfe"] for line in rows]
    assert max(nfe) <= 17  # the answer's length in training
    mdlm("llada", "generate", tmp_path / "r", "--prompt", "1000020041200341")


def test_the_names_of_the_original(sums):
    """The old commands, module by module; what they run is what ours do."""
    from mdlm_llada.cli import app

    rows, model, answers = sums / "rows.jsonl", sums / "run", sums / "answers.jsonl"
    mdlm("llada", "preprocess", "--task", "llada_gsm8k", "--path", sums / "train.jsonl",
         "--out_file", rows)  # fmt: skip
    sets = [word for text in SHORT for word in ("--set", text)]
    mdlm("train", "--preset", "llada/sft", "--set", f"data.path={rows}", *sets,
         "--device", "cpu", "--out", model)  # fmt: skip
    words = ["infer", "--task", "gsm8k", "--path", str(sums / "test.jsonl"),
             "--out_file", str(answers), "--model_name", str(model), "--steps", "8",
             "--gen_length", "8", "--block_length", "8", "--rows", "3"]  # fmt: skip
    assert run(words, app) == 0
    assert run(["score", "--task", "gsm8k", "--pred_jsonl", str(answers)], app) == 0
