"""Models of transformers that are told the class."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mdlm_classify.config import ClassHuggingFaceConfig
from mdlm_classify.nn import labelled
from mdlm_classify.nn.hugging_face import ClassHuggingFace, build
from mdlm_classify.nn.per_class import PerClass
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.interop.hugging_face import HuggingFaceBackbone
from mdlm_core.interop.hugging_face import build as build_plain
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.testing.tiny import tiny_batch

transformers = pytest.importorskip("transformers")

V, MASK, L, C = 20, 11, 12, 3
KINDS = {"Bert": "ForMaskedLM", "Llama": "ForCausalLM", "GPT2": "LMHeadModel"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder of a small model of each kind, far from zero."""
    made = {}
    for name, head in KINDS.items():
        config = getattr(transformers, f"{name}Config")(
            vocab_size=V,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        with global_seed(Noise(0).child(name)):
            model = getattr(transformers, f"{name}{head}")(config)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        nn.init.normal_(parameter, std=0.2)
        made[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(made[name])
    return made


def backbone(classes=C, vocab_size=V, **settings):
    with global_seed(Noise(0)):
        made = build(
            ClassHuggingFaceConfig(**settings),
            vocab_size=vocab_size,
            mask_id=MASK,
            length=L,
        )
        made.add_classes(classes)
    return made.eval()


def rows():
    return tiny_batch(length=L, vocab_size=V, mask_id=MASK)


def logits(model, batch, label=None):
    """Return ``(B, L, V)`` under one class for all rows."""
    if label is not None:
        batch = labelled(batch, torch.full((len(batch),), label))
    with torch.no_grad():
        states = model.hidden(batch)
        return model.logits(states.flatten(0, 1)).view(*states.shape[:2], -1)


def laws(seed=0):
    """Return log-probabilities ``(V,)`` of all text and ``(C, V)`` of classes."""
    u = Noise(seed).child("law").uniform(torch.arange(C + 1), V)
    law = (u + 0.1).log().log_softmax(-1).float()
    return law[0], law[1:]


@pytest.mark.parametrize("name", KINDS)
def test_a_pretrained_model_begins_as_it_is_under_every_class(models, name):
    plain = build_plain(
        ClassHuggingFaceConfig(path=models[name]),
        vocab_size=V,
        mask_id=MASK,
        length=L,
    ).eval()
    model, batch = backbone(path=models[name]), rows()
    there = ~batch.pad
    for label in (None, -1, 0, C - 1):
        torch.testing.assert_close(
            logits(model, batch, label)[there], logits(plain, batch)[there]
        )


@pytest.mark.parametrize("name", KINDS)
def test_biases_add_the_ratio_of_frequencies(models, name):
    model, batch = backbone(path=models[name]), rows()
    there = ~batch.pad
    before = logits(model, batch, -1)[there]
    background, classes = laws()
    model.set_biases(background, classes)
    torch.testing.assert_close(logits(model, batch, -1)[there], before)
    for c in range(C):
        found = logits(model, batch, c)[there]
        torch.testing.assert_close(found, before + classes[c] - background)


def test_a_new_model_begins_near_the_frequencies_of_the_class():
    model, batch = backbone(random=True), rows()
    background, classes = laws()
    model.set_biases(background, classes)
    for c in range(C):
        law = logits(model, batch, c)[~batch.pad].log_softmax(-1)
        assert (law - classes[c]).abs().max() < 1.0
        assert (law - classes[c]).abs().mean() < 0.3


@pytest.mark.parametrize("name", KINDS)
def test_a_class_has_a_vector_and_the_null_class_none(models, name):
    model, batch = backbone(path=models[name]), rows()
    there = ~batch.pad
    before = logits(model, batch, -1)[there]
    with torch.no_grad():
        model.class_vectors[1] = 0.5
    torch.testing.assert_close(logits(model, batch, -1)[there], before)
    torch.testing.assert_close(logits(model, batch, 0)[there], before)
    assert not torch.allclose(logits(model, batch, 1)[there], before)


def test_each_row_has_its_own_class(models):
    model, batch = backbone(path=models["Bert"]), rows()
    background, classes = laws()
    model.set_biases(background, classes)
    with torch.no_grad():
        model.class_vectors.copy_(torch.linspace(-1, 1, C)[:, None])
    labels = torch.tensor([2, -1, 0, 1])
    mixed = logits(model, labelled(batch, labels))
    for row, label in enumerate(labels.tolist()):
        alone = logits(model, batch.select(slice(row, row + 1)), label)[0]
        there = ~batch.pad[row]
        torch.testing.assert_close(mixed[row][there], alone[there])


def test_new_classes_leave_the_others_as_they_are(models):
    model, batch = backbone(path=models["Bert"]), rows()
    model.set_biases(*laws())
    there = ~batch.pad
    before = [logits(model, batch, c)[there] for c in range(-1, C)]
    model.add_classes(2)
    assert model.classes == C + 2
    for c, expected in zip(range(-1, C), before, strict=True):
        torch.testing.assert_close(logits(model, batch, c)[there], expected)
    torch.testing.assert_close(logits(model, batch, C + 1)[there], before[0])


def test_every_part_of_a_class_learns(models):
    model, batch = backbone(path=models["Bert"]), rows()
    batch = labelled(batch, torch.tensor([0, 1, 2, 1]))
    model.logits(model.hidden(batch)[batch.free])[:, 3].sum().backward()
    for name in ("class_vectors", "class_biases", "background"):
        assert (getattr(model, name).grad.abs().sum(-1) > 0).all(), name


def test_rows_for_ids_that_the_tokenizer_lacks_keep_their_biases(models):
    model = backbone(path=models["Bert"], vocab_size=V - 4)
    background, classes = laws()
    model.set_biases(background[:-4], classes[:, :-4])
    assert model.class_biases.shape == (C, V)
    assert (model.class_biases[:, -4:] == 0).all()
    assert (model.class_biases[:, :-4] != 0).all()


def test_models_of_their_own_share_nothing(models):
    model, batch = backbone(path=models["Bert"], per_class=True), rows()
    assert isinstance(model, PerClass)
    assert [type(part) for part in model.models] == [ClassHuggingFace] * C
    with torch.no_grad():
        model.models[1].background[3] = 5.0
    before = logits(model, batch, 0)
    changed = logits(model, batch, 1) - before
    assert (changed[~batch.pad][:, 3] - 5 < 1e-5).all()
    with pytest.raises(UsageError, match="no class"):
        logits(model, batch, -1)


def test_a_new_model_has_the_sizes_of_the_settings():
    model = backbone(random=True, blocks=3, width=64, heads=4)
    assert isinstance(model, HuggingFaceBackbone)
    config = model.model.config
    assert (config.num_hidden_layers, config.hidden_size) == (3, 64)
    assert (config.num_attention_heads, config.intermediate_size) == (4, 256)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"model\.width \(30\)"):
        ClassHuggingFaceConfig(width=30, heads=4)


def test_a_class_that_is_not_there_is_refused(models):
    with pytest.raises(UsageError, match="has the class 3; the model has 3"):
        logits(backbone(path=models["Bert"]), rows(), C)


def test_a_backbone_without_classes_takes_any_text(models):
    batch = Batch.of(torch.full((1, 4), 3))
    assert logits(backbone(0, path=models["Bert"]), batch).shape == (1, 4, V)
