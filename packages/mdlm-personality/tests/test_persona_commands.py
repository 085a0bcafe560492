"""The commands that write texts, on a run of seconds."""

import json

import pytest

from mdlm_core.cli import run

PERSON = "0.8,0.6,0.7,0.9,0.3"
TEXT = "I am lively and kind. Being tidy, I enjoy dancing."


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    ways = ["--plugin", "personality", "--tiny", "--device", "cpu"]
    code = run(["train", *ways, "--out", str(folder)])
    assert code == 0
    return folder


def asked(capsys, *arguments, code=0):
    capsys.readouterr()
    found = run(["personality", *map(str, arguments), "--device", "cpu"])
    said = capsys.readouterr()
    assert found == code, said.err
    return said.out, said.err


def test_generate(trained, capsys, tmp_path):
    out, said = asked(capsys, "generate", trained, "--traits", PERSON, "--num", 2)
    assert out.startswith("--- 1 ---\n")
    assert "2 x 32 tokens, ancestral, seed 0" in said
    file = tmp_path / "texts.json"
    ways = ["--traits", "e=0.7", "--do", "trust=0.2", "--guidance", 2, "--steps", 4]
    ways += ["--guidance-schedule", "linear", "--json", "--out", file]
    asked(capsys, "generate", trained, *ways)
    facts = json.loads(file.read_text())
    assert facts["persona"]["trust"] == pytest.approx(0.2, abs=1e-5)
    assert facts["guidance"]["scale"] == 2.0
    assert facts["sampler"]["steps"] == 4
    assert facts["samples"][0]["nfe"] <= 8
    _, said = asked(capsys, "generate", trained, *ways, code=2)
    assert "--force" in said
    asked(capsys, "generate", trained, *ways, "--force")


def test_generate_long_texts_and_nobodys(trained, capsys):
    out, said = asked(capsys, "generate", trained, "--length", 70, "--json")
    assert len(json.loads(out)["samples"][0]["tokens"]) == 70
    assert "windows of 32 tokens, each 16 further on" in said
    assert "of nobody" in said


def test_counterfactual(trained, capsys):
    ways = ["counterfactual", trained, "--traits", PERSON]
    out, said = asked(capsys, *ways, "--do", "extraversion=0.2")
    assert out.startswith("what moves:\n  extraversion")
    assert " 0.700 ->  0.200\n" in out
    assert "--- factual ---" in out
    assert "of the words changed ---" in out
    assert "no statement about a person" in said
    same, _ = asked(capsys, *ways, "--do", "e=0.7", "--json")
    facts = json.loads(same)
    assert facts["moved"] == []
    assert facts["pairs"][0]["factual"] == facts["pairs"][0]["counterfactual"]
    shifted, _ = asked(capsys, *ways, "--shift", "n=0.1", "--json")
    assert json.loads(shifted)["moved"][0]["after"] == pytest.approx(0.4, abs=1e-5)


def test_edit(trained, capsys, tmp_path):
    ways = ["edit", trained, "--traits", PERSON, "--text", TEXT, "--share", 1]
    out, said = asked(capsys, *ways, "--do", "e=0.7")
    assert out.endswith(f"--- text: 0% of the words changed ---\n{TEXT}\n")
    assert "tokens might change" in said
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    ways[4:6] = ["--file", file]
    out, _ = asked(capsys, *ways, "--do", "e=0.1", "--num", 2, "--json")
    facts = json.loads(out)
    assert facts["before"] == TEXT
    assert len(facts["edits"]) == 2


