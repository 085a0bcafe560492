"""The commands on a small table: train, predict, evaluate, calibrate, and bad input."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, log_loss

from mdlm_classify.answers import answer, familiar_of
from mdlm_classify.calibration import fit
from mdlm_classify.posterior import log_joint
from mdlm_classify.prior import em_prior
from mdlm_classify.saved import load_classifier
from mdlm_core.cli import run
from mdlm_core.errors import CheckpointError, UsageError

from .commands_toy import WORDS, labels_in, mdlm, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with train.csv, test.csv, and a trained run."""
    place = tmp_path_factory.mktemp("commands")
    table(place / "train.csv", 160, 0)
    table(place / "test.csv", 40, 1)
    arguments = ["--data", place / "train.csv", "--out", place / "run", "--tiny"]
    more = ["--set", "data.holdout=0.3", "--set", "train.sample_every=0"]
    assert run(["classify", "train", *map(str, arguments), *more]) == 0
    return place


@pytest.fixture(scope="module")
def classifier(folder):
    return load_classifier(folder / "run", device="cpu")


def test_training_leaves_a_calibrated_classifier(folder, classifier):
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert config["data"]["labels"] == ["bad", "good"]
    card = json.loads((folder / "run" / "classifier.json").read_text())
    assert card["labels"] == ["bad", "good"]
    assert card["temperature"] != {"a": 1.0, "b": 0.0}
    assert card["familiar"]["ratio"] is not None
    texts, labels = labels_in(folder / "test.csv")
    assert accuracy_score(labels, classifier.predict(texts)) > 0.9


def test_a_file_of_predictions_has_a_row_for_each_text(capsys, folder, classifier):
    out = folder / "found.csv"
    mdlm(capsys, "predict", folder / "run", "--data", folder / "test.csv", "--out", out)
    texts, _ = labels_in(folder / "test.csv")
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == texts
    wanted = classifier.predict_proba(texts)
    got = np.array([[float(row["p_bad"]), float(row["p_good"])] for row in found])
    np.testing.assert_allclose(got, wanted, rtol=2e-5)
    assert [row["label"] for row in found] == classifier.predict(texts).tolist()
    assert all(0 <= float(row["trust"]) <= float(row["probability"]) for row in found)


def test_files_say_the_same_in_each_format(capsys, folder):
    read = {}
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.jsonl.gz"):
        out = folder / name
        arguments = ["--text", 'x, "y"\tz', "--text", "fine", "--out", out, "--ood"]
        mdlm(capsys, "predict", folder / "run", *arguments)
        read[name] = out.read_bytes()
    comma = list(csv.DictReader(io.StringIO(read["a.csv"].decode())))
    tab = list(csv.DictReader(io.StringIO(read["a.tsv"].decode()), delimiter="\t"))
    assert comma == tab
    import gzip

    assert gzip.decompress(read["a.jsonl.gz"]) == read["a.jsonl"]
    plain = [json.loads(line) for line in read["a.jsonl"].splitlines()]
    for one, other in zip(comma, plain, strict=True):
        assert (one["text"], one["label"]) == (other["text"], other["label"])
        assert float(one["p_good"]) == pytest.approx(
            other["probabilities"]["good"], rel=1e-5
        )
        assert one["unusual"] == str(other["unusual"]).lower()


