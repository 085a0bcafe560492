"""Classify a text with gaps, and fill them in under its class.

Letters: L length, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mdlm_core.config.components import SamplerConfig
from mdlm_core.protocols import Sampler
from mdlm_core.samplers.canvas import layout

from .data.document import of_ids
from .nn.condition import NULL
from .predictor import Predictor
from .sample import class_of, sample_class


@dataclass(frozen=True, kw_only=True, slots=True)
class Filled:
    """A text with gaps, and what may have stood there."""

    label: str
    """The class under which the gaps were filled."""
    posterior: Tensor
    """``(C,)`` float64 p(class | what is known)."""
    texts: tuple[str, ...]
    """The whole text, several times filled."""
    tokens: Tensor
    """``(num, L)`` int64."""
    nfe: Tensor
    """``(num,)`` forward passes of each row."""


def posterior_of_prompt(
    predictor: Predictor, prompt: str, *, length: int | None = None
) -> Tensor:
    """Return p(class | the tokens of `prompt`) ``(C,)`` float64.

    What is not known stays hidden, which sums over all that may stand there.

    Args:
        predictor: the classifier.
        prompt: a beginning, or a text with blanks; see `samplers.canvas.canvas`.
        length: tokens in all; None if every blank has its number.

    Raises:
        UsageError: if the prompt does not fit.
    """
    mask_id = predictor.tokenizer.mask_id
    row = layout(predictor.tokenizer, prompt, length)
    ids = [mask_id if token is None else token for token in row]
    document = of_ids(ids, length=predictor.length, mask_id=mask_id)
    return predictor.log_posterior(predictor.score_documents([document]))[0].exp()


def fill_in(
    predictor: Predictor,
    prompt: str,
    *,
    length: int | None = None,
    label: str | None = None,
    num: int = 1,
    guidance: float = 1.0,
    against: str | None = None,
    seed: int = 0,
    sampler: Sampler | None = None,
    config: SamplerConfig | None = None,
) -> Filled:
    """Classify what is known of a text, and fill in the rest under its class.

    Args:
        predictor: the classifier.
        prompt: a beginning, or a text with blanks; see `samplers.canvas.canvas`.
        length: tokens in all; None if every blank has its number.
        label: fill in under this class, whatever the most probable one is.
        num: how many texts.
        guidance: see `sample.ClassGuidance`.
        against: the class to move away from; the null class if not given.
        seed: decides every draw.
        sampler: ancestral if not given.
        config: steps, temperature, top-k and top-p.

    Raises:
        UsageError: if the prompt does not fit.
        UnknownNameError: if there is no such class.
    """
    labels = predictor.labels
    posterior = posterior_of_prompt(predictor, prompt, length=length)
    chosen = int(posterior.argmax()) if label is None else class_of(label, labels)
    found = sample_class(
        predictor.backbone,
        predictor.tokenizer,
        schedule=predictor.schedule,
        label=chosen,
        length=length,
        num=num,
        prompt=prompt,
        guidance=guidance,
        against=NULL if against is None else class_of(against, labels),
        seed=seed,
        sampler=sampler,
        config=config,
    )
    return Filled(
        label=labels[chosen],
        posterior=posterior,
        texts=tuple(found.texts),
        tokens=found.tokens,
        nfe=found.nfe,
    )
