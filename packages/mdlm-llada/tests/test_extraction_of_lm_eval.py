"""Extraction against the task definitions of the installed lm-evaluation-harness."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from mdlm_llada.extract import numbers
from mdlm_llada.extract.boxed import last_boxed
from mdlm_llada.extract.latex import normalise
from mdlm_llada.registry import get_task

lm_eval = pytest.importorskip("lm_eval", reason="extraction is compared with it")
FOLDER = Path(lm_eval.__file__).parent / "tasks"

ANSWERS = [
    "so 4 * 5 = 20.\n#### 20",
    "#### 1,234",
    "#### -5\nQuestion: and #### 6",
    "The result is $1,000.",
    "about 3.50 dollars",
    "5",
    "it costs $12.50. So 7",
    "no number",
    "wait... what",
    "####8",
    "#### $9",
    "#### 10.",
    "#### 10.0",
    "",
    "a-3",
    "1.2.3",
    "#### 3/4",
    "x = 10,",
]
GOLDS = ["work\n#### 20", "#### 1,234", "#### -5", "#### 7", "#### 10", "#### 1000"]


@pytest.fixture(scope="module")
def gsm8k():
    path = FOLDER / "gsm8k" / "gsm8k.yaml"
    if not path.exists():
        pytest.skip("this version has no gsm8k.yaml there")
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    task = yaml.safe_load(path.read_text())
    filters = {}
    for entry in task["filter_list"]:
        settings = {k: v for k, v in entry["filter"][0].items() if k != "function"}
        filters[entry["name"]] = RegexFilter(**settings)
    (metric,) = task["metric_list"]

    def score(name, answer, gold):
        ((found,),) = filters[name].apply([[answer]], [{}])
        right = exact_match_hf_evaluate(
            predictions=[found],
            references=[gold],
            regexes_to_ignore=metric["regexes_to_ignore"],
            ignore_case=metric["ignore_case"],
        )
        return found, float(right["exact_match"])

    return task, score


@pytest.mark.parametrize("answer", ANSWERS)
def test_gsm8k_reads_and_scores_the_same(gsm8k, answer):
    _, score = gsm8k
    readers = {
        "strict-match": (numbers.strict, "exact_match_strict"),
        "flexible-extract": (numbers.flexible, "exact_match_flexible"),
    }
    for name, (reader, number) in readers.items():
        for gold in GOLDS:
            found, right = score(name, answer, gold)
            assert (reader(answer) or "[invalid]") == found
            verdict = get_task("gsm8k").judge(answer, gold, {})
            assert verdict.numbers[number] == right, (name, gold)


def test_gsm8k_asks_and_stops_as_there(gsm8k, tmp_path):
    task, _ = gsm8k
    ours = get_task("gsm8k")
    assert set(ours.stop) <= set(task["generation_kwargs"]["until"])
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "Why?", "answer": "#### 1"}\n')
    (example,) = ours.build_dataset("test", {"path": str(path), "style": "lm-eval"})
    asked = task["doc_to_text"].replace("{{question}}", "Why?")
    assert example.prompt == asked


@pytest.fixture(scope="module")
def minerva():
    path = FOLDER / "minerva_math" / "utils.py"
    if not path.exists() or find_spec("antlr4") is None:
        pytest.skip("needs minerva_math of lm_eval, and antlr4")
    stub = SimpleNamespace(parse=None, verify=None)  # is another metric
    had = sys.modules.get("math_verify")
    sys.modules["math_verify"] = had or stub
    try:
        spec = spec_from_file_location("minerva_utils", path)
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        if had is None:
            del sys.modules["math_verify"]
    return module


LATEX = [
    r"\frac12",
    r"\frac{3}{4}",
    r"x = \frac{3}{4}",
    r"5\text{ cm}",
    r"2\pi cm",
    r"\left(3, \frac{\pi}{2}\right)",
    "10,000 dollars",
    "1,234,567",
    "0,1",
    r"\sqrt3",
    r"\sqrt[3]8",
    r"\sqrt{ab}+\sqrt2",
    r"90^\circ",
    r"90^{\circ}",
    r"\$5.50",
    r"$x+1$",
    r"the value is $x$ here",
    r"\text{even}",
    r"\textbf{(A)}",
    r"\overline{AB}",
    r"\boxed{7}",
    r"5 \text{ and } 6",
    r"12\text{ square feet}",
    r"\mbox{yes}",
    "a multiple of an integer",
    r"50\%",
    r"1{,}000",
    r"2\,\!3",
    r"\dfrac{1}{2}",
    "14 students",
    "[2,5)",
    r"\{1,2\}",
    r"3^{\mathrm{th}}",
    "x=y=2",
    "",
]


@pytest.mark.parametrize("text", LATEX)
def test_answers_are_written_as_there(minerva, text):
    assert normalise(text) == minerva.normalize_final_answer(text)


SOLUTIONS = [
    r"Thus \boxed{24}.",
    r"\boxed{\frac{1}{\sqrt{2}}} and \boxed{x^{2}}",
    r"\fbox{3}",
    r"We get $\boxed 9$ now.",
    r"\boxed{[2,5)}",
]


@pytest.mark.parametrize("text", SOLUTIONS)
def test_boxes_are_found_as_there(minerva, text):
    theirs = minerva.last_boxed_only_string(text)
    if theirs.startswith(r"\fbox"):
        theirs = theirs.replace("fbox", "boxed")
    assert last_boxed(text) == minerva.remove_boxed(theirs).strip()


def test_their_examples_are_right_here(minerva):
    task = get_task("math")
    for row in minerva.list_fewshot_samples():
        gold = task.gold_of(row)
        verdict = task.judge(row["solution"], gold, {})
        assert (verdict.correct, verdict.how) == (True, "text")
        phrase = row["solution"].partition("Final Answer")[1:]
        assert task.judge("".join(phrase), gold, {}).correct
