"""Canvases from texts, and texts from canvases."""

import pytest
import torch

from mdlm_core.config.components import SamplerConfig
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.masking import UniformMasking
from mdlm_core.samplers import Denoiser, canvas, first_hitting, sample_text
from mdlm_core.samplers.canvas import has_open_end, layout

_ = None  # a position to fill


class Letters:
    """One id for each byte; 256 ends a document, 257 is the mask."""

    name, vocab_size, mask_id, eod_id, pad_id = "letters", 258, 257, 256, 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids, *, mask="▒"):
        return "".join(chr(i) if i < 256 else mask if i == 257 else "" for i in ids)


def row(prompt, length, **settings):
    return [
        chr(token) if token is not None else None
        for token in layout(Letters(), prompt, length, **settings)
    ]


@pytest.mark.parametrize(
    ("prompt", "length", "expected"),
    [
        ("", 3, [_, _, _]),
        ("ab", 4, ["a", "b", _, _]),
        ("ab", 2, ["a", "b"]),
        ("a____b", 5, ["a", _, _, _, "b"]),
        ("a___b", 3, ["a", _, "b"]),
        ("a_____b", 4, ["a", _, _, "b"]),
        ("a__b", 5, ["a", "_", "_", "b", _]),  # two underscores are text
        ("____b", 3, [_, _, "b"]),
        ("a____", 3, ["a", _, _]),
        ("a____b____c", 8, ["a", _, _, _, "b", _, _, "c"]),  # the first gets more
        ("a____{2}b", 4, ["a", _, _, "b"]),
        ("a____{2}b", 6, ["a", _, _, "b", _, _]),  # then it goes on
        ("a____{2}b", None, ["a", _, _, "b"]),
        ("a____{2}b____", 7, ["a", _, _, "b", _, _, _]),
        ("a____{12", 12, ["a", *[_] * 8, "{", "1", "2"]),
    ],
)
def test_layouts_by_hand(prompt, length, expected):
    assert row(prompt, length) == expected


def test_underscores_can_be_text():
    assert row("a____b", 7, blanks=False) == ["a", "_", "_", "_", "_", "b", _]


@pytest.mark.parametrize(
    ("prompt", "length", "message"),
    [
        ("abcdef", 4, "the prompt takes 6 positions, but the canvas has 4.*at least 6"),
        ("ab____cd____", 5, "takes 4 positions and has 2 blanks.*has 5.*at least 6"),
        ("a____{9}", 5, "takes 10 positions, but the canvas has 5"),
        ("a____{0}b", 5, "blank '____.0.' is empty"),
        ("", 0, "canvas of 0 positions"),
        ("a____b", None, "every blank needs its own"),
        ("", None, "every blank needs its own"),
    ],
)
def test_what_does_not_fit_is_an_error(prompt, length, message):
    with pytest.raises(UsageError, match=message):
        layout(Letters(), prompt, length)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", True),
        ("ab", True),
        ("a____", True),
        ("a___{3}b", False),
        ("___{3}___", True),
    ],
)
def test_which_prompts_need_a_length(prompt, expected):
    assert has_open_end(prompt) is expected


def test_rows_are_equal_but_for_their_ids():
    batch = canvas(Letters(), length=5, num=3, prompt="ab", first=10, fixed={4: 99})
    assert batch.tokens.tolist() == [[97, 98, 257, 257, 99]] * 3
    assert batch.frozen.tolist() == [[True, True, False, False, True]] * 3
    assert not batch.pad.any()
    assert batch.sample_id.tolist() == [10, 11, 12]
    assert batch.tokens.dtype == torch.int64


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({5: 1}, "position 5 is outside the canvas, 0 to 4"),
        ({-1: 1}, "position -1 is outside"),
        ({0: 1}, "position 0 is already taken"),
        ({3: 257}, "token 257 at position 3 is no id of a text"),
        ({3: 300}, "token 300"),
    ],
)
def test_fixed_positions_are_checked(fixed, message):
    with pytest.raises(UsageError, match=message):
        canvas(Letters(), length=5, num=1, prompt="ab", fixed=fixed)


def test_fixing_what_the_prompt_says_is_no_conflict():
    batch = canvas(Letters(), length=3, num=1, prompt="ab", fixed={0: 97})
    assert batch.tokens.tolist() == [[97, 98, 257]]


def test_at_least_one_row():
    with pytest.raises(UsageError, match="0 rows"):
        canvas(Letters(), length=5, num=0)


def test_conditions_and_positions_go_with_the_rows():
    places = torch.arange(10).view(1, 5, 2)
    batch = canvas(
        Letters(),
        length=5,
        num=3,
        condition={"label": torch.tensor([4, 5, 6]), "trait": torch.ones(1, 2)},
        positions=places,
    )
    assert batch.condition["label"].tolist() == [4, 5, 6]
    assert batch.condition["trait"].shape == (3, 2)
    assert torch.equal(batch.positions, places.repeat(3, 1, 1))
    assert batch.select(slice(1, 2)).condition["label"].tolist() == [5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": {"label": torch.zeros(2)}}, "condition 'label' has the shape"),
        ({"condition": {"label": torch.tensor(1)}}, "must be the number of rows, 3"),
        ({"positions": torch.zeros(1, 4, 2).long()}, r"needs \(3, 5, P\)"),
        ({"positions": torch.zeros(2, 5, 2).long()}, "positions has the shape"),
    ],
)
def test_tensors_that_do_not_go_with_the_canvas(settings, message):
    with pytest.raises(UsageError, match=message):
        canvas(Letters(), length=5, num=3, **settings)


