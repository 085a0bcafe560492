"""Write texts of a class, or fill in the blanks of one.

Letters: B rows, L length, V vocabulary, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import (
    Sampled,
    Sampler,
    SamplerCallback,
    Schedule,
    Tokenizer,
)
from mdlm_core.samplers.ancestral import build
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.guidance import Guidance
from mdlm_core.samplers.text import Texts, device_of, sample_text

from .nn.condition import LABEL, NULL, Conditional, labelled


class ClassGuidance(Guidance):
    """A denoiser with the law ``p_c^g p_u^(1-g)``: classifier-free guidance.

    p_c is the law under the class of a row and p_u that under the null class, or under
    another class that the text is to be unlike; see `mdlm_core.samplers.guidance`.

    Args:
        backbone: the model.
        scale: g.
        against: the class of p_u, -1 for the null class.
        settings: as of `Denoiser`.
    """

    def __init__(
        self,
        backbone: Conditional,
        *,
        scale: float,
        against: int = NULL,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        banned: Sequence[int] = (),
    ) -> None:
        super().__init__(
            backbone,
            views=(lambda canvas: canvas, partial(_of_class, label=against)),
            weights=(scale, 1 - scale),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            banned=banned,
        )
        self.scale = scale
        self.against = against


def _of_class(canvas: Batch, *, label: int) -> Batch:
    """Return the canvas with every row of the class `label`."""
    return labelled(canvas, torch.full_like(canvas.condition[LABEL], label))


def guided(
    backbone: Conditional, labels: Tensor, *, guidance: float, against: int = NULL
) -> tuple[Callable[..., Denoiser], Tensor]:
    """Return what makes the denoiser, and the classes ``(B,)`` of its rows.

    Guidance of 1 is the class alone and needs no second pass; neither does 0, which
    is the null class, or the class `against`.

    Args:
        backbone: the model.
        labels: ``(B,)`` int64, the classes that are wanted.
        guidance: g; see `ClassGuidance`.
        against: the class of u.

    Raises:
        UsageError: if the model has no null class, and it is needed; or if the texts
            are to be like a class and unlike it.
    """
    null = (against == NULL and guidance != 1) or bool((labels == NULL).any())
    if null and not backbone.has_null:
        raise UsageError(
            f"the guidance is {guidance}, which compares with text of no class, but "
            f"this model was trained with model.per_class=true and knows of none; set "
            f"the guidance to 1, or compare with a class"
        )
    if guidance != 1 and bool((labels == against).any()):
        raise UsageError(
            f"with a guidance of {guidance} texts are made more like their class and "
            f"less like another, but here the two are the same; choose two"
        )
    if guidance == 1:
        return partial(Denoiser, backbone), labels
    if guidance == 0:
        return partial(Denoiser, backbone), torch.full_like(labels, against)
    return partial(ClassGuidance, backbone, scale=guidance, against=against), labels


def sample_class(
    backbone: Conditional,
    tokenizer: Tokenizer,
    *,
    schedule: Schedule,
    label: int | Sequence[int],
    length: int | None,
    num: int = 1,
    prompt: str = "",
    guidance: float = 1.0,
    against: int = NULL,
    seed: int = 0,
    sampler: Sampler | None = None,
    config: SamplerConfig | None = None,
    banned: Sequence[int] = (),
    callback: SamplerCallback | None = None,
) -> Texts:
    """Sample `num` texts of a class; row i of seed s is the same whatever `num` is.

    Tokens that stand for no text are never drawn: the unknown word, the end of a
    document and the padding.

    Args:
        backbone: the model.
        tokenizer: the one it was trained with.
        schedule: the one it was trained with.
        label: the class, or one for each row; -1 for text of no class.
        length: tokens of a text; see `samplers.canvas.canvas` for None.
        num: how many.
        prompt: a beginning, or a text with blanks; see `samplers.canvas.canvas`.
        guidance: g; see `ClassGuidance`.
        against: the class to move away from, -1 for the null class.
        seed: decides every draw.
        sampler: ancestral if not given.
        config: steps, temperature, top-k and top-p.
        banned: further ids that must not be drawn.
        callback: called with the canvas after every evaluation.

    Raises:
        UsageError: if the prompt does not fit, the model has no such class, or has no
            null class and it is needed.
    """
    wanted = [label] * num if isinstance(label, int) else list(label)
    if len(wanted) != num:
        raise UsageError(
            f"{len(wanted)} classes for {num} texts; give one, or one for each text"
        )
    for c in {*wanted, against}:
        if not NULL <= c < backbone.classes:
            raise UsageError(
                f"there is no class {c}; the model has {backbone.classes}, numbered "
                f"from 0, and -1 for none"
            )
    labels = torch.tensor(wanted, dtype=torch.int64)
    make, labels = guided(backbone, labels, guidance=guidance, against=against)
    return sample_text(
        backbone,
        tokenizer,
        schedule=schedule,
        length=length,
        num=num,
        prompt=prompt,
        seed=seed,
        sampler=sampler,
        config=config,
        banned=[*banned, *no_text(tokenizer)],
        condition={LABEL: labels},
        denoiser=lambda backbone, **settings: make(**settings),
        callback=callback,
    )


def fill(
    backbone: Conditional,
    tokenizer: Tokenizer,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    guidance: float = 1.0,
    against: int = NULL,
    sampler: Sampler | None = None,
    config: SamplerConfig | None = None,
) -> Sampled:
    """Write where the canvas is masked.

    Args:
        backbone: the model.
        tokenizer: the one it was trained with.
        canvas: free positions that hold the mask are filled; ``condition["label"]``
            says the class of each row.
        schedule: the one it was trained with.
        noise: keys every draw, with a row's `sample_id`.
        guidance: see `ClassGuidance`.
        against: see `ClassGuidance`.
        sampler: ancestral if not given.
        config: steps, temperature, top-k and top-p.

    Raises:
        UsageError: see `guided`.
    """
    config = config or SamplerConfig()
    sampler = sampler or build(config)
    make, labels = guided(
        backbone, canvas.condition[LABEL], guidance=guidance, against=against
    )
    unknown = range(tokenizer.vocab_size, backbone.vocab_size)
    denoiser = make(
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        banned=[*no_text(tokenizer), *unknown],
    )
    rows = labelled(canvas, labels).to(device_of(backbone))
    return sampler(denoiser, rows, schedule=schedule, noise=noise, steps=config.steps)


def no_text(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that stand for no text of their own, the mask left out."""
    unknown = getattr(tokenizer, "unknown_id", None)
    special = {tokenizer.eod_id, tokenizer.pad_id, unknown} - {None, tokenizer.mask_id}
    return sorted(int(token) for token in special if token is not None)


def class_of(label: str, labels: Sequence[str]) -> int:
    """Return the index of a class by its name.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if label in labels:
        return list(labels).index(label)
    near = get_close_matches(label, labels, n=3)
    guess = f"did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    raise UnknownNameError(f"there is no class '{label}'; {guess}Classes: {shown}")


def condition_of(
    values: Mapping[str, str], num: int, *, labels: Sequence[str]
) -> dict[str, Tensor]:
    """Return the condition of `num` rows that is meant by ``label=NAME``.

    Without a label it is text of no class.

    Raises:
        UsageError: if something else than the label is named.
        UnknownNameError: if there is no such class.
    """
    other = sorted(values.keys() - {LABEL})
    if other:
        raise UsageError(
            f"there is no condition '{other[0]}'; this model is told '{LABEL}' alone"
        )
    label = class_of(values[LABEL], labels) if LABEL in values else NULL
    return {LABEL: torch.full((num,), label, dtype=torch.int64)}
