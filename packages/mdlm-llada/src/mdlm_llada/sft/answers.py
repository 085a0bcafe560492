"""Answers to held-out prompts, decoded with the run's sampler. Letters: B rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, cast

from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, MaskingPolicy
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.canvas import answer_canvas
from mdlm_llada.config import DecodeConfig
from mdlm_llada.template import cut_answer
from mdlm_llada.tokenizer import Specials


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt and what the model made of it."""

    prompt: list[int]
    """The ids of the prompt."""
    ids: list[int]
    """The ids of the answer, up to the first end."""
    nfe: int
    """Forward passes it took."""


def longest_answer(batches: Sequence[Batch]) -> int:
    """Return the free tokens of the longest answer in some batches."""
    return max(int(batch.free.sum(1).max()) for batch in batches)


def answer(
    backbone: nn.Module,
    rows: Batch,
    source: DataSource,
    run: RunConfig,
    catalog: Catalog,
    *,
    length: int,
    noise: Noise,
    policy: MaskingPolicy | None = None,
) -> list[Answer]:
    """Decode an answer to the prompt of each row.

    A row's prompt is what stands frozen at its beginning. Tokens that end a text are
    those of the tokenizer, unless the sampler's settings name others.

    Args:
        backbone: the model.
        rows: B rows; their answers are not read.
        source: the data, for its tokenizer and its template.
        run: the settings of the sampler and the schedule.
        catalog: builds them.
        length: tokens of an answer, rounded up to whole blocks.
        noise: decides every draw, by `sample_id`.
        policy: the masking policy that was trained with the model.
    """
    tokenizer = source.tokenizer
    settings: Any = run.sampler.config
    own = int(getattr(backbone, "block_size", 0))
    if own and isinstance(settings, DecodeConfig):
        settings = replace(settings, block=own)  # it cannot be decoded in others
    block = int(getattr(settings, "block", 1))
    length = math.ceil(length / block) * block
    if is_dataclass(settings) and getattr(settings, "eos_ids", None) == ():
        settings = replace(cast("Any", settings), eos_ids=Specials.of(tokenizer).ends)
    denoiser = Denoiser(
        cast("Backbone", backbone),
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        banned=range(tokenizer.vocab_size, cast("Backbone", backbone).vocab_size),
        policy=policy,
    )
    sampler = catalog.build("sampler", replace(run.sampler, config=settings))
    device = next(backbone.parameters()).device
    prompts = prompts_of(rows)
    sampled = sampler(
        denoiser,
        answer_canvas(
            prompts,
            length,
            sample_id=rows.sample_id,
            mask_id=tokenizer.mask_id,
            pad_id=tokenizer.pad_id,
        ).to(device),
        schedule=catalog.build("schedule", run.schedule),
        noise=noise,
        steps=settings.steps,
    )
    template = str(getattr(source, "template", "none"))
    answers = []
    for prompt, ids, nfe in zip(
        prompts, sampled.tokens.tolist(), sampled.nfe.tolist(), strict=True
    ):
        written = ids[len(prompt) : len(prompt) + length]
        answers.append(Answer(prompt, cut_answer(tokenizer, written, template), nfe))
    return answers


def prompts_of(rows: Batch) -> list[list[int]]:
    """Return the ids that stand frozen at the beginning of each row."""
    lengths = (rows.frozen & ~rows.pad).long().cumprod(1).sum(1).tolist()
    return [ids[:n] for ids, n in zip(rows.tokens.tolist(), lengths, strict=True)]
