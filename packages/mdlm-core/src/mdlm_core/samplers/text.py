"""Texts from a model: canvas, denoiser, sampler and decoding in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mdlm_core.config.components import SamplerConfig
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import (
    Backbone,
    MaskingPolicy,
    Sampler,
    SamplerCallback,
    Schedule,
    Tokenizer,
)

from .ancestral import build
from .canvas import canvas
from .denoiser import Denoiser

PRECISIONS = ("fp32", "bf16")
"""What the model can be evaluated in."""


class Texts(NamedTuple):
    """What was sampled."""

    texts: list[str]
    """One for each row, special tokens taken out."""
    tokens: Tensor
    """``(B, L)``."""
    nfe: Tensor
    """``(B,)`` forward passes of each row."""


def sample_text(
    backbone: Backbone,
    tokenizer: Tokenizer,
    *,
    schedule: Schedule,
    length: int | None,
    num: int = 1,
    prompt: str = "",
    seed: int = 0,
    sampler: Sampler | None = None,
    config: SamplerConfig | None = None,
    fixed: Mapping[int, int] | None = None,
    banned: Sequence[int] = (),
    blanks: bool = True,
    condition: Mapping[str, Tensor] | None = None,
    positions: Tensor | None = None,
    denoiser: Callable[..., Denoiser] = Denoiser,
    policy: MaskingPolicy | None = None,
    precision: str = "fp32",
    callback: SamplerCallback | None = None,
) -> Texts:
    """Sample `num` texts; row i of seed s is the same whatever `num` is.

    Args:
        backbone: the model.
        tokenizer: the one it was trained with.
        schedule: the one it was trained with.
        length: L; see `canvas` for None.
        num: B.
        prompt: a beginning, or a text with blanks; see `canvas`.
        seed: decides every draw.
        sampler: ancestral if not given.
        config: steps, temperature, top-k and top-p.
        fixed: ids at chosen positions.
        banned: ids that must not be drawn; the mask, ids that the tokenizer does not
            have, and its `unknown_id` never are.
        blanks: whether underscores in the prompt mean blanks.
        condition: what the model is conditioned on; see `canvas`.
        positions: the places of the tokens; see `canvas`.
        denoiser: what makes the denoiser, for guidance: called with the model and
            with temperature, top_k, top_p and banned, as `Denoiser` is.
        policy: the masking policy that was trained with the model, for samplers that
            read it from the denoiser.
        precision: "fp32", or "bf16" for autocast around trunk and head, which is
            faster and coarser; the law of a token is normalised in float32 anyway.
        callback: called with the canvas after every evaluation.

    Raises:
        UsageError: if the prompt does not fit, model and tokenizer do not, or the
            precision is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"the precision is '{precision}'; it must be {' or '.join(PRECISIONS)}"
        )
    if tokenizer.mask_id != backbone.mask_id:
        raise UsageError(
            f"the tokenizer's mask is {tokenizer.mask_id} and the model's is "
            f"{backbone.mask_id}; use the tokenizer that the model was trained with"
        )
    if tokenizer.vocab_size > backbone.vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size} ids and the model "
            f"{backbone.vocab_size}; use the tokenizer that the model was trained with"
        )
    unknown = [*range(tokenizer.vocab_size, backbone.vocab_size)]
    if (token := getattr(tokenizer, "unknown_id", None)) is not None:
        unknown.append(token)
    config = config or SamplerConfig()
    sampler = sampler or build(config)
    denoise = denoiser(
        backbone,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        banned=[*banned, *unknown],
    )
    denoise.policy = policy
    device = device_of(backbone)
    rows = canvas(
        tokenizer,
        length=length,
        num=num,
        prompt=prompt,
        fixed=fixed,
        blanks=blanks,
        condition=condition,
        positions=positions,
        device=device,
    )
    low = precision == "bf16"
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=low):
        sampled = sampler(
            denoise,
            rows,
            schedule=schedule,
            noise=Noise(seed).child("sample"),
            steps=config.steps,
            callback=callback,
        )
    texts = [tokenizer.decode(ids) for ids in sampled.tokens.tolist()]
    return Texts(texts, sampled.tokens, sampled.nfe)


def device_of(backbone: Backbone) -> str:
    """Return where the backbone's parameters are; the CPU if it has none."""
    if isinstance(backbone, nn.Module):
        for parameter in backbone.parameters():
            return str(parameter.device)
    return "cpu"