# ---- texts --------------------------------------------------------------------


class Flat:
    """A model to which all tokens are alike."""

    vocab_size, mask_id, time_conditioned = 258, 257, False

    def hidden(self, batch, t=None):
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, hidden):
        return torch.zeros(len(hidden), 258)


def texts(**settings):
    given = {"schedule": LogLinear(), "length": 12, "num": 2, **settings}
    return sample_text(Flat(), Letters(), **given)


def test_texts_keep_the_prompt_and_fill_the_blank():
    result = texts(prompt="The ____ of", banned=[256])
    assert len(result.texts) == 2
    assert result.texts[0] != result.texts[1]
    for text in result.texts:
        assert len(text) == 12
        assert text.startswith("The ")
        assert text.endswith(" of")
    assert result.tokens.shape == (2, 12)
    assert (result.nfe <= 5).all()


def test_row_i_of_a_seed_is_the_same_whatever_the_number():
    assert texts(num=5, seed=3).texts[:2] == texts(num=2, seed=3).texts
    assert texts(seed=3).texts != texts(seed=4).texts


def test_sampler_settings_fixed_and_callback_reach_the_sampler():
    trace = []
    result = texts(
        sampler=first_hitting,
        config=SamplerConfig(top_k=1),
        fixed={3: 65},
        callback=lambda step, tokens: trace.append(step),
    )
    assert result.nfe.tolist() == [11, 11]
    assert trace == list(range(1, 12))
    assert (result.tokens[:, 3] == 65).all()
    assert len(set(result.tokens[:, :3].flatten().tolist())) == 1  # top_k=1


def test_the_policy_reaches_the_sampler():
    policy = UniformMasking()

    def asking(denoiser, canvas, **rest):
        assert denoiser.policy is policy
        return first_hitting(denoiser, canvas, **rest)

    assert len(texts(sampler=asking, policy=policy).texts) == 2


def test_a_foreign_tokenizer_is_an_error():
    class Other(Letters):
        mask_id = 256

    with pytest.raises(UsageError, match="mask is 256 and the model's is 257"):
        sample_text(Flat(), Other(), schedule=LogLinear(), length=5)


class Sized(Flat):
    """Flat, with another vocabulary; it sees a label and notes its precision."""

    def __init__(self, vocab_size=258):
        self.vocab_size, self.types = vocab_size, []

    def logits(self, hidden):
        product = hidden @ torch.zeros(1, self.vocab_size)
        self.types.append(product.dtype)
        return product


def sized(vocab_size=258, num=64, **settings):
    model = Sized(vocab_size)
    given = {"schedule": LogLinear(), "length": 12, "num": num, **settings}
    return model, sample_text(model, Letters(), **given)


def test_ids_that_the_tokenizer_does_not_have_are_never_drawn():
    tokens = sized(600)[1].tokens
    assert tokens.max() < 257
    assert tokens.max() > 200


def test_a_model_with_a_smaller_vocabulary_is_an_error():
    class Small(Letters):
        vocab_size = 300

    with pytest.raises(UsageError, match="tokenizer has 300 ids and the model 258"):
        sample_text(Sized(), Small(), schedule=LogLinear(), length=5)


def test_conditions_and_guidance_reach_the_model():
    class Guided(Denoiser):
        def laws(self, canvas, where, t=None):
            wanted = canvas.condition["token"][:, None].expand_as(where)[where]
            for law in super().laws(canvas, where, t):
                chosen = torch.nn.functional.one_hot(wanted, law.shape[-1]).bool()
                yield torch.zeros_like(law).masked_fill(~chosen, -torch.inf)

    letters = torch.tensor([97, 98, 99])
    found = texts(
        num=3,
        condition={"token": letters},
        positions=torch.arange(12).view(1, 12, 1),
        denoiser=Guided,
    )
    assert found.texts == ["a" * 12, "b" * 12, "c" * 12]


def test_precision_is_that_of_the_model_alone():
    model, plain = sized(num=2)
    assert set(model.types) == {torch.float32}
    model, coarse = sized(num=2, precision="bf16")
    assert set(model.types) == {torch.bfloat16}
    assert torch.equal(plain.tokens, coarse.tokens)  # all logits are 0 in both
    law = next(
        Denoiser(model).laws(
            canvas(Letters(), length=4, num=1), torch.ones(1, 4).bool()
        )
    )
    assert law.dtype == torch.float32
    with pytest.raises(
        UsageError, match="precision is 'fp16'; it must be fp32 or bf16"
    ):
        sized(precision="fp16")
