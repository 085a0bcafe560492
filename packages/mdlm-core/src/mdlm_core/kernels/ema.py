"""An exponential moving average of parameters, kept by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError, ConfigError


class Ema:
    """Averaged weights: ``w <- d w + (1 - d) p`` after every step.

    The decay warms up, ``d = min(decay, (1 + n) / (10 + n))`` at update n = 1, 2, ...,
    so that the average forgets the initial weights. It is kept in float32 at least.
    """

    weights: dict[str, Tensor]
    """The averages, by the name of the parameter."""

    def __init__(
        self, named_parameters: Iterable[tuple[str, Tensor]], decay: float
    ) -> None:
        """Start from the present values.

        Args:
            named_parameters: what is averaged, for example
                ``module.named_parameters()``; those that do not train are left out.
            decay: in [0, 1).

        Raises:
            ConfigError: if `decay` is out of its range.
        """
        if not 0 <= decay < 1:
            raise ConfigError(f"train.ema is {decay}; it must be in [0, 1)")
        self.decay = decay
        self.updates = 0
        self._live = {name: p for name, p in named_parameters if p.requires_grad}
        self.weights = {
            name: p.detach().to(_kept(p.dtype), copy=True)
            for name, p in self._live.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the present values of the parameters, in one pass over all."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = list(self.weights.values())
        if averages:
            live = [p.detach().to(_kept(p.dtype)) for p in self._live.values()]
            torch._foreach_lerp_(averages, live, 1 - decay)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """Put the averages into `module` inside the block, and its own weights back.

        They come back also when the block raises. `module` has the parameters by the
        names they were given with; it may be another copy of the model.

        Raises:
            CheckpointError: if `module` lacks one of them.
        """
        parameters = dict(module.named_parameters())
        _same_names("the module", parameters.keys() & self.weights.keys(), self.weights)
        places = [parameters[name].detach() for name in self.weights]
        own = [place.clone() for place in places]
        try:
            _copy(places, list(self.weights.values()))
            yield
        finally:
            _copy(places, own)

    def state_dict(self) -> dict[str, Any]:
        """Return ``{"weights": by name, "updates": n}``, not copied."""
        return {"weights": dict(self.weights), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the averages and the count from `state`; the decay stays.

        Raises:
            CheckpointError: if names or shapes are others; nothing is changed then.
        """
        loaded: Mapping[str, Tensor] = state["weights"]
        _same_names("the checkpoint", loaded, self.weights)
        for name, average in self.weights.items():
            if loaded[name].shape != average.shape:
                raise CheckpointError(
                    f"the averaged weight '{name}' is {tuple(loaded[name].shape)} in "
                    f"the checkpoint and {tuple(average.shape)} in this model: it "
                    "belongs to another model; use the configuration it was saved with"
                )
        _copy(list(self.weights.values()), [loaded[name] for name in self.weights])
        self.updates = int(state["updates"])


def _kept(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


@torch.no_grad()
def _copy(to: list[Tensor], values: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, values)


def _same_names(where: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    given, wanted = set(given), set(wanted)
    if given == wanted:
        return
    missing, extra = sorted(wanted - given), sorted(given - wanted)
    parts = [
        f"{verb} {len(names)} ('{names[0]}' first)"
        for verb, names in (("lacks", missing), ("has in addition", extra))
        if names
    ]
    raise CheckpointError(
        f"the averaged weights are of another model: {where} {' and '.join(parts)}"
    )
