"""``mdlm classify explain``, ``sample`` and ``edit`` on a run of seconds."""

import csv
import io
import json
import sys

import pytest

from mdlm_core import cli

GOOD, BAD = ["good", "fine", "bright"], ["bad", "poor", "dull"]
REST = ["the film was", "a plot that is", "this one seems", "such an ending is"]


def rows():
    for i in range(48):
        side, label = (GOOD, "positive") if i % 2 else (BAD, "negative")
        yield f"{REST[i % 4]} {side[i % 3]} , {side[(i + 1) % 3]}", label


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beyond")
    with (folder / "train.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        table.writerows(rows())
    sets = ["data.length=16", "data.min_count=1", "train.steps=4", "sampler.steps=16"]
    flags = [flag for text in sets for flag in ("--set", text)]
    code = cli.run(
        [
            *("classify", "train", "--tiny", "--data", str(folder / "train.csv")),
            *("--out", str(folder / "run"), "--device", "cpu", "--seed", "0", *flags),
        ]
    )
    assert code == 0
    return folder / "run"


@pytest.fixture
def classify(run, capsys):
    """Return a function that runs a command and gives (code, stdout, stderr)."""
    capsys.readouterr()

    def call(command, *arguments, group=("classify",), path=run):
        code = cli.run([*group, command, str(path), *arguments, "--device", "cpu"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_explain_prints_words_and_their_nats(classify):
    code, out, _ = classify("explain", "--text", "The film was GOOD .", "--draws", "8")
    assert code == 0
    assert "The film was GOOD ." in out
    assert "for positive:" in out
    assert "GOOD" in out.split("for positive:")[1]
    assert out.endswith("\n")


def test_explain_json_sums_to_the_prediction(classify):
    text = "a plot that is dull , good"
    _, out, _ = classify("explain", "--text", text, "--text", "", "--json")
    found, empty = json.loads(out)["texts"]
    assert sum(found["values"]) == pytest.approx(found["log_ratio"], abs=1e-6)
    assert empty["words"] == []
    _, out, _ = classify("predict", "--text", text, "--json")
    [row] = json.loads(out)["texts"]
    assert row["label"] == found["class"]
    assert found["share"] == pytest.approx(row["probability"], abs=1e-6)


def test_explain_writes_a_page_and_lines(classify, run, tmp_path):
    page, lines = tmp_path / "page.html", tmp_path / "lines.jsonl"
    data = ("--data", str(run.parent / "train.csv"), "--rows", "3")
    assert classify("explain", *data, "--out", str(page))[0] == 0
    assert page.read_text().count("<h2>") == 3
    classify("explain", *data, "--class", "negative", "--out", str(lines))
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [one["class"] for one in found] == ["negative"] * 3
    assert [one["against"] for one in found] == ["positive"] * 3


def test_sample_of_a_class_and_of_each_in_turn(classify):
    given = ("--num", "3", "--length", "6", "--seed", "1")
    code, out, _ = classify("sample", "--class", "positive", *given)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["[positive]"] * 3
    _, turns, _ = classify("sample", "--guidance", "2", *given, "--json")
    found = json.loads(turns)
    names = [one["class"] for one in found["samples"]]
    assert names == ["negative", "positive", "negative"]
    assert all(len(one["tokens"]) == 6 for one in found["samples"])
    assert classify("sample", "--guidance", "2", *given, "--json")[1] == turns


def test_against_needs_guidance(classify):
    given = ("--class", "positive", "--length", "6", "--seed", "1")
    _, plain, err = classify("sample", *given)
    assert "--against" not in err
    _, out, err = classify("sample", *given, "--against", "negative")
    assert out == plain
    assert "--against has no effect with guidance 1" in err
    guided = ("--against", "negative", "--guidance", "3")
    assert "no effect" not in classify("sample", *given, *guided)[2]


def test_the_length_is_that_of_the_training_texts(classify):
    _, out, _ = classify("sample", "--json")
    assert len(json.loads(out)["samples"][0]["tokens"]) in (6, 7)
    assert "rows of 16 tokens" in classify("sample", "--length", "20")[2]


def test_blanks_are_filled_under_the_class_of_the_prompt(classify):
    prompt = ("--prompt", "the film was dull , ____ , poor")
    _, out, err = classify("sample", *prompt, "--length", "8", "--json")
    found = json.loads(out)
    assert found["posterior"]["negative"] > 0.5
    assert found["samples"][0]["class"] == "negative"
    assert "what is known speaks for negative" in err
    _, out, _ = classify("sample", *prompt, "--class", "positive", "--json")
    assert json.loads(out)["samples"][0]["class"] == "positive"


def test_core_samples_a_class_too(classify):
    given = ("--num", "2", "--length", "5", "--seed", "3", "--json")
    told = ("--condition", "label=positive")
    _, out, _ = classify("sample", *told, *given, group=())
    found = json.loads(out)
    assert found["condition"] == {"label": "positive"}
    _, other, _ = classify("sample", "--condition", "label=negative", *given, group=())
    assert json.loads(other)["samples"] != found["samples"]
    code, _, err = classify("sample", "--condition", "label=positiv", group=())
    assert code == 2
    assert "did you mean 'positive'" in err


def test_edit_replaces_words(classify, tmp_path):
    text = "the film was dull , poor"
    given = ("--to", "positive", "--text", text, "--budget", "0.6")
    code, out, _ = classify("edit", *given)
    assert code == 0
    assert f"negative: {text}" in out
    _, out, _ = classify("edit", *given, "--json")
    [found] = json.loads(out)["edits"]
    assert found["posterior_after"] > found["posterior_before"]
    assert found["changes"]
    lines = tmp_path / "edits.jsonl"
    classify("edit", *given, "--out", str(lines))
    assert json.loads(lines.read_text()) == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "--text", "a", "--class", "happy"], "there is no class 'happy'"),
        (["explain", "--text", "a", "--data", "b"], "two sources of texts"),
        (["explain", "--text", "a", "--out", "x.png"], "must end with .html"),
        (["explain", "--text", "a", "--class", "positive", "--against", "positive"],
         "compared with itself"),
        (["sample", "--class", "positiv"], "did you mean 'positive'"),
        (["sample", "--num", "0"], "--num is 0"),
        (["sample", "--set", "model.width=3"], "only the sampler can be set"),
        (["sample", "--class", "positive", "--against", "positive", "--guidance", "2"],
         "the two are the same"),
        (["sample", "--class", "positive", "--against", "positive"],
         "--class and --against are both 'positive'"),
        (["edit", "--text", "a good plot", "--to", "glad"], "there is no class 'glad'"),
        (["edit", "--text", "a", "--to", "positive", "--budget", "2"],
         "edit.budget is 2.0"),
    ],
)  # fmt: skip
def test_usage_errors(classify, arguments, message):
    code, out, err = classify(*arguments)
    assert code == 2
    assert out == ""
    assert message in err


def test_text_without_a_word_cannot_be_edited(classify):
    code, _, err = classify("edit", "--text", "...", "--to", "positive")
    assert code == 1
    assert "no word that could be changed" in err


def test_texts_come_from_standard_input(classify, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a good film\na dull film\n"))
    _, out, _ = classify("explain", "--json")
    assert [one["text"] for one in json.loads(out)["texts"]] == [
        "a good film",
        "a dull film",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, _, err = classify("explain")
    assert code == 2
    assert "there is no text" in err


def test_another_kind_of_model_is_refused(classify, monkeypatch):
    monkeypatch.setattr("mdlm_classify.predictor.Predictor", type("Other", (), {}))
    code, _, err = classify("sample")
    assert code == 2
    assert "needs a masked diffusion model" in err
