"""The registry of tasks: names, settings, tasks of one's own. Without torch."""

import json
import subprocess
import sys

import pytest

from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_llada import registry
from mdlm_llada.registry import (
    BaseTaskSpec,
    Example,
    TaskSpec,
    get_task,
    list_tasks,
    register_task,
)

OWN = [
    *("addition", "arc", "countdown", "gsm8k", "humaneval"),
    *("jsonl", "math", "mbpp", "sudoku4"),
]


class Shout(BaseTaskSpec):
    name = "shout"

    def build_dataset(self, split, cfg):
        return [Example("0", "hi", "HI", "HI")]


class Duck:
    """Has the four methods and nothing else."""

    name = "duck"

    def build_dataset(self, split, cfg):
        return [Example("0", "say", "quack", "quack")]

    def collate_fn(self, batch):
        return list(batch)

    def postprocess(self, pred, cfg):
        return pred.strip().lower()

    def metrics(self, pred_path, gt_path, cfg):
        return {"accuracy": 0.25}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("name", OWN)
def test_every_task_loads_and_says_what_it_is(name):
    task = get_task(name)
    assert task.name == name
    assert isinstance(task, BaseTaskSpec)
    assert isinstance(task, TaskSpec)
    assert task.summary.endswith(".")
    assert list_tasks() == OWN


@pytest.mark.parametrize("name", ["llada_gsm8k", "llada-gsm8k", "GSM8K"])
def test_other_spellings_find_the_same_task(name):
    assert get_task(name).name == "gsm8k"


def test_an_unknown_name_tells_near_misses_and_all_names():
    with pytest.raises(UnknownNameError, match=r"'gsmk'.*did you mean 'gsm8k'") as e:
        get_task("gsmk")
    assert ", ".join(OWN) in str(e.value)


def test_a_task_is_registered_once():
    register_task("shout", Shout())
    assert get_task("shout").correct(
        " HI\n", get_task("shout").build_dataset("", {})[0]
    )
    assert "shout" in list_tasks()
    with pytest.raises(ConfigError, match="overwrite=True"):
        register_task("shout", Shout())
    with pytest.raises(ConfigError, match="overwrite=True"):
        register_task("gsm8k", Shout())
    register_task("gsm8k", Shout(), overwrite=True)
    assert get_task("llada_gsm8k").name == "shout"


@pytest.mark.parametrize("wrong", [Shout, 3, object()])
def test_what_is_no_task_is_refused(wrong):
    with pytest.raises(ConfigError, match="it must be an object of a class"):
        register_task("wrong", wrong)


def test_a_task_with_the_four_methods_alone():
    register_task("duck", Duck())
    task = get_task("duck")
    example = task.build_dataset("train", {})[0]
    assert task.correct("QUACK ", example)
    assert not task.correct("moo", example)
    assert task.metrics("p", None, {}) == {"accuracy": 0.25}
    assert task.collate_fn([example]) == [example]


def test_examples_collate_into_lists():
    rows = get_task("addition").collate_fn([Example("a", "p", "q", "g", {"n": 1})] * 2)
    assert rows["prompt"] == ["p", "p"]
    assert rows["meta"] == [{"n": 1}] * 2


def test_settings_are_checked_by_name():
    with pytest.raises(ConfigError, match=r"'extracton' \(did you mean 'extraction'"):
        get_task("gsm8k").check({"extracton": "strict"})
    with pytest.raises(ConfigError, match="no setting 'run_code'"):
        get_task("gsm8k").check({"run_code": True})
    get_task("humaneval").check({"run_code": True, "jobs": 1, "path": "x"})
    Shout().check({"anything": 1})


def test_a_task_of_a_plugin_is_found(tmp_path):
    (tmp_path / "shouting.py").write_text(
        "from mdlm_core import Ref, TaskSpec, hookimpl\n"
        "from mdlm_llada.registry import BaseTaskSpec, Example\n"
        "class Shout(BaseTaskSpec):\n"
        "    name = 'shout-loud'\n"
        "    def build_dataset(self, split, cfg):\n"
        "        return [Example('0', 'hi', 'HI', 'HI')]\n"
        "build = Shout().build\n"
        "@hookimpl\n"
        "def mdlm_tasks():\n"
        "    yield TaskSpec(name='shout-loud', summary='Shout.',\n"
        "        factory=Ref('shouting:build'),\n"
        "        config=Ref('mdlm_llada.config:SFTConfig'))\n"
    )
    program = (
        "from mdlm_llada.registry import get_task, import_tasks, list_tasks\n"
        "import json, sys\n"
        "import_tasks(['shouting'])\n"
        "task = get_task('shout_loud')\n"
        "heavy = [n for n in ('torch', 'numpy') if n in sys.modules]\n"
        "print(json.dumps([task.name, 'shout_loud' in list_tasks(), heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["shout-loud", True, []]


def test_what_is_said_to_be_light_is():
    program = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1].split(','):\n"
        "    importlib.import_module('mdlm_llada.' + name)\n"
        "from mdlm_llada.registry import get_task, known_names\n"
        "for name in known_names():\n"
        "    get_task(name)\n"
        "heavy = 'torch numpy scipy sympy transformers datasets'.split()\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))\n"
    )
    modules = (
        "registry,json_lines,harness,sandbox,cli.score,cli.eval,scoring.join,"
        "scoring.metrics,extract.latex,extract.equal,extract.expression"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, modules],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


