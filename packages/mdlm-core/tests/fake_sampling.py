"""A small model, a canvas with everything on it, and all samplers by name."""

import torch

from mdlm_core.config.components import (
    ConfidenceConfig,
    SemiAutoregressiveConfig,
)
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.samplers import (
    Denoiser,
    analytic,
    ancestral,
    first_hitting,
)
from mdlm_core.samplers.confidence import build as build_confidence
from mdlm_core.samplers.semi_autoregressive import build as build_semi

MASK = 11
VOCAB = 12
SCHEDULE = LogLinear()


class Fake:
    """A denoiser whose law depends on the whole row, and which keeps books."""

    def __init__(self, vocab=VOCAB, mask=MASK, time_conditioned=False, context=True):
        self.vocab_size, self.mask_id = vocab, mask
        self.time_conditioned, self.context = time_conditioned, context
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(vocab, 8, generator=generator, dtype=torch.float64)
        self.out = torch.randn(8, vocab, generator=generator, dtype=torch.float64)
        self.calls, self.heads = [], []

    def hidden(self, batch, t=None):
        self.calls.append((batch, t))
        seen = torch.where(batch.pad.unsqueeze(-1), 0.0, self.table[batch.tokens])
        place = torch.arange(batch.length).double().unsqueeze(-1)
        turned = seen * torch.cos(place * torch.arange(1, 9))
        row = turned.sum(1, keepdim=True) if self.context else 0.0
        state = row + torch.sin((place + 1) * torch.arange(1, 9))
        return state.expand(len(batch), -1, -1)

    def logits(self, hidden):
        self.heads.append(len(hidden))
        return (hidden @ self.out).float()


NAMES = [
    "ancestral",
    "first-hitting",
    "analytic",
    "confidence",
    "confidence-margin",
    "confidence-entropy",
    "confidence-threshold",
    "semi-ar",
    "semi-ar-first-hitting",
    "semi-ar-confidence",
]
EVENT = ["ancestral", "first-hitting", "analytic", "semi-ar"]


def build(name, batch_size=16):
    kind, _, rest = name.partition("-") if name != "first-hitting" else (name, "", "")
    if kind == "semi":
        inner = rest.removeprefix("ar").removeprefix("-") or "ancestral"
        return build_semi(
            SemiAutoregressiveConfig(block=5, inner=inner, batch_size=batch_size)
        )
    if kind == "confidence":
        settings = {"threshold": 0.4} if rest == "threshold" else {}
        if rest in ("margin", "entropy"):
            settings["score"] = rest
        return build_confidence(ConfidenceConfig(batch_size=batch_size, **settings))
    functions = {
        "ancestral": ancestral,
        "first-hitting": first_hitting,
        "analytic": analytic,
    }
    return lambda *args, **kwargs: functions[kind](
        *args, batch_size=batch_size, **kwargs
    )


def blank(rows=6, length=17):
    """Rows with a frozen prompt, tokens that are there, a frozen mask, and padding."""
    tokens = torch.full((rows, length), MASK)
    frozen = torch.zeros_like(tokens, dtype=torch.bool)
    pad = torch.zeros_like(frozen)
    tokens[:, :2] = torch.arange(2 * rows).view(rows, 2) % 7
    frozen[:, :2] = True
    tokens[1::2, 6] = 3  # there, but not frozen
    frozen[2, 9] = True  # a mask that is to stay
    pad[3, -4:] = True
    tokens[3, -4:] = 0
    tokens[4] = 5  # nothing to do
    ids = torch.tensor([11, 5, 900, 2**40, 3, 8])[:rows]
    return Batch.of(tokens, frozen=frozen, pad=pad, sample_id=ids)


def run(
    name, canvas=None, *, backbone=None, seed=0, steps=6, batch_size=16, **settings
):
    callback = settings.pop("callback", None)
    canvas = blank() if canvas is None else canvas
    denoiser = Denoiser(backbone or Fake(), **settings)
    sampled = build(name, batch_size)(
        denoiser,
        canvas,
        schedule=SCHEDULE,
        noise=Noise(seed),
        steps=steps,
        callback=callback,
    )
    return sampled, denoiser
