"""A small classifier of made-up words, in memory."""

import torch

from mdlm_classify.calibration import LengthTemperature
from mdlm_classify.config import ClassDiTConfig, ScoringConfig
from mdlm_classify.nn.class_dit import build
from mdlm_classify.predictor import Predictor
from mdlm_classify.tokenizer import WordTokenizer
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise, global_seed

WORDS = (
    "good",
    "fine",
    "bad",
    "poor",
    "the",
    "film",
    "is",
    "was",
    "a",
    ".",
    ",",
    "plot",
)
LABELS = ("negative", "neutral", "positive")
TEXT = "The film was good, the plot is poor. A fine film!"


def laws():
    """Return log-frequencies ``(C + 1, V)``: two words for each side."""
    weight = torch.ones(len(LABELS) + 1, len(WORDS) + 3)
    weight[0, [2, 3]] = weight[2, [0, 1]] = 8.0
    weight[:, -2:] = 1e-3  # end and mask
    return weight.double().log().log_softmax(-1)


def predictor(*, context=0.05, labels=LABELS, length=8, per_class=False, **scoring):
    """Return a classifier; with `context` 0 it is multinomial naive Bayes."""
    config = ClassDiTConfig(
        blocks=1, width=16, heads=2, cond_width=8, per_class=per_class
    )
    tokenizer = WordTokenizer(WORDS)
    with global_seed(Noise(0)):
        backbone = build(
            config,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=length,
        )
        backbone.add_classes(len(labels))
        law = laws().float()
        own = [LABELS.index(name) for name in labels]
        backbone.set_biases(law[-1], law[own])
        if context:
            for parameter in backbone.parameters():
                parameter.data += context * torch.randn_like(parameter)
    sizes = torch.arange(1, len(labels) + 1).double()
    return Predictor(
        labels=labels,
        log_prior=sizes.log().log_softmax(0),
        temperature=LengthTemperature(1.5, 0.2),
        backbone=backbone.eval(),
        tokenizer=tokenizer,
        schedule=LogLinear(eps=0.0),
        length=length,
        scoring=ScoringConfig(**scoring),
    )
