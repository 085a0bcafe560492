"""Backbones that are told the class: where it comes in, and what a new one changes."""

import pytest
import torch

from mdlm_classify.counts import log_frequencies
from mdlm_classify.nn.condition import labelled
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError

from .class_models import MASK, L, V, model


def batch(rows=2):
    tokens = torch.randint(
        0, MASK, (rows, L), generator=torch.Generator().manual_seed(1)
    )
    tokens[:, 2:4] = MASK
    return Batch.of(tokens)


def law(made, rows, label):
    states = made.hidden(labelled(rows, torch.full((len(rows),), label)))
    return made.logits(states.flatten(0, 1)).log_softmax(-1)


def test_log_frequencies_are_naive_bayes():
    from sklearn.naive_bayes import MultinomialNB

    counts = torch.randint(0, 9, (3, V), generator=torch.Generator().manual_seed(2))
    counts[:, MASK] = 0
    bayes = MultinomialNB(alpha=0.5).fit(counts[:, :MASK].numpy(), [0, 1, 2])
    found = log_frequencies(counts, smoothing=0.5, mask_id=MASK)
    assert torch.allclose(
        found[:, :MASK], torch.from_numpy(bayes.feature_log_prob_), atol=1e-12
    )


@pytest.mark.parametrize("per_class", [False, True])
def test_a_new_model_says_the_frequencies_of_the_class(per_class):
    made = model(learned=False, per_class=per_class)
    counts = torch.randint(0, 9, (4, V), generator=torch.Generator().manual_seed(2))
    counts[-1] = counts[:-1].sum(0)
    frequencies = log_frequencies(counts, smoothing=1.0, mask_id=MASK)
    made.set_biases(frequencies[-1], frequencies[:-1])
    for c in range(3):
        found = law(made, batch(), c)[:, :MASK].log_softmax(-1)
        wanted = frequencies[c, :MASK].float().expand_as(found)
        assert torch.allclose(found, wanted, atol=1e-5)
    if not per_class:
        made.set_biases(frequencies[-1] + 5, frequencies[:-1] + 5, shared=False)
    table = made.context_free()
    assert torch.allclose(table[:3, :MASK], frequencies[:3, :MASK].float(), atol=1e-5)
    assert torch.isneginf(table[:3, MASK]).all()


def test_classes_differ_in_states_and_in_the_head():
    made = model()
    laws = [law(made, batch(), c) for c in (-1, 0, 1, 2)]
    for i in range(4):
        for j in range(i):
            assert not torch.allclose(laws[i], laws[j], atol=1e-3)
    with torch.no_grad():
        made.head.weight[:, 16:] = 0  # the head no longer knows the class
    assert not torch.allclose(law(made, batch(), 0), law(made, batch(), 1), atol=1e-3)


def test_no_label_is_the_null_class():
    made, rows = model(), batch()
    states = made.hidden(rows)
    assert torch.equal(states, made.hidden(labelled(rows, torch.tensor([-1, -1]))))
    assert (states[..., 16:] == 0).all()


@pytest.mark.parametrize("per_class", [False, True])
def test_a_new_class_leaves_the_others_as_they_are(per_class):
    made = model(2, per_class=per_class)
    before = [law(made, batch(), c) for c in range(2)]
    made.add_classes(1)
    assert made.classes == 3
    for c in range(2):
        assert torch.allclose(law(made, batch(), c), before[c], atol=1e-6)
    if not per_class:
        assert law(made, batch(), 2).isfinite().all()


def test_each_model_of_its_own_is_asked_about_its_rows():
    made = model(3, per_class=True)
    rows = batch(3)
    together = made.hidden(labelled(rows, torch.tensor([2, 0, 2])))
    logits = made.logits(together.flatten(0, 1)).view(3, L, V)
    for row, owner in enumerate((2, 0, 2)):
        alone = made.models[owner]
        own = alone.logits(alone.hidden(rows.select(slice(row, row + 1)))[0])
        assert torch.allclose(logits[row], own, atol=1e-5)
    with pytest.raises(UsageError, match="none for text of no class"):
        made.hidden(rows)


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="class 3; the model has 3"):
        model().hidden(labelled(batch(), torch.tensor([0, 3])))


def test_every_model_has_a_gradient_whatever_the_rows():
    made = model(3, per_class=True)
    states = made.hidden(labelled(batch(), torch.tensor([2, 0])))
    made.logits(states.flatten(0, 1)).square().sum().backward()
    for c, own in enumerate(made.models):
        gradients = [parameter.grad for parameter in own.parameters()]
        assert all(gradient is not None for gradient in gradients)
        assert any((gradient != 0).any() for gradient in gradients) is (c != 1)