def test_lines_of_standard_input_are_texts(capsys, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a lovely film\n\ndull plot"))
    out, err = mdlm(capsys, "predict", folder / "run", "--json")
    found = json.loads(out)
    assert [row["text"] for row in found["texts"]] == ["a lovely film", "", "dull plot"]
    assert [found["texts"][0]["label"], found["texts"][2]["label"]] == ["good", "bad"]
    assert "no known token, so that they get the prior: 1 of 3" in err


def test_what_is_not_known_gets_the_prior(capsys, folder, classifier):
    prior = dict(zip(classifier.classes_, np.exp(classifier.log_prior_), strict=True))
    given = ["--text", "", "--text", "____ ____{7}", "--gaps", "--ood"]
    out, err = mdlm(capsys, "predict", folder / "run", *given, "--json")
    for row in json.loads(out)["texts"]:
        assert row["probabilities"] == pytest.approx(prior, abs=1e-12)
        assert (row["tokens"], row["draws"], row["z"]) == (0, 0, 0.0)
    assert "2 of 2" in err


def test_gaps_are_read_only_where_asked(capsys, folder):
    given = ["--text", "a ____ film", "--json"]
    out, _ = mdlm(capsys, "predict", folder / "run", *given)
    plain = json.loads(out)["texts"][0]
    out, _ = mdlm(capsys, "predict", folder / "run", *given, "--gaps")
    gaps = json.loads(out)["texts"][0]
    assert gaps["tokens"] == 2
    assert plain["tokens"] > 2


def test_a_long_text_is_scored_in_windows_and_that_is_said(capsys, folder):
    long = " ".join(["film", "fine"] * 40)
    out, err = mdlm(capsys, "predict", folder / "run", "--text", long)
    assert out.startswith("good\t")
    assert "longer than 32 tokens" in err
    assert "1 of 1" in err


def test_little_trust_gives_no_label(capsys, folder):
    given = ["--text", "film", "--text", "lovely fine kind bright", "--json"]
    out, _ = mdlm(capsys, "predict", folder / "run", *given)
    first, second = (row["trust"] for row in json.loads(out)["texts"])
    assert first < second
    middle = (first + second) / 2
    out, err = mdlm(capsys, "predict", folder / "run", *given, "--abstain", middle)
    found = json.loads(out)["texts"]
    assert [row["label"] for row in found] == [None, "good"]
    assert found[1]["best"] == "good"
    assert "1 of 2 texts" in err


def test_another_prior_multiplies_the_posterior(capsys, folder, classifier):
    given = ["--text", "a film", "--json", "--draws", "64", "--rule", "fixed"]
    out, _ = mdlm(capsys, "predict", folder / "run", *given)
    before = json.loads(out)["texts"][0]["probabilities"]
    out, _ = mdlm(capsys, "predict", folder / "run", *given, "--prior", "good=3,bad=1")
    after = json.loads(out)["texts"][0]["probabilities"]
    old = dict(zip(classifier.classes_, np.exp(classifier.log_prior_), strict=True))
    odds = before["good"] / before["bad"] * 3 / (old["good"] / old["bad"])
    assert after["good"] / after["bad"] == pytest.approx(odds, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prior", "good=nan,bad=1"], "must be a number of 0 or more"),
        (["--prior", "good=-1,bad=1"], "must be a number of 0 or more"),
        (["--prior", "good=0,bad=0"], "0 for every class"),
        (["--prior", "god=1,bad=1"], "did you mean 'good'?"),
        (["--prior", "good=1"], "lacks 'bad'"),
        (["--prior", "unifrom"], "did you mean 'uniform'?"),
        (["--draws", "1"], "--draws is 1"),
        (["--data", "x.csv"], "give one"),
        (["--out", "nowhere/x.csv"], "there is no folder"),
        (["--out", "x.parquet"], ".csv, .tsv or .jsonl"),
        (["--abstain", "1.5"], "[0, 1]"),
        (["--gaps", "--text", "____{0}"], "____{0}"),
        (["--checkpoint", "77"], "77"),
    ],
)
def test_wrong_options_are_refused(capsys, folder, arguments, said):
    given = ["predict", folder / "run", "--text", "a", *arguments]
    assert run(["classify", *map(str, given)]) in (1, 2)
    assert said in capsys.readouterr().err


def test_what_is_no_run_is_refused(capsys, folder):
    _, err = mdlm(capsys, "predict", folder / "no", "--text", "a", code=2)
    assert "is no run" in err
    for command in ("predict", "explain", "sample", "evaluate", "calibrate"):
        _, err = mdlm(capsys, command, folder / "train.csv", code=2)
        assert "train.csv' is a file, not a run folder" in err
    (folder / "empty.csv").write_text("text,label\n")
    given = ["predict", folder / "run", "--data", folder / "empty.csv"]
    _, err = mdlm(capsys, *given, code=1)
    assert "holds no text" in err


def test_the_data_that_is_read_is_not_written_over(capsys, folder):
    same = folder / "test.csv"
    _, err = mdlm(
        capsys, "predict", folder / "run", "--data", same, "--out", same, code=2
    )
    assert "is the file that is read" in err


def test_evaluation_agrees_with_the_predictions(capsys, folder, classifier):
    given = ["evaluate", folder / "run", "--data", folder / "test.csv", "--json"]
    out, _ = mdlm(capsys, *given)
    card = json.loads(out)
    texts, labels = labels_in(folder / "test.csv")
    shares = classifier.predict_proba(texts)
    assert card["rows"] == len(texts)
    assert card["accuracy"]["value"] == pytest.approx(
        accuracy_score(labels, classifier.predict(texts))
    )
    wanted = log_loss(labels, shares, labels=classifier.classes_)
    assert card["log_loss"] == pytest.approx(wanted, rel=1e-9)
    assert card["facts"]["data"] == str(folder / "test.csv")
    out, _ = mdlm(capsys, *given[:-1])
    assert f"{card['accuracy']['value']:.4f}" in out


