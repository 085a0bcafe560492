"""Begin a new model with the weights of another run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mdlm_core.data.tokenizers import load_tokenizer
from mdlm_core.errors import CheckpointError
from mdlm_core.protocols import Tokenizer

from . import checkpoint as saved
from .folder import RunFolder

_PREFIX = "backbone."


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What was taken, by the names of the new backbone's weights."""

    taken: tuple[str, ...]
    grown: tuple[str, ...]
    """Larger than in the run: their beginning was taken."""
    new: tuple[str, ...]
    """Not in the run: as they were drawn."""


def warm_start(
    backbone: nn.Module,
    run: Path | str,
    tokenizer: Tokenizer,
    *,
    checkpoint: str | int = "best",
) -> WarmStart:
    """Copy the averaged weights of a run into `backbone`, where the names agree.

    A tensor that is larger than the run's gets the run's at its beginning, and keeps
    its own values elsewhere: a head that looks at more than before, for example.

    Args:
        backbone: the new model.
        run: the run folder.
        tokenizer: the new model's, which must be the run's.
        checkpoint: see `load_run`.

    Raises:
        CheckpointError: if the run has no sound checkpoint, another tokenizer, a tensor
            that is larger than here or has other axes, or one that has no counterpart
            here, so that this model could not do what that one does.
    """
    folder = RunFolder(Path(run))
    chosen = saved.choose(folder.checkpoints, checkpoint, lambda text: None)
    theirs = load_tokenizer(folder.tokenizer)
    if theirs.fingerprint() != tokenizer.fingerprint():
        raise CheckpointError(
            f"the run '{run}' has the tokenizer '{theirs.name}' with the fingerprint "
            f"{theirs.fingerprint()}, and the data here '{tokenizer.name}' with "
            f"{tokenizer.fingerprint()}: ids would mean other texts. Set "
            f"data.tokenizer={folder.tokenizer}"
        )
    values = saved.read_tensors(chosen, saved.MODEL)
    if saved.has_tensors(chosen, saved.EMA):
        values |= saved.read_tensors(chosen, saved.EMA)
    taken: list[str] = []
    grown: list[str] = []
    new: list[str] = []
    with torch.no_grad():
        for name, own in backbone.state_dict(keep_vars=True).items():
            other = values.get(_PREFIX + name)
            if other is None:
                new.append(name)
                continue
            if other.ndim != own.ndim or any(
                a > b for a, b in zip(other.shape, own.shape, strict=True)
            ):
                raise CheckpointError(
                    f"'{name}' has the shape {tuple(other.shape)} in the run '{run}' "
                    f"and {tuple(own.shape)} here; give model the sizes of that run"
                )
            own[tuple(slice(size) for size in other.shape)] = other.to(own)
            (taken if other.shape == own.shape else grown).append(name)
    lost = sorted(values.keys() - {_PREFIX + name for name in backbone.state_dict()})
    lost = [name for name in lost if name.startswith(_PREFIX)]
    if taken and lost:
        raise CheckpointError(
            f"the run '{run}' has the weight '{lost[0].removeprefix(_PREFIX)}', and "
            f"this model has none of that name; give model the settings of that run"
        )
    if not taken:
        raise CheckpointError(
            f"the run '{run}' has no weight of the name and shape of this model's; use "
            f"the same model.name"
        )
    return WarmStart(tuple(taken), tuple(grown), tuple(new))
