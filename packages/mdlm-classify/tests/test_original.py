"""The model of the original name, and its command."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mdlm_classify import CausalLMClassifier, SimpleDiscreteDiffusion, original
from mdlm_classify.cli import app
from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run
from mdlm_core.errors import CheckpointError, ConfigError, DataError, UsageError

from .pretrained_toy import write
from .words_toy import texts

SMALL = {
    "model.blocks": 1,
    "model.width": 16,
    "model.heads": 2,
    "train.ema": 0.0,
    "train.lr": 1e-2,
    "train.warmup": 0,
}
X, Y = texts(90, classes=2)
CLASSES = sorted(set(Y))


def of(label):
    return [text for text, own in zip(X, Y, strict=True) if own == label]


def new(settings=None, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return SimpleDiscreteDiffusion(
            **{"base_model": None, "length": 32, "epochs": 4, **given},
            settings={**SMALL, **(settings or {})},
        )


def read(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return SimpleDiscreteDiffusion.load(folder, device="cpu")


@pytest.fixture(scope="module")
def pair():
    """Return the model of each of two classes."""
    settings = {"train.batch_size": 8, "train.lr": 3e-2}
    return [new(settings, epochs=5).train_on_class_data(of(label)) for label in CLASSES]


def test_it_says_once_that_it_is_autoregressive(monkeypatch):
    monkeypatch.setattr(original, "_said", set())
    with pytest.warns(UserWarning, match="no diffusion: it is an autoregressive"):
        SimpleDiscreteDiffusion()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SimpleDiscreteDiffusion()


def test_two_of_them_tell_classes_apart(pair):
    held_out, labels = texts(40, seed=5, classes=2)
    nll = np.array([model.compute_nll(held_out) for model in pair])
    found = [CLASSES[best] for best in nll.argmin(0)]
    assert np.mean([a == b for a, b in zip(found, labels, strict=True)]) > 0.8


def test_one_text_has_a_number_and_several_a_list(pair):
    one = pair[0].compute_nll(X[0])
    assert isinstance(one, float)
    assert pair[0].compute_nll([X[0], ""]) == [pytest.approx(one, abs=1e-4), 0.0]
    assert str(pair[0].compute_nll("")) == "0.0"


def test_what_was_saved_is_read_again(pair, tmp_path):
    folder = pair[0].save(tmp_path / "class_0")
    expected = pair[0].compute_nll(X[:4])
    np.testing.assert_allclose(read(folder).compute_nll(X[:4]), expected, atol=1e-4)
    with pytest.raises(UsageError, match="not empty"):
        pair[0].save(folder)


def test_learning_once_more_goes_on():
    model = new(epochs=1).train_on_class_data(of(CLASSES[0]))
    first = np.sum(model.compute_nll(of(CLASSES[0])))
    model.train_on_class_data(of(CLASSES[0]))
    assert np.sum(model.compute_nll(of(CLASSES[0]))) < first - 5
    # and not from the start
    assert np.sum(
        new(epochs=1).train_on_class_data(of(CLASSES[0])).compute_nll(of(CLASSES[0]))
    ) == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("given", [{"tiny": True}, {"base_model": "new"}])
def test_a_new_model_is_asked_for_as_in_the_command(given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = SimpleDiscreteDiffusion(**given, settings=SMALL, epochs=1, length=16)
    assert model.train_on_class_data(of(CLASSES[0])).compute_nll(X[0]) > 0
    assert model.base_model is None


def test_a_pretrained_model_scores_before_it_learns(tmp_path):
    words, gpt = write(tmp_path, X, name="GPT2")
    model = new(base_model=str(tmp_path))
    ids = [words[word] for word in X[0].split()]
    with torch.no_grad():
        logits = gpt(torch.tensor([[0, *ids]])).logits[0, :-1]
    expected = -float(logits.log_softmax(-1)[range(len(ids)), ids].sum())
    assert model.compute_nll(X[0]) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UsageError, match="nothing was learned"):
        model.save(tmp_path / "out")


# ---- refusals ---------------------------------------------------------------


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(UsageError, match="knows nothing yet"):
        new().compute_nll("a text")
    with pytest.raises(DataError, match="there is one text of the class"):
        new().train_on_class_data(["again", "again"])
    with pytest.raises(ConfigError, match="of each class would have another one"):
        new(settings={"data.tokenizer": "words:50"}).train_on_class_data(X)
    with pytest.raises(ValueError, match="put it in brackets"):
        new().train_on_class_data("one text")


def test_a_classifier_of_several_classes_is_read_elsewhere(tmp_path):
    CausalLMClassifier(
        settings={**SMALL, "data.min_count": 1}, epochs=1, out=tmp_path / "run"
    ).fit(X, Y)
    with pytest.raises(CheckpointError, match="it has 2 classes"):
        read(tmp_path / "run")


# ---- the command ------------------------------------------------------------


def test_the_command_trains_one_class(tmp_path):
    data = tmp_path / "train_class_0.json"
    data.write_text(json.dumps([{"text": text} for text in of(CLASSES[0])]))
    out = tmp_path / "class_0"
    command = ["train-simple-diffusion", "--data", str(data), "--output", str(out)]
    found = CliRunner().invoke(app, [*command, "--tiny", "--set", "train.lr=0.01"])
    assert found.exit_code == 0, found.output
    assert "SimpleDiscreteDiffusion.load" in found.output
    assert "autoregressive" in found.output
    assert read_run(out, load_catalog()).train.lr == 0.01
    assert read(out).compute_nll(X[0]) > 0
    for more in (["predict", "--text", "a"], ["evaluate"], ["sample"], ["calibrate"]):
        found = CliRunner().invoke(app, [more[0], str(out), *more[1:]])
        assert isinstance(found.exception, CheckpointError)
        assert "is a model of one class; use SimpleDiscreteDiffusion.load" in str(
            found.exception
        )
    again = CliRunner().invoke(app, [*command, "--tiny"])
    assert isinstance(again.exception, UsageError)


def test_the_command_refuses_texts_of_several_classes(tmp_path):
    data, out = tmp_path / "train.csv", tmp_path / "run"
    data.write_text("text,label\na fine film,good\na dull film,bad\n")
    command = ["train-simple-diffusion", "--data", str(data), "--output", str(out)]
    found = CliRunner().invoke(app, [*command, "--tiny"])
    assert isinstance(found.exception, DataError)
    assert "has texts of 2 classes, 'bad', 'good'" in str(found.exception)
    assert not out.exists()
    data.write_text("text\na fine film\na dull film\n")
    found = CliRunner().invoke(app, [*command, "--tiny", "--epochs", "1"])
    assert found.exit_code == 0, found.output


def test_the_module_is_the_command():
    found = subprocess.run(
        [sys.executable, "-m", "mdlm_classify.train_simple_diffusion", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--output" in found.stdout
