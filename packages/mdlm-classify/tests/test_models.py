"""The classifiers beside `MDLMClassifier`: causal, discriminative, simple."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mdlm_classify import (
    CausalLMClassifier,
    DiscriminativeClassifier,
    SimpleMaskedDiffusion,
    load_classifier,
)
from mdlm_classify.causal.score import score
from mdlm_classify.config import (
    ClassDiTConfig,
    ClassHuggingFaceConfig,
    DiscriminativeConfig,
)
from mdlm_classify.data.document import of_ids
from mdlm_classify.discriminative.model import build, log_posterior
from mdlm_classify.discriminative.task import ClassifyDiscriminative
from mdlm_classify.nn import labelled
from mdlm_classify.nn.class_dit import build as build_dit
from mdlm_classify.nn.hugging_face import build as build_hugging_face
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed

from .pretrained_toy import write
from .words_toy import texts

SMALL = {
    "data.min_count": 1,
    "model.blocks": 1,
    "model.width": 16,
    "model.heads": 2,
    "task.eval_rows": 8,
    "train.ema": 0.0,
    "train.lr": 1e-2,
    "train.warmup": 0,
}
FEW = {"task.eval_draws": 2, "task.sample_count": 0}
KINDS = {
    "causal": (CausalLMClassifier, {}, {"epochs": 4}),
    "discriminative": (DiscriminativeClassifier, {}, {"epochs": 4}),
    "simple": (SimpleMaskedDiffusion, FEW, {"epochs": 2, "draws": 4}),
}
X, Y = texts(90)
NEW, LABELS = texts(40, seed=5)
V, MASK, C = 20, 11, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=KINDS)
def trained(request, folder):
    kind, more, given = KINDS[request.param]
    model = kind(
        settings={**SMALL, **more}, length=16, out=folder / request.param, **given
    )
    return model.fit(X, Y)


# ---- the face ---------------------------------------------------------------


def test_it_learns_what_the_classes_are_about(trained):
    assert trained.score(NEW, LABELS) > 0.8
    law = trained.predict_proba(NEW)
    assert law.shape == (40, len(trained.classes_))
    np.testing.assert_allclose(law.sum(1), 1)


def test_what_is_read_again_answers_as_before(trained):
    again = load_classifier(trained.out, device="cpu")
    assert type(again) is type(trained)
    expected = trained.predict_log_proba(NEW)
    np.testing.assert_allclose(again.predict_log_proba(NEW), expected, atol=1e-5)
    copied = pickle.loads(pickle.dumps(trained))
    np.testing.assert_allclose(copied.predict_log_proba(NEW), expected, atol=1e-5)


def test_answers_depend_neither_on_the_order_nor_on_the_batch(trained):
    whole = trained.predict_log_proba(NEW)
    back = trained.predict_log_proba(NEW[::-1])[::-1]
    np.testing.assert_allclose(back, whole, atol=1e-4)
    alone = trained.predict_log_proba(NEW[3:4])
    np.testing.assert_allclose(alone, whole[3:4], atol=1e-4)


def test_a_text_without_a_word_gets_the_frequencies_of_the_classes(trained):
    found = np.exp(trained.predict_log_proba(["", NEW[0]]))[0]
    if trained.kind == "discriminative":
        shares = trained.class_count_ / trained.class_count_.sum()
    else:
        shares = np.exp(trained.log_prior_)
    np.testing.assert_allclose(found, shares, rtol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_parameters_are_those_of_scikit_learn(name):
    kind, _, _ = KINDS[name]
    model = kind(base_model="folder", length=8, settings=SMALL)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert copied.set_params(epochs=3).epochs == 3
    assert make_pipeline(FunctionTransformer(), model).steps[1][1] is model


@pytest.mark.parametrize("name", ["causal", "discriminative"])
def test_texts_without_labels_are_refused(name):
    kind, _, given = KINDS[name]
    with pytest.raises(ValueError, match="unlabelled texts are given"):
        kind(settings=SMALL, **given).fit(X, Y, unlabelled=["more text"])


# ---- what each one is -------------------------------------------------------


@pytest.mark.parametrize("trained", ["causal"], indirect=True)
def test_causal_scores_are_exact_and_without_draws(trained):
    found = trained.scores(NEW[:3])
    assert found.exact
    models, model = trained.trained_.module.backbone, trained.model_
    expected = score(models, model.documents(NEW[:3])).log_likelihood
    torch.testing.assert_close(found.log_likelihood, expected)
    nll = trained.compute_nll(NEW[0], trained.classes_[1])
    assert nll == pytest.approx(-float(expected[0, 1]), abs=1e-4)
    with pytest.raises(UsageError, match="gaps"):
        trained.scores(["a ____ b"], gaps=True)


@pytest.mark.parametrize("build_one", [build_dit, build_hugging_face])
def test_models_of_their_own_can_be_pickled(build_one):
    sizes = {"blocks": 1, "width": 16, "heads": 2, "per_class": True}
    config = (
        ClassDiTConfig(cond_width=8, **sizes)
        if build_one is build_dit
        else ClassHuggingFaceConfig(random=True, **sizes)
    )
    made = build_one(config, vocab_size=V, mask_id=MASK, length=8)
    made.add_classes(2)
    copied = pickle.loads(pickle.dumps(made))
    copied.add_classes(1)
    assert (copied.classes, made.classes) == (3, 2)


def test_the_simple_diffusion_has_the_weight_one_over_t_and_no_other_term():
    config = resolve(load_catalog(), preset="classify/simple").config
    task, schedule = config.task.config, config.schedule.config
    assert (task.t_sampling, task.discriminative) == ("uniform", 0)
    assert (config.schedule.name, schedule.eps) == ("loglinear", 0)
    assert config.masking.name == "uniform"


def test_a_pretrained_model_brings_its_tokenizer_and_a_gentle_rate():
    model = SimpleMaskedDiffusion(base_model="somewhere", length=9)
    found = model._assignments()
    assert found["model.path"] == found["data.tokenizer"] == "somewhere"
    assert found["model.random"] is False
    assert found["train.lr"] == 5e-5
    other = SimpleMaskedDiffusion(base_model="somewhere", tokenizer="byte")
    assert other._assignments()["data.tokenizer"] == "byte"
    assert SimpleMaskedDiffusion()._assignments() == {"model.random": True}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("simple", "Roberta"),
        ("simple", "GPT2"),
        ("causal", "GPT2"),
        ("discriminative", "Roberta"),
    ],
)
def test_learning_begins_with_a_pretrained_model(tmp_path, name, weights):
    write(tmp_path, X, name=weights)
    kind, more, given = KINDS[name]
    settings = {"train.steps": 3, "task.eval_rows": 8, "train.lr": 1e-9, **more}
    given = {**given, "epochs": 0, "length": 16, "base_model": str(tmp_path)}
    model = kind(settings=settings, **given).fit(X, Y)
    backbone = model.trained_.module.backbone
    first = backbone.models[0] if name == "causal" else backbone
    auto = transformers.AutoModel.from_pretrained(tmp_path)
    table = auto.get_input_embeddings().weight
    found = first.model.get_input_embeddings().weight[: len(table)]
    torch.testing.assert_close(found, table, atol=1e-5, rtol=0)
    assert model.trained_.tokenizer.name == str(tmp_path)
    assert model.predict(NEW).shape == (40,)


# ---- the discriminative model -----------------------------------------------


def encoder(classes=C, **settings):
    with global_seed(Noise(0)):
        config = ClassHuggingFaceConfig(
            random=True, width=32, heads=2, blocks=1, **settings
        )
        made = build(config, vocab_size=V, mask_id=MASK, length=8, classes=classes)
        with torch.no_grad():  # far from zero
            for parameter in made.head.parameters():
                parameter.normal_()
    return made.eval()


def documents(*rows):
    return [of_ids(row, length=8, mask_id=MASK) for row in rows]


def test_logits_of_windows_are_averaged_by_their_tokens():
    model, flat = encoder(), torch.zeros(C)
    row = [1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 2]
    with torch.no_grad():
        parts = [
            model.logits(Batch.of(torch.tensor([part]))) for part in (row[:8], row[8:])
        ]
    mean = (8 * parts[0] + 3 * parts[1]).double() / 11
    found = log_posterior(model, documents(row), log_prior=flat)
    torch.testing.assert_close(found, mean.log_softmax(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tokens", [1, 12, 1000])
def test_padding_and_batches_change_nothing(tokens):
    model, flat = encoder(), torch.zeros(C)
    rows = documents([1, 2, 3], [4] * 8, [5], [6, 7, 8, 9, 10])
    alone = [log_posterior(model, [row], log_prior=flat) for row in rows]
    found = log_posterior(model, rows, log_prior=flat, tokens_at_once=tokens)
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)


def test_an_empty_text_gets_the_prior():
    prior = torch.tensor([0.2, 0.3, 0.5]).double().log()
    found = log_posterior(encoder(), documents([], [1]), log_prior=prior)
    torch.testing.assert_close(found[0], prior)
    assert not torch.allclose(found[1], prior)


def test_the_loss_is_the_weighted_cross_entropy_of_rows_with_a_class():
    model = encoder()
    model.class_weights.copy_(torch.tensor([1.0, 2.0, 4.0]))
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    labels = torch.tensor([2, -1, 1])
    batch = labelled(Batch.of(tokens), labels)
    loss = model(batch, None)
    law = model.logits(batch).log_softmax(1)
    expected = -4 * law[0, 2] - 2 * law[2, 1]
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.count) == int(model.count(batch)) == 2
    assert loss.masked.nonzero().tolist() == [[0, 0], [2, 0]]


def test_the_head_over_the_vocabulary_is_not_trained():
    model = encoder()
    batch = labelled(Batch.of(torch.tensor([[1, 2, 3]])), torch.tensor([0]))
    model(batch, None).total.backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.grad is not None}
    assert "head.out.weight" in trained
    assert not any("cls.predictions.transform" in name for name in trained)


def test_rare_classes_count_more_if_asked_for():
    class Source:
        def class_sizes(self):
            return np.array([2, 6, 4])

    run = resolve(load_catalog(), preset="classify/discriminative").config
    config = DiscriminativeConfig(class_weights="balanced")
    task = ClassifyDiscriminative(config, run=run, catalog=load_catalog())
    model = encoder()
    task.start(model, Source())
    expected = torch.tensor([12 / (3 * 2), 12 / (3 * 6), 12 / (3 * 4)])
    torch.testing.assert_close(model.class_weights, expected)


def test_a_discriminative_model_has_no_likelihood():
    run = resolve(load_catalog(), preset="classify/discriminative").config
    task = ClassifyDiscriminative(run.task.config, run=run, catalog=load_catalog())
    with pytest.raises(UsageError, match="no likelihood"):
        task.bound()


@pytest.mark.parametrize("name", ["causal", "discriminative"])
def test_a_model_that_is_none_of_transformers_is_refused(name):
    sets = ["model.name=class-dit"]
    run = resolve(load_catalog(), preset=f"classify/{name}", sets=sets).config
    task = load_catalog().build("task", run.task, run=run, catalog=load_catalog())
    with pytest.raises(ConfigError, match=r"model\.name=class-hugging-face"):
        task.build(None)