def test_splits_stand_apart_unless_one_file_holds_all(tmp_path):
    task = get_task("sudoku4")
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    assert task.splits({}) == ("train", "test")
    assert task.splits({"path": str(tmp_path)}) == ("train", "test")
    assert task.splits({"path": str(file)}) == ()


GSM = [
    {"question": "How many?", "answer": "6 = <<2*3=6>>6.\n#### 1,006"},
    {"question": "How much?", "answer": "#### -3"},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_gsm8k_of_a_folder(tmp_path):
    write(tmp_path / "train.jsonl", GSM)
    task = get_task("gsm8k")
    examples = task.build_dataset("train", {"path": str(tmp_path)})
    assert [example.id for example in examples] == ["0", "1"]
    assert examples[0].answer == "6 = 6.\n#### 1,006"
    assert examples[0].gold == GSM[0]["answer"]
    kept = task.build_dataset("train", {"path": str(tmp_path), "annotations": True})
    assert kept[0].answer == GSM[0]["answer"]
    styled = task.build_dataset("train", {"path": str(tmp_path), "style": "lm-eval"})
    assert styled[0].prompt == "Question: How many?\nAnswer:"
    told = task.build_dataset("train", {"path": str(tmp_path), "instructions": True})
    assert told[0].prompt == f"{task.instructions}\n\nHow many?"
    assert len(task.build_dataset("train", {"path": str(tmp_path), "rows": 1})) == 1
    with pytest.raises(DataError, match=r"'test'; looked for test\.jsonl, gsm8k"):
        task.build_dataset("test", {"path": str(tmp_path)})


def test_gsm8k_refuses_bad_rows_by_place(tmp_path):
    path = str(write(tmp_path / "a.jsonl", [*GSM, {"question": "?", "answer": "6"}]))
    with pytest.raises(DataError, match=r"a\.jsonl:3': the answer does not end"):
        get_task("gsm8k").build_dataset("train", {"path": path})
    path = str(write(tmp_path / "b.jsonl", [*GSM, {"answer": "6"}]))
    with pytest.raises(DataError, match=r"b\.jsonl:3' has no field 'question'"):
        get_task("gsm8k").build_dataset("train", {"path": path})
    with pytest.raises(ConfigError, match="rows is -1"):
        get_task("gsm8k").build_dataset("train", {"path": path, "rows": -1})
    with pytest.raises(ConfigError, match="style is 'cot'"):
        get_task("gsm8k").build_dataset("train", {"path": path, "style": "cot"})
    with pytest.raises(DataError, match="'nowhere' does not exist"):
        get_task("gsm8k").build_dataset("train", {"path": "nowhere"})


def test_broken_lines_are_named(tmp_path):
    path = tmp_path / "a.jsonl"
    for text, wanted in (
        ('{"question": "?"}\n{"quest', r"a\.jsonl:2' is no JSON"),
        ("[1]\n", r"a\.jsonl:1' holds a list"),
        ("\n\n", "is empty"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=wanted):
            get_task("jsonl").build_dataset(
                "train",
                {"path": str(path)} | {"prompt": "question", "answer": "question"},
            )
    path.write_bytes(b'{"a": "1"}\n\xff\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2' is not UTF-8"):
        get_task("jsonl").build_dataset(
            "train", {"path": str(path), "prompt": "a", "answer": "a"}
        )


def test_several_files_for_a_split_are_refused(tmp_path):
    for name in ("add2_test.jsonl", "add3_test.jsonl"):
        write(tmp_path / name, [{"question": "1+1", "answer": "1+1+0=2#### 2"}])
    with pytest.raises(DataError, match=r"several files .* 'add2_test.jsonl'"):
        get_task("addition").build_dataset("test", {"path": str(tmp_path)})


def test_plain_files(tmp_path):
    rows = [
        {"id": 7, "q": "2+2?", "a": "It is 4.", "level": 1},
        {"q": "3+3?", "a": "6", "gold": "six"},
    ]
    path = str(write(tmp_path / "a.jsonl", rows))
    cfg = {"path": path, "prompt": "q", "answer": "a"}
    task = get_task("jsonl")
    first, second = task.build_dataset("train", cfg)
    assert (first.id, first.gold, first.meta) == ("7", "It is 4.", {"level": 1})
    assert (second.id, second.gold) == ("1", "six")
    assert task.judge(" it  is 4.", first.gold, cfg).correct
    assert not task.judge("4", first.gold, cfg).correct
    assert task.judge("so 4", first.gold, {"extraction": "number"}).correct
    with pytest.raises(ConfigError, match="path"):
        task.build_dataset("train", {})


HUB = {"text": ["water", "air"], "label": ["A", "B"]}
AI2 = [{"text": "water", "label": "1"}, {"text": "air", "label": "2"}]


@pytest.mark.parametrize(
    ("row", "right", "labels"),
    [
        ({"question": "Wet?", "choices": HUB, "answerKey": "A"}, "A", "AB"),
        ({"question": {"stem": "Wet?", "choices": AI2}, "answerKey": "1"}, "1", "12"),
    ],
)
def test_arc(tmp_path, row, right, labels):
    task = get_task("arc")
    path = str(write(tmp_path / "test.jsonl", [{"id": "q1", **row}]))
    (example,) = task.build_dataset("test", {"path": path})
    assert example.prompt == (
        f"Question: Wet?\n{labels[0]}. water\n{labels[1]}. air\nAnswer:"
    )
    assert example.answer == right
    assert task.gold_of(row) == example.gold
    for said in (
        right,
        f"The answer is ({right}).",
        f"Answer: {right}",
        f"<answer>{right}</answer>",
        rf"so \boxed{{{right}}}",
        f"{right}. water",
        "Water.",
    ):
        assert task.correct(said, example), said
    for said in (
        "",
        "air",
        f"{labels[1]}",
        f"The answer is {labels[1]}",
        "A cat is 1 x",
    ):
        assert not task.correct(said, example), said


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("The answer is a magnet.", "B"),
        ("The answer is: **A magnet**", "B"),
        ("<answer>a magnet</answer>", "B"),
        (r"\boxed{5 amperes}", "D"),
        ("The answer is 5 amperes", "D"),
        ("The answer is a magnet, so it sticks.", None),
        ("The answer is a big magnet", None),
        ("The answer is 3.5", None),
        ("The answer is A because it is iron.", "A"),
        ("The answer is A, not a magnet", "A"),
        ("The answer is (a) iron", "A"),
        ("The answer is c.", "C"),
        ("the answer is c\nI think", "C"),
        ("ANSWER: D", "D"),
        ("B. a magnet", "B"),
    ],
)
def test_a_small_a_is_a_word(said, label):
    task = get_task("arc")
    choices = {"A": "iron", "B": "a magnet", "C": "a pole", "D": "5 amperes"}
    gold = json.dumps({"answer": "A", "choices": choices})
    assert task.judge(said, gold, {}).extracted == label


def test_arc_refuses_a_key_that_is_no_choice(tmp_path):
    row = {"question": "Wet?", "choices": HUB, "answerKey": "C"}
    path = str(write(tmp_path / "test.jsonl", [row]))
    with pytest.raises(DataError, match=r"test\.jsonl:1' is no question of ARC"):
        get_task("arc").build_dataset("test", {"path": path})


def test_mbpp_splits_one_file_by_ids(tmp_path):
    rows = [
        {
            "task_id": n,
            "text": f"Give {n}.",
            "code": f"x = {n}",
            "test_list": ["assert x"],
        }
        for n in (2, 3, 4, 11, 510, 511, 601)
    ]
    write(tmp_path / "mbpp.jsonl", rows)
    task = get_task("mbpp")

    def ids(split, path=tmp_path, **cfg):
        examples = task.build_dataset(split, {"path": str(path), **cfg})
        return [int(example.id) for example in examples]

    assert ids("test") == [11, 510]
    assert ids("validation") == [511]
    assert ids("train") == [601]
    assert ids("test", held_out=1) == [11]
    assert len(ids("test", tmp_path / "mbpp.jsonl")) == 7
    shown = task.build_dataset("test", {"path": str(tmp_path), "shots": 2})[0].prompt
    assert shown.count("[DONE]") == 2
    assert shown.index("Give 2.") < shown.index("Give 3.") < shown.index("Give 11.")
    with pytest.raises(ConfigError, match="shots is 4"):
        ids("test", shots=4)


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_programs_need_permission(name):
    from mdlm_core.errors import UsageError

    with pytest.raises(UsageError, match="--run-code"):
        get_task(name).correct("x = 1", Example("0", "", "", "{}"))
