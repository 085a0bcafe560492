"""Answers to prompts: template, canvas, decoding and text in one call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule, Tokenizer
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.samplers.text import device_of

from .canvas import answer_canvas
from .config import DecodeConfig
from .decode import check, decode
from .streaming import Relay
from .template import Message, answer_text, cut_answer, prompt_ids
from .tokenizer import Specials

if TYPE_CHECKING:
    from .streaming import Streamer

Prompt = str | Sequence[Message] | Sequence[int]
"""A text, the turns of a conversation, or ids, which are taken as they are."""


class Answering(Protocol):
    """What answers: a `LoadedModel`, or anything that has these."""

    @property
    def backbone(self) -> Backbone:
        """The model."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that it was trained with."""
        ...

    @property
    def template(self) -> str:
        """How a prompt becomes text, as `resolve_template` returns it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answers to a prompt."""

    text: str
    """Up to the first token that ends an answer."""
    ids: list[int]
    """The tokens of the text."""
    prompt: list[int]
    """The tokens of the prompt, with its template."""
    nfe: int
    """Forward passes."""
    tokens_per_forward: float
    """Tokens of the answer, with the one that ends it, over the forward passes."""


def generate(
    model: Answering,
    prompts: Sequence[Prompt],
    *,
    answer_length: int,
    settings: DecodeConfig | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    streamer: Streamer | None = None,
    schedule: Schedule | None = None,
) -> list[Answer]:
    """Answer prompts, of any lengths, in batches of `settings.batch_size` rows.

    The answer of a prompt depends on the seed and the prompt's number, and on no
    other prompt.

    Args:
        model: backbone, tokenizer and template.
        prompts: what is asked.
        answer_length: G, tokens of an answer at most; whole blocks.
        settings: how to decode; its steps are divided evenly among the blocks.
        seed: decides every draw.
        numbers: the prompts' numbers; from 0 if not given.
        streamer: for a single prompt: is given the prompt, drafts, and tokens that
            stay, by the protocol of transformers' `TextDiffusionStreamer`.
        schedule: of a model that sees the time; LLaDA's, ``alpha(t) = 1 - t``, if not
            given.

    Raises:
        UsageError: if G is not a multiple of the block, the steps are not one of the
            number of blocks, a prompt is empty, or there is a streamer and more than
            one prompt.
    """
    settings = settings or DecodeConfig()
    check_lengths(answer_length, settings)
    if streamer is not None and len(prompts) != 1:
        raise UsageError(
            f"a streamer shows one answer, but there are {len(prompts)} prompts"
        )
    if not prompts:
        return []
    tokenizer = model.tokenizer
    numbers = range(len(prompts)) if numbers is None else numbers
    rows = [
        _ids(model, prompt, number)
        for number, prompt in zip(numbers, prompts, strict=True)
    ]
    settings = _with_ends(model, settings)
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))  # alike together
    canvas = _canvas(
        model,
        [rows[i] for i in order],
        answer_length,
        torch.tensor([numbers[i] for i in order]),
    )
    observer: Relay | None = None
    if streamer is not None:
        observer = Relay(
            streamer, rows[0], mask_id=tokenizer.mask_id, ends=settings.eos_ids
        )
    sampled = decode(
        _denoiser(model, settings),
        canvas,
        schedule=schedule or cast("Schedule", LogLinear(eps=0.0)),
        noise=Noise(seed).child("answer"),
        steps=settings.steps,
        settings=settings,
        observer=observer,
    )
    if observer is not None:
        observer.end()
    answers: dict[int, Answer] = {}
    for i, tokens, nfe in zip(
        order, sampled.tokens.tolist(), sampled.nfe.tolist(), strict=True
    ):
        begin = len(rows[i])
        ids = tokens[begin : begin + answer_length]
        kept = cut_answer(tokenizer, ids, model.template)
        answers[i] = Answer(
            text=answer_text(tokenizer, ids, model.template),
            ids=kept,
            prompt=rows[i],
            nfe=nfe,
            tokens_per_forward=min(len(kept) + 1, answer_length) / max(1, nfe),
        )
    return [answers[i] for i in range(len(rows))]


def check_decoding(
    model: Answering, answer_length: int, settings: DecodeConfig
) -> None:
    """Refuse settings that do not go with the model, without evaluating it.

    Raises:
        UsageError: as `generate` does.
    """
    check_lengths(answer_length, settings)
    settings = _with_ends(model, settings)
    canvas = _canvas(model, [[0]], answer_length, torch.tensor([0]))
    schedule = cast("Schedule", LogLinear(eps=0.0))
    check(_denoiser(model, settings), canvas, settings, schedule)


def _with_ends(model: Answering, settings: DecodeConfig) -> DecodeConfig:
    """Return the settings with the ids that end an answer."""
    ends = settings.eos_ids or Specials.of(model.tokenizer).ends
    return replace(settings, eos_ids=tuple(ends))


def _canvas(
    model: Answering, rows: Sequence[list[int]], answer_length: int, sample_id: Tensor
) -> Batch:
    return answer_canvas(
        rows,
        answer_length,
        sample_id=sample_id,
        mask_id=model.tokenizer.mask_id,
        pad_id=model.tokenizer.pad_id,
    ).to(device_of(model.backbone))


def _denoiser(model: Answering, settings: DecodeConfig) -> Denoiser:
    return Denoiser(
        model.backbone,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        banned=range(model.tokenizer.vocab_size, model.backbone.vocab_size),
    )


def check_lengths(answer_length: int, settings: DecodeConfig) -> None:
    """Refuse an answer that is not whole blocks, and steps that they cannot share.

    Raises:
        UsageError: what to set.
    """
    block, steps = settings.block, settings.steps
    if answer_length < 1 or answer_length % block:
        near = max(1, round(answer_length / block)) * block
        raise UsageError(
            f"gen_length is {answer_length}, which is not a multiple of the block of "
            f"{block} tokens; set gen_length={near}, or another block"
        )
    blocks = answer_length // block
    by_count = not (settings.threshold or settings.factor or settings.entropy_bound)
    if by_count and steps % blocks:
        near = math.ceil(steps / blocks) * blocks
        raise UsageError(
            f"steps is {steps}, which is not a multiple of the {blocks} blocks of "
            f"gen_length={answer_length}; set steps={near}"
        )


def _ids(model: Answering, prompt: Prompt, number: int) -> list[int]:
    """Return the ids of a prompt."""
    if not isinstance(prompt, str) and all(isinstance(part, int) for part in prompt):
        ids = [int(cast("int", part)) for part in prompt]
    else:
        asked = cast("str | Sequence[Message]", prompt)
        ids = prompt_ids(model.tokenizer, asked, model.template)
    size = model.backbone.vocab_size
    wrong = next((id_ for id_ in ids if not 0 <= id_ < size), None)
    if wrong is not None:
        raise UsageError(
            f"prompt {number} holds the id {wrong}; the model has 0 to {size - 1}"
        )
    return ids
