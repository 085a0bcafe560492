"""Texts of a class: the guided law, its limits, and what is refused."""

import pytest
import torch

from mdlm_classify.config import ClassDiTConfig
from mdlm_classify.nn.class_dit import build
from mdlm_classify.sample import (
    class_of,
    condition_of,
    fill,
    guided,
    no_text,
    sample_class,
)
from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed

TOKENIZER = CharTokenizer("abcdefgh")
V, MASK = TOKENIZER.vocab_size, TOKENIZER.mask_id
C, L = 3, 7


def model(per_class=False, context=True):
    config = ClassDiTConfig(
        blocks=1, width=16, heads=2, cond_width=8, per_class=per_class
    )
    with global_seed(Noise(0)):
        backbone = build(config, vocab_size=V, mask_id=MASK, length=L)
        backbone.add_classes(C)
        laws = torch.randn(C + 1, V).log_softmax(-1)
        backbone.set_biases(laws[-1], laws[:-1])
        if context:
            for parameter in backbone.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
    return backbone.eval(), laws


def canvas(labels):
    tokens = torch.full((len(labels), L), MASK)
    tokens[:, 1] = 2
    frozen = tokens != MASK
    return Batch.of(tokens, frozen=frozen, condition={"label": torch.tensor(labels)})


def law(backbone, labels, *, guidance, against=-1, banned=()):
    rows = canvas(labels)
    make, used = guided(
        backbone, rows.condition["label"], guidance=guidance, against=against
    )
    denoiser = make(banned=banned)
    told = Batch.of(rows.tokens, frozen=rows.frozen, condition={"label": used})
    with denoiser.evaluating():
        return denoiser.log_probs(told, denoiser.masked(told)), denoiser


def mixed(c, u, g):
    return (
        (g * c + (1 - g) * u)
        .nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        .log_softmax(-1)
    )


@pytest.mark.parametrize("against", [-1, 2])
def test_the_guided_law_is_the_product_of_powers(against):
    backbone, _ = model()
    labels = [0, 1]
    c, _ = law(backbone, labels, guidance=1)
    u, _ = law(backbone, [against] * 2, guidance=1)
    assert (c - u).nan_to_num().abs().max() > 0.1
    for g in (-0.5, 0.4, 2.5):
        found, denoiser = law(backbone, labels, guidance=g, against=against)
        torch.testing.assert_close(found, mixed(c, u, g), atol=3e-5, rtol=0)
        assert denoiser.passes == 2
    one, plain = law(backbone, labels, guidance=1, against=against)
    zero, _ = law(backbone, labels, guidance=0, against=against)
    assert torch.equal(one, c)
    assert torch.equal(zero, u)
    assert plain.passes == 1


def test_without_context_the_guided_law_is_known():
    backbone, laws = model(context=False)
    laws = laws.index_fill(1, torch.tensor([MASK, 3]), -torch.inf)
    for g in (1.0, 3.0):
        found, _ = law(backbone, [1], guidance=g, banned=[3])
        wanted = mixed(laws[1], laws[-1], g)
        torch.testing.assert_close(found, wanted.expand(L - 1, V), atol=1e-5, rtol=0)
    assert (found[:, [3, MASK]] == -torch.inf).all()


def test_frequencies_of_sampled_letters_are_those_of_the_class():
    backbone, laws = model(context=False)
    given = {"schedule": LogLinear(eps=0.0), "length": L, "num": 600, "label": 1}
    tokens = sample_class(backbone, TOKENIZER, **given).tokens
    banned = [*no_text(TOKENIZER), MASK]
    wanted = laws[1].index_fill(0, torch.tensor(banned), -torch.inf).softmax(-1)
    share = tokens.flatten().bincount(minlength=V) / tokens.numel()
    error = (wanted * (1 - wanted) / tokens.numel()).sqrt()
    assert ((share - wanted).abs() <= 4 * error).all()


def test_a_row_depends_on_the_seed_and_its_number_alone():
    backbone, _ = model()
    given = {"schedule": LogLinear(), "length": L, "guidance": 2.0}
    four = sample_class(backbone, TOKENIZER, num=4, label=[0, 1, 2, 0], **given)
    two = sample_class(backbone, TOKENIZER, num=2, label=[0, 1], **given)
    assert torch.equal(four.tokens[:2], two.tokens)
    other = sample_class(backbone, TOKENIZER, num=2, label=[0, 1], seed=1, **given)
    assert not torch.equal(other.tokens, two.tokens)
    assert {len(text) for text in four.texts} == {L}


def test_prompts_stay_and_their_blanks_are_filled():
    backbone, _ = model()
    found = sample_class(
        backbone,
        TOKENIZER,
        schedule=LogLinear(),
        label=0,
        length=None,
        prompt="ab____{3}cd",
    )
    assert found.texts[0].startswith("ab")
    assert found.texts[0].endswith("cd")
    assert len(found.texts[0]) == 7


def test_fill_writes_where_the_mask_is_free():
    backbone, _ = model()
    rows = canvas([0, 2])
    rows.frozen[0, 4] = True  # a gap that is to stay
    filled, nfe = fill(
        backbone, TOKENIZER, rows, schedule=LogLinear(), noise=Noise(0), guidance=1.5
    )
    assert filled[0, 4] == MASK
    assert (filled == MASK).sum() == 1
    assert (nfe <= 2 * torch.tensor([L - 2, L - 1])).all()
    assert (filled[:, 1] == 2).all()


def test_a_model_for_each_class_has_no_null_class():
    backbone, _ = model(per_class=True)
    given = {"schedule": LogLinear(), "length": L}
    assert sample_class(backbone, TOKENIZER, label=1, **given).texts
    more = {"guidance": 2.0, "against": 2}
    assert sample_class(backbone, TOKENIZER, label=1, **more, **given).texts
    with pytest.raises(UsageError, match=r"guidance is 2\.0.*model.per_class=true"):
        sample_class(backbone, TOKENIZER, label=1, guidance=2.0, **given)
    with pytest.raises(UsageError, match="knows of none"):
        sample_class(backbone, TOKENIZER, label=-1, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": 3}, "there is no class 3; the model has 3"),
        ({"label": 0, "against": 7}, "there is no class 7"),
        ({"label": [0, 1]}, "2 classes for 1 texts"),
        ({"label": 1, "against": 1, "guidance": 2.0}, "the two are the same"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        sample_class(model()[0], TOKENIZER, schedule=LogLinear(), length=L, **given)


def test_the_condition_of_a_name():
    labels = ("negative", "positive")
    condition = condition_of({"label": "positive"}, 3, labels=labels)
    assert condition["label"].tolist() == [1, 1, 1]
    assert condition_of({}, 2, labels=labels)["label"].tolist() == [-1, -1]
    with pytest.raises(UnknownNameError, match="did you mean 'positive'"):
        class_of("positiv", labels)
    with pytest.raises(UsageError, match="no condition 'lable'"):
        condition_of({"lable": "positive"}, 1, labels=labels)
