"""Small models and canvases for the tests of decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Sampled
from mdlm_core.samplers import Denoiser
from mdlm_llada.architecture import Architecture
from mdlm_llada.config import DecodeConfig, ExpertsConfig, LLaDAConfig
from mdlm_llada.decode import decode
from mdlm_llada.nn.trunk import LLaDA

V, MASK = 40, 39
PROMPTS = [[1, 2, 3, 4, 5], [7, 8, 9], [3] * 11, [11, 12]]


def model(
    family: str = "llada",
    *,
    seed: int = 0,
    vocabulary: int = V,
    mask: int = MASK,
    **sizes: object,
) -> LLaDA:
    """Return a random model whose laws are far from uniform."""
    settings = {"blocks": 2, "width": 32, "heads": 2, "mlp_width": 64, **sizes}
    experts = ExpertsConfig(count=4, per_token=2, width=16)
    config = LLaDAConfig(family=family, experts=experts, **settings)
    architecture = Architecture.from_settings(config, vocabulary, mask)
    trunk = LLaDA(architecture, mask_id=mask)
    u = Noise(seed).child("weights")
    with torch.no_grad():
        for number, (name, parameter) in enumerate(trunk.named_parameters()):
            if parameter.dim() > 1:
                rows = torch.full((1,), number)
                flat = u.uniform(rows, parameter.numel()).view_as(parameter)
                scale = 3.0 if name.startswith("head") else 1.0
                parameter.copy_(scale * (flat - 0.5).float())
    return trunk.eval().requires_grad_(False)


class Table(nn.Module):
    """The same logits ``(L, V)`` whatever the canvas is."""

    vocab_size, mask_id, time_conditioned = V, MASK, False

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(logits, requires_grad=False)

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        return self.table[: batch.length].expand(len(batch), -1, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.clone()


def canvas(prompts: Sequence[Sequence[int]], answer: int) -> Batch:
    """Return rows ``[prompt | masks | padding]``."""
    width = max(map(len, prompts)) + answer
    tokens = torch.zeros(len(prompts), width, dtype=torch.int64)
    pad = torch.ones_like(tokens, dtype=torch.bool)
    frozen = pad.clone()
    for i, prompt in enumerate(prompts):
        end = len(prompt) + answer
        tokens[i, : len(prompt)] = torch.tensor(prompt, dtype=torch.int64)
        tokens[i, len(prompt) : end] = MASK
        frozen[i, len(prompt) : end] = False
        pad[i, :end] = False
    return Batch.of(tokens, frozen=frozen, pad=pad)


def run(
    backbone: Backbone,
    rows: Batch,
    settings: DecodeConfig,
    *,
    seed: int = 0,
    denoiser: Denoiser | None = None,
    **more: object,
) -> Sampled:
    """Decode with a denoiser of its own."""
    denoiser = denoiser or Denoiser(backbone, temperature=settings.temperature)
    return decode(
        denoiser,
        rows,
        schedule=LogLinear(eps=0.0),
        noise=Noise(seed),
        steps=settings.steps,
        settings=settings,
        **more,
    )


def logits_of(trunk: LLaDA) -> object:
    """Return a function from tokens ``(b, L)`` to logits ``(b, L, V)``."""

    def logits(tokens: Tensor) -> Tensor:
        states = trunk.hidden(Batch.of(tokens))
        return trunk.logits(states.flatten(0, 1)).view(*tokens.shape, -1)

    return logits


@dataclass(frozen=True)
class Bytes:
    """A random model of bytes, with what it takes to ask it something."""

    backbone: LLaDA = field(
        default_factory=lambda: model(vocabulary=258, mask=ByteTokenizer.mask_id)
    )
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    template: str = "plain"