def test_sweep(trained, capsys, tmp_path):
    ways = ["sweep", trained, "--traits", PERSON, "--axis", "e", "--num", 2]
    out, said = asked(capsys, *ways, "--points", 3)
    lines = out.splitlines()
    assert lines[0].startswith("extraversion  reads O")
    assert len(lines) == 7
    assert lines[6].startswith("extraversion")
    out, _ = asked(capsys, *ways, "--axis", "c", "--points", 2)
    assert max(map(len, out.splitlines())) <= 88
    out, _ = asked(capsys, *ways, "--points", 2, "--judge", "none")
    assert out.startswith("--- extraversion 0 ---\n")
    assert "--- extraversion 1 ---\n" in out
    assert "3 cells of 2 texts" in said
    out, _ = asked(capsys, *ways, "--axis", "o=0,0.5", "--judge", "texts", "--json")
    facts = json.loads(out)
    assert len(facts["cells"]) == 10
    assert facts["axes"]["openness"] == [0, 0.5]
    assert facts["judge"].startswith("TF-IDF")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", "--traits", "0.1,0.2"], "has 2 values"),
        (["generate", "--traits", "e=1.2"], "extraversion is 1.2"),
        (["generate", "--label", "optimsm=1"], "optimsm"),
        (["generate", "--label", "openness=1"], "give it with --traits"),
        (["generate", "--set", "train.steps=3"], "only the sampler"),
        (["generate", "--traits", "e=1", "--negative", "e=0"], "--guidance, such as 2"),
        (["generate", "--guidance-schedule", "late"], "constant, linear, interval"),
        (["generate", "--guidance-interval", "0.5"], "two times"),
        (["generate", "--trait-guidance", "e=2", "--guidance", "2"], "stands alone"),
        (["generate", "--trait-guidance", "e=2"], "needs its value"),
        (["counterfactual", "--traits", PERSON], "give --do"),
        (["counterfactual", "--do", "e=0.2", "--shift", "e=0.2"], "give one"),
        (["counterfactual", "--do", "e"], "NAME=VALUE"),
        (["counterfactual", "--do", "e=0.1", "--do", "e=0.2"], "set it once"),
        (["counterfactual", "--do", "beliefs.99=0.1"], "beliefs.99"),
        (["edit", "--do", "e=0.2"], "--text or by --file"),
        (["edit", "--do", "e=0.2", "--text", "a", "--temperature", "0"], "temperature"),
        (["edit", "--do", "e=0.2", "--text", "a", "--share", "2"], "[0, 1]"),
        (["sweep", "--axis", "e=a"], "numbers"),
        (["sweep", "--axis", "e", "--axis", "e=0"], "twice"),
        (["sweep", "--axis", "e", "--plot", "x.svg", "--judge", "none"], "judge"),
    ],
)
def test_what_cannot_be_is_said(trained, capsys, arguments, said):
    command, *rest = arguments
    _, error = asked(capsys, command, trained, *rest, code=2)
    assert said in error


def test_an_intervention_on_what_an_observation_depends_on(trained, capsys):
    ways = ["--traits", "o=0.5", "--label", "exercise=0.7", "--do", "e=0.2"]
    _, error = asked(capsys, "generate", trained, *ways, "--kind", "intervene", code=2)
    assert "exercise is given as observed" in error
    asked(capsys, "generate", trained, *ways)  # the counterfactual learns from it


def test_a_label_far_from_the_data_is_told(trained, capsys):
    ways = ["--label", "exercise=90", "--do", "trust=0.31234567", "--json"]
    for command in ("generate", "counterfactual"):
        out, said = asked(capsys, command, trained, *ways)
        assert "note: exercise is 90, " in said
        assert "standard deviations from what the model learned from (" in said
        assert "trust is" not in said
    facts = json.loads(out)
    assert facts["traits"] == {"exercise": 90}
    assert facts["counterfactual"] == {"trust": 0.31234567}  # settings are exact
    moved = [one[side] for one in facts["moved"] for side in ("before", "after")]
    assert all(value == float(f"{value:.6g}") for value in moved)
    _, said = asked(capsys, "sweep", trained, "--axis", "trust=0.5,-70", "--num", 2)
    assert "note: trust is -70, " in said


def test_a_run_that_knows_no_texts_yet_writes_none(capsys, tmp_path):
    folder = tmp_path / "layer"
    ways = ["--plugin", "personality", "--tiny", "--device", "cpu"]
    ways += ["--set", "task.stage=2", "--set", "train.steps=1"]
    assert run(["train", *ways, "--out", str(folder)]) == 0
    for command in (
        ["generate"],
        ["counterfactual", "--do", "e=0.2"],
        ["infer", "--text", TEXT],
        ["evaluate"],
    ):
        _, said = asked(capsys, command[0], folder, *command[1:], code=2)
        assert "is of stage 2" in said
        assert "task.stage=3" in said
    out, _ = asked(capsys, "graph", folder)
    assert "structure tiered" in out


def test_a_name_that_is_neither_a_trait_nor_a_label_tells_both(trained, capsys):
    _, said = asked(capsys, "generate", trained, "--label", "optimsm=1", code=2)
    assert "Did you mean 'optimism'?" in said
    assert "neuroticism, optimism, trust" in said
