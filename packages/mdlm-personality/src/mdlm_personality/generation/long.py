"""Texts longer than the rows of the training data, window after window.

Letters: B rows, L the length of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import SamplerCallback
from mdlm_core.samplers.canvas import canvas
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.saved import Trained

from .personas import Change, Do, Given, Kind, Values, interventions
from .views import told
from .writing import Manner, Written, fill, shown


def generate_sar(
    trained: Trained,
    values: Values | Sequence[Values],
    total_length: int,
    stride_length: int,
    *,
    do: Do | Sequence[Do] | None = None,
    kind: Kind = "counterfactual",
    num: int = 1,
    prompt: str = "",
    seed: int = 0,
    guidance: GuidanceConfig | None = None,
    manner: Manner | None = None,
    callback: SamplerCallback | None = None,
) -> Written:
    """Write texts of `total_length` tokens, semi-autoregressively.

    The first window of L tokens, as long as the rows of the training data, is written
    as `generate` does. Then the window moves on by `stride_length` tokens, and those
    are written with the L - stride_length before them in view, until the text is long
    enough; the last window moves by what is left.

    Args:
        trained: the model.
        values: see `generate`, as all that is not named here.
        total_length: tokens of a text.
        stride_length: tokens that a window adds, from 1 to L - 1.
        do: sets nodes of the personas.
        kind: what `do` means.
        num: texts of each persona.
        prompt: a beginning, or a text with blanks, of the whole.
        seed: decides every draw.
        guidance: how strongly texts are drawn to the persona.
        manner: the sampler; its steps are those of the first window, and a stride has
            its share of them.
        callback: called with the text so far after every evaluation.

    Raises:
        UsageError: if the lengths do not fit, or as `generate` does.
    """
    size = trained.length
    if total_length < 1:
        raise UsageError(f"the total length is {total_length}; it must be at least 1")
    if not 1 <= stride_length < size:
        raise UsageError(
            f"the stride is {stride_length}; it must be from 1 to {size - 1}, since "
            f"the model sees {size} tokens at once and some have to be context"
        )
    given = Given.of(trained.persona, values)
    change = None
    if do is not None:
        noise = Noise(seed).child("persona")
        change = Change(do=interventions(do), kind=kind, noise=noise)
    course = told(trained.persona, given, change, settings=guidance).repeated(num)
    manner = manner or Manner.of(trained)
    part = max(1, round(manner.config.steps * stride_length / size))
    later = replace(manner, config=replace(manner.config, steps=part))
    whole = canvas(
        trained.tokenizer,
        length=total_length,
        num=len(course),
        prompt=prompt,
        device=trained.device,
    )
    tokens = whole.tokens.clone()
    nfe = torch.zeros_like(whole.sample_id)
    noise = Noise(seed).child("sample")
    changes = 0
    for index, (start, end) in enumerate(spans(total_length, size, stride_length)):
        window = slice(start, end)

        def relay(_: int, filled: Tensor, window: slice = window) -> None:
            nonlocal changes
            changes += 1
            if callback is not None:
                text = tokens.clone()
                text[:, window] = filled
                callback(changes, text)

        found = fill(
            trained,
            _window(whole, tokens, window, trained.backbone.mask_id),
            course,
            noise=noise.child("window", index) if index else noise,
            manner=later if index else manner,
            callback=relay,
        )
        tokens[:, window] = found.tokens
        nfe += found.nfe
    return Written(
        texts=[shown(trained.tokenizer, ids) for ids in tokens.tolist()],
        tokens=tokens,
        nfe=nfe,
        personas=course.personas,
    )


def spans(total: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Return the start and the end of each window over `total` positions."""
    ends = [min(size, total)]
    while ends[-1] < total:
        ends.append(min(ends[-1] + stride, total))
    return [(max(0, end - size), end) for end in ends]


def _window(whole: Batch, tokens: Tensor, window: slice, mask_id: int) -> Batch:
    """Return a part of the text, in which all that is written stays."""
    part = tokens[:, window]
    return Batch.of(
        part,
        frozen=whole.frozen[:, window] | (part != mask_id),
        sample_id=whole.sample_id,
    )