def test_an_evaluation_writes_a_report(capsys, folder):
    out = folder / "report"
    given = ["evaluate", folder / "run", "--data", folder / "test.csv", "--out", out]
    mdlm(capsys, *given, "--curve", "4", "--draws", "8", "--rows", "10")
    card = json.loads((out / "evaluation.json").read_text())
    assert card["rows"] == 10
    assert [point["draws"] for point in card["draws"]["curve"]] == [2, 4, 8]
    assert card["draws"]["curve"][-1]["agreement"] == 1
    assert card["draws"]["reached"] is not None
    assert "<html" in (out / "evaluation.html").read_text()


def test_without_data_the_texts_held_out_are_measured(capsys, folder, classifier):
    out, err = mdlm(capsys, "evaluate", folder / "run", "--json")
    assert "chose the checkpoint and the temperature, so that the numbers" in err
    card = json.loads(out)
    data = classifier.trained_.data
    assert card["rows"] == data["splits"]["validation"]["texts"]


def test_texts_that_were_learned_from_are_counted(capsys, folder):
    texts, labels = labels_in(folder / "train.csv")
    mixed = folder / "mixed.csv"
    with mixed.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerow([texts[0].upper() + "!", labels[0]])
        writer.writerows([["new fine", "good"], ["newly dull", "bad"]])
    given = ["evaluate", folder / "run", "--data", mixed, "--json"]
    out, _ = mdlm(capsys, *given)
    card = json.loads(out)
    assert (card["rows"], card["facts"]["also learned from"]) == (3, 1)
    out, _ = mdlm(capsys, *given, "--drop-known")
    card = json.loads(out)
    assert (card["rows"], card["facts"]["left out"]) == (2, 1)
    mixed.write_text(f"text,label\n{texts[0]},{labels[0]}\n")
    _, err = mdlm(capsys, *given, "--drop-known", code=2)
    assert "all 1 texts were learned from; nothing is left" in err


def test_a_label_that_the_model_does_not_know_has_its_place(capsys, folder):
    path = folder / "strange.csv"
    path.write_text("text,label\na fine film,good\na dull film,badd\n")
    given = ["evaluate", folder / "run", "--data", path]
    _, err = mdlm(capsys, *given, code=1)
    assert "strange.csv" in err
    assert "line 3" in err
    assert "'badd'" in err
    assert "did you mean 'bad'?" in err
    assert "rename them in the data, or name another column with --label" in err
    _, calibrating = mdlm(capsys, "calibrate", *given[1:], code=1)
    assert "data.label_map" not in err + calibrating
    path.write_text("text,sentiment\na fine film,good\n")
    _, err = mdlm(capsys, *given, code=1)
    assert "name one with --label" in err
    mdlm(capsys, *given, "--label", "sentiment", "--json")
    path.write_text("review\na fine film\n")
    for command in ("predict", "explain", "evaluate"):
        _, err = mdlm(capsys, command, *given[1:], code=1)
        assert "name one with --text-column" in err


def test_the_prior_of_shifted_texts_is_found_without_labels(capsys, folder, classifier):
    path = table(folder / "shifted.csv", 60, 5, good=0.9, bad=0.1)
    given = ["evaluate", folder / "run", "--data", path, "--json"]
    out, _ = mdlm(capsys, *given, "--prior-correction")
    prior = json.loads(out)["prior"]
    found = answer(classifier, labels_in(path)[0])
    wanted = em_prior(found.log_posterior - found.log_prior, found.log_prior.exp())
    assert prior == pytest.approx(wanted.tolist(), abs=1e-6)
    assert prior[1] > 0.7


def test_calibration_fits_the_temperature_to_the_texts(capsys, folder, classifier):
    place = folder / "copy"
    shutil.copytree(folder / "run", place)
    before = (place / "classifier.json").read_bytes()
    given = ["calibrate", place, "--data", folder / "test.csv"]
    _, err = mdlm(capsys, *given, "--dry-run")
    assert f"{place / 'classifier.json'} was not written" in err
    assert (place / "classifier.json").read_bytes() == before
    out, err = mdlm(capsys, *given, "--json")
    assert f"{place / 'classifier.json'}: written" in err
    texts, labels = labels_in(folder / "test.csv")
    scores = classifier.model_.scores(texts)
    codes = torch.tensor([classifier.model_.labels.index(label) for label in labels])
    joint = log_joint(scores.log_likelihood, classifier.model_.log_prior)
    wanted = fit(joint, codes, scores.tokens)
    card = json.loads((place / "classifier.json").read_text())
    for found in (json.loads(out)["temperature"], card["temperature"]):
        assert found == pytest.approx({"a": wanted.a, "b": wanted.b}, rel=1e-6)
    out, _ = mdlm(capsys, *given[:2])
    assert "calibrated on" in out


