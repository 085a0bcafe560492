"""``mdlm llada score`` and ``eval``, and the harness in the original's spelling."""

import json

import pytest

from mdlm_core.cli import run
from mdlm_core.errors import DataError
from mdlm_llada import harness, registry
from mdlm_llada.scoring.report import compare_reports, score_files


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Twenty answers of two models, with golds beside them and inside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    golds = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(20)]
    write(tmp_path / "gt.jsonl", golds)
    for name, right in (("a", range(10)), ("b", range(2, 18))):
        rows = [
            {
                "task": "gsm8k",
                "prompt": f"{i}?",
                "gold_raw": f"#### {i}",
                "prediction": f"#### {i if i in right else 99}",
                "meta": {"index": i, "nfe": 8},
            }
            for i in range(20)
        ]
        write(tmp_path / f"{name}.jsonl", rows)
        bare = [{"index": i, "pred": row["prediction"]} for i, row in enumerate(rows)]
        write(tmp_path / f"{name}_bare.jsonl", bare)
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(capsys, *arguments):
    code = run(["llada", *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_score_prints_the_accuracy_with_its_interval(files, capsys):
    code, out, _ = call(
        capsys, "score", "--task", "llada_gsm8k", "--pred_jsonl", "a.jsonl"
    )
    assert code == 0
    assert "0.5000  [0.2993, 0.7007] at 95 %, 10 of 20 right" in out
    assert "forward passes  8.0000" in out


def test_json_out_and_audit(files, capsys):
    code, out, _ = call(
        capsys,
        *("score", "--task", "gsm8k", "--pred", "a_bare.jsonl", "--gt", "gt.jsonl"),
        *("--json", "--out", "card.json", "--audit", "audit.jsonl"),
        *("--set", "extraction=strict"),
    )
    assert code == 0
    card = json.loads(out)
    assert card == json.loads((files / "card.json").read_text())
    assert card["accuracy"] == card["exact_match_strict"] == 0.5
    assert (card["total"], card["correct"], card["extraction_rate"]) == (20, 10, 1.0)
    assert card["joined_by"] == "index"
    audit = read(files / "audit.jsonl")
    assert [row["correct"] for row in audit] == [True] * 10 + [False] * 10
    assert audit[12]["extracted"] == "99"
    shared = {(files / name).stat().st_mode for name in ("card.json", "audit.jsonl")}
    assert shared == {(files / "gt.jsonl").stat().st_mode}
    assert (audit[12]["gold"], audit[12]["how"]) == ("12", "strict")


def test_eval_is_the_same_and_compares(files, capsys):
    code, out, _ = call(
        capsys, "eval", "--task", "gsm8k", "--pred", "b.jsonl", "--json"
    )
    assert code == 0
    assert json.loads(out)["accuracy"] == 0.8
    code, out, _ = call(
        capsys, "eval", "--task", "gsm8k", "--compare", "a.jsonl", "b.jsonl", "--json"
    )
    assert code == 0
    card = json.loads(out)
    assert (card["only_first"], card["only_second"], card["rows"]) == (2, 8, 20)
    assert card["p_value"] == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert card["difference"]["value"] == pytest.approx(0.3)
    code, out, _ = call(
        capsys,
        *("eval", "--task", "gsm8k", "--gt", "gt.jsonl"),
        *("--compare", "a_bare.jsonl", "b_bare.jsonl"),
    )
    assert code == 0
    assert "B - A  +0.3000" in out
    assert "McNemar p  0.1094" in out


def test_both_files_are_matched_by_what_both_have(files, capsys):
    """Ids of numbers in another order than the index, in one file alone."""
    rows = read(files / "a.jsonl")
    for row in rows:
        row["meta"]["id"] = str(19 - row["meta"]["index"])
        row["gold_raw"] = "#### 1"
    write(files / "ids.jsonl", rows)
    for row in rows:
        del row["meta"]["id"]
        row["prediction"] = "#### 1" if row["meta"]["index"] < 5 else "none"
    write(files / "indices.jsonl", rows)
    compare = ("eval", "--task", "gsm8k", "--compare")
    code, out, _ = call(capsys, *compare, "ids.jsonl", "indices.jsonl", "--json")
    assert code == 0
    card = json.loads(out)  # a.jsonl says 1 in row 1 alone, and so do the first five
    assert (card["only_first"], card["only_second"]) == (0, 4)


def test_files_that_were_not_joined_alike_are_not_compared(files):
    rows = read(files / "a.jsonl")
    for row in rows:
        row["id"] = str(19 - row["meta"]["index"])
    write(files / "ids.jsonl", rows)
    task = registry.get_task("gsm8k")
    both = [
        score_files(task, files / name, None, {}) for name in ("ids.jsonl", "a.jsonl")
    ]
    with pytest.raises(DataError, match=r"joined by id and .* by index"):
        compare_reports(*both)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("score", "--task", "gsmk", "--pred", "a.jsonl"), "did you mean 'gsm8k'"),
        (("score", "--task", "gsm8k", "--pred", "c.jsonl"), "'c.jsonl' does not exist"),
        (
            ("score", "--task", "gsm8k", "--pred", "a.jsonl", "--set", "extracton=1"),
            "did you mean 'extraction'",
        ),
        (("eval", "--task", "gsm8k"), "either --pred FILE or --compare A B"),
        (
            ("score", "--task", "gsm8k", "--pred", "short.jsonl", "--gt", "gt.jsonl"),
            "index '3', '4', '5', '6', '7' and 12 more",
        ),
        (
            ("eval", "--task", "gsm8k", "--compare", "short.jsonl", "a.jsonl"),
            "17 rows of 'a.jsonl' are not in 'short.jsonl', such as index '3'",
        ),
        (
            ("eval", "--task", "gsm8k", "--compare", "a.jsonl", "other.jsonl"),
            "index '4' has another gold",
        ),
        (("score", "--task", "mbpp", "--pred", "a.jsonl"), "--run-code"),
    ],
)
def test_refusals(files, capsys, arguments, wanted):
    rows = read(files / "a.jsonl")
    write(files / "short.jsonl", rows[:3])
    rows[4]["gold_raw"] = "#### 5"
    write(files / "other.jsonl", rows)
    code, out, err = call(capsys, *arguments)
    usage = any(part in wanted for part in ("did you mean", "--pred", "--run-code"))
    assert (code, out) == (2 if usage else 1, "")
    assert wanted in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "--pred", "a.jsonl", "--audit", "./a.jsonl"),
        ("score", "--pred", "a.jsonl", "--out", "a.jsonl"),
        ("score", "--pred", "a.jsonl", "--gt", "gt.jsonl", "--audit", "gt.jsonl"),
        ("score", "--pred", "a.jsonl", "--out", "x", "--audit", "x"),
        ("eval", "--pred", "a.jsonl", "--audit", "a.jsonl"),
        ("eval", "--compare", "a.jsonl", "b.jsonl", "--out", "b.jsonl"),
    ],
)
def test_what_is_read_is_not_overwritten(files, capsys, arguments):
    before = {path: path.read_bytes() for path in files.iterdir()}
    code, _, err = call(capsys, *arguments, "--task", "gsm8k")
    assert code == 2
    assert "would overwrite" in err
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_the_harness_overwrites_nothing_and_leaves_rows_out(files, capsys):
    given = ["--task", "gsm8k", "--pred", "short.jsonl", "--gt", "gt.jsonl"]
    write(files / "short.jsonl", read(files / "a.jsonl")[:4])
    assert harness.main([*given, "--out", "gt.jsonl"]) == 2
    assert harness.main(given) == 1
    assert "--allow-missing" in capsys.readouterr().err
    for name in ("--allow-missing", "--allow_missing"):
        assert harness.main([*given, name]) == 0
        numbers = json.loads(capsys.readouterr().out)
        assert (numbers["total"], numbers["extra_gt"]) == (4, 16)
    tests = {"test_list": ["assert f() == 1"]}
    row = {"id": 1, "prediction": "def f():\n    return 1", "gold": json.dumps(tests)}
    write(files / "code.jsonl", [row])
    assert harness.main(["--task", "mbpp", "--pred", "code.jsonl"]) == 2
    capsys.readouterr()
    for name in ("--run-code", "--run_code"):
        assert harness.main(["--task", "mbpp", "--pred", "code.jsonl", name]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == 1


def test_rows_in_common_can_be_compared(files, capsys):
    write(files / "short.jsonl", read(files / "b.jsonl")[1:5])
    compare = ("eval", "--task", "gsm8k", "--compare", "a.jsonl", "short.jsonl")
    code, out, _ = call(capsys, *compare, "--allow-missing")
    assert code == 0
    assert "in common  4 rows; left out: 16 of A, 0 of B" in out
    _, out, _ = call(capsys, *compare, "--allow-missing", "--json")
    card = json.loads(out)
    assert (card["A"], card["B"], card["rows"]) == ("a.jsonl", "short.jsonl", 4)
    assert (card["first"], card["second"]) == (1.0, 0.75)
    assert (card["left_out_A"], card["left_out_B"]) == (16, 0)
    write(
        files / "short.jsonl", [{**read(files / "b.jsonl")[0], "meta": {"index": 99}}]
    )
    code, _, err = call(capsys, *compare, "--allow-missing")
    assert code == 1
    assert "no row in common" in err


def test_a_report_says_that_rows_are_not_answered(files, capsys):
    (files / "a.jsonl.meta.json").write_text('{"rows": 50}')
    given = ("score", "--task", "gsm8k", "--pred", "a.jsonl")
    code, _, err = call(capsys, *given)
    assert code == 1
    assert "20 of 50 answers" in err
    code, out, _ = call(capsys, *given, "--allow-missing")
    assert code == 0
    assert "not complete  30 of 50 not answered" in out


def test_missing_rows_can_be_left_out(files, capsys):
    rows = read(files / "a.jsonl")
    write(files / "short.jsonl", rows[:4])
    code, out, _ = call(
        capsys,
        *("score", "--task", "gsm8k", "--pred", "short.jsonl", "--gt", "gt.jsonl"),
        *("--allow-missing", "--json"),
    )
    assert code == 0
    card = json.loads(out)
    assert (card["total"], card["accuracy"], card["extra_gt"]) == (4, 1.0, 16)


MODULE = """
from mdlm_llada.registry import BaseTaskSpec, Example, register_task

class Mine(BaseTaskSpec):
    name = "mine"
    def build_dataset(self, split, cfg):
        return [Example("0", "?", "yes", "yes")]
    def postprocess(self, pred, cfg):
        return pred.strip().lower()[: cfg.get("letters", 99)]

register_task("mine", Mine(), overwrite=True)
"""


def test_the_harness_with_a_task_of_ones_own(files, capsys, monkeypatch):
    (files / "my_llada_task.py").write_text(MODULE)
    monkeypatch.syspath_prepend(files)
    write(files / "p.jsonl", [{"id": "0", "pred": "YES!"}, {"id": "1", "pred": "no"}])
    write(files / "g.jsonl", [{"id": 1, "answer": "no"}, {"id": 0, "answer": "yes"}])
    arguments = ["--task", "mine", "--pred", "p.jsonl", "--gt", "g.jsonl"]
    imports = ["--auto_import", "my_llada_task", "json", "--auto_import", "re"]
    assert harness.main([*arguments, *imports, "--out", "numbers.json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["total"], numbers["accuracy"]) == (2, 0.5)
    assert numbers == json.loads((files / "numbers.json").read_text())
    assert harness.main([*arguments, "--cfg", '{"letters": 2}']) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    (files / "cfg.json").write_text('{"letters": 2}')
    assert harness.main([*arguments, "--cfg_json", "cfg.json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        (["--cfg", "{"], "--cfg is no JSON"),
        (["--cfg", "[1]"], "--cfg holds a list"),
        (["--cfg_json", "no.json"], "cannot be read"),
        (["--cfg", '{"extraction": "x"}'], "extraction is 'x'"),
        (["--auto_import", "no_such_module_here"], "it does not load"),
    ],
)
def test_the_harness_refuses(files, capsys, extra, wanted):
    code = harness.main(["--task", "gsm8k", "--pred", "a.jsonl", *extra])
    assert code in (1, 2)
    assert wanted in capsys.readouterr().err