def test_one_class_is_refused_before_training(capsys, folder):
    path = folder / "one.csv"
    path.write_text("text,label\na fine film,good\na kind film,good\n")
    given = ["train", "--data", path, "--out", folder / "one", "--tiny"]
    _, err = mdlm(capsys, *given, code=1)
    assert "only the class 'good'" in err
    assert not (folder / "one").exists()


def test_texts_to_be_measured_on_are_read_before_training(capsys, folder):
    given = ["train", "--data", folder / "train.csv", "--out", folder / "late"]
    _, err = mdlm(capsys, *given, "--tiny", "--test", folder / "none.csv", code=1)
    assert "none.csv" in err
    assert not (folder / "late").exists()
    (folder / "odd.csv").write_text("text,label\na fine film,good\na dull film,bat\n")
    (folder / "some.txt").write_text("a film\n")
    given += ["--tiny", "--test", folder / "odd.csv", "--set", "train.steps=1"]
    for more in ([], ["--unlabelled", folder / "some.txt"]):
        _, err = mdlm(capsys, *given, *more, code=1)
        assert "line 3" in err
        assert "did you mean 'bad'?" in err
        assert not [*folder.glob("late*")]


def test_a_finished_run_says_how_to_go_on(capsys, folder):
    again = folder / "again"
    shutil.copytree(folder / "run", again)
    out, _ = mdlm(capsys, "train", "--out", again, "--resume")
    assert "all 5 steps are done" in out
    out, _ = mdlm(capsys, "train", "--out", again, "--resume", "--set", "train.steps=6")
    assert "step 6/6" in out
    given = ["train", "--data", folder / "train.csv", "--tiny", "--out", again]
    _, err = mdlm(capsys, *given, code=2)
    assert "already holds a run; add --resume" in err


def test_a_signal_tells_how_to_go_on(capsys, folder, monkeypatch):
    import signal

    import mdlm_core.train
    from mdlm_core.train import Outcome

    def stopped(config, *, out, **options):
        return Outcome(out, 3, {}, [], signal.SIGTERM, 9)

    monkeypatch.setattr(mdlm_core.train, "train", stopped)
    given = ["train", "--data", folder / "train.csv", "--out", folder / "s", "--tiny"]
    out, _ = mdlm(capsys, *given, code=143)
    assert "saved after step 3 of 9" in out
    assert "--resume goes on" in out


def test_text_without_labels_is_learned_first(capsys, folder):
    free = folder / "free.txt"
    free.write_text("\n".join(f"the {word} film was it" for word in WORDS["good"] * 4))
    out = folder / "two"
    given = ["train", "--data", folder / "train.csv", "--unlabelled", free]
    more = ["--out", out, "--tiny", "--test", folder / "test.csv"]
    said, _ = mdlm(capsys, *given, *more, "--set", "train.steps=2")
    assert "first all texts without their labels" in said
    assert "accuracy" in said
    first = yaml.safe_load((folder / "two-background" / "config.yaml").read_text())
    second = yaml.safe_load((out / "config.yaml").read_text())
    assert first["data"]["unlabelled_share"] == 1
    assert first["task"]["null_share"] == 1
    assert second["task"]["warm_start"] == str(folder / "two-background")
    tokenizers = [
        (place / "tokenizer" / "mdlm_tokenizer.json").read_bytes()
        for place in (out, folder / "two-background")
    ]
    assert tokenizers[0] == tokenizers[1]
    assert (out / "test" / "evaluation.json").is_file()
    said, _ = mdlm(capsys, "train", "--unlabelled", free, "--out", out, "--resume")
    assert "first all texts" not in said


def test_a_model_without_a_likelihood_is_told_so(classifier):
    class Silent:
        classes_ = np.array(["a", "b"])
        class_count_ = np.array([1, 1])

    with pytest.raises(UsageError, match="no likelihood"):
        answer(Silent(), ["x"], gaps=True)
    with pytest.raises(UsageError, match="no likelihood"):
        familiar_of(Silent(), {}, "run")
    with pytest.raises(CheckpointError, match="mdlm classify calibrate run"):
        familiar_of(classifier, {}, "run")
