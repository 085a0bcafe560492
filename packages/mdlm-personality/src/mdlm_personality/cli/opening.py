"""The model of a command that writes texts. Imports nothing heavy at first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdlm_core.catalog import load_catalog
from mdlm_core.errors import UsageError
from mdlm_personality.traits import TRAITS

from .results import say

FAR = 5.0
"""Standard deviations from the mean of the data from which on a value is told."""

if TYPE_CHECKING:
    from mdlm_personality.generation.writing import Manner
    from mdlm_personality.saved import Trained


def sampler_sets(sets: Sequence[str] | None) -> list[str]:
    """Return what ``--set`` says, if it is about the sampler.

    Raises:
        UsageError: if it is not.
    """
    for text in sets or ():
        if not text.strip().startswith(("sampler.", "sampler=")):
            raise UsageError(
                f"--set {text}: of a finished run only the sampler can be set, such as "
                f"--set sampler.steps=64"
            )
    return list(sets or ())


@dataclass(frozen=True, slots=True)
class Opened:
    """A model, and how it is to write."""

    trained: Trained
    manner: Manner

    def facts(self) -> dict[str, Any]:
        """Return what decides the texts, for JSON."""
        from dataclasses import asdict

        return {
            "run": str(self.trained.run.folder),
            "checkpoint": self.trained.run.checkpoint.name,
            "weights": self.trained.run.weights,
            "precision": self.manner.precision,
            "sampler": {"name": self.manner.name, **asdict(self.manner.config)},
        }

    def note_far(self, values: Iterable[tuple[str, float]]) -> None:
        """Say which values of columns are far from all that the model has seen."""
        persona = self.trained.persona
        for name, value in values:
            if name not in persona.columns[len(TRAITS) :] or not isfinite(value):
                continue  # traits are bounded, and what is no column is told later
            away = persona.standard(name, value)
            if abs(away) > FAR:
                mean, std = (persona.value(name, at) for at in (0.0, 1.0))
                say(
                    f"note: {name} is {value:g}, {abs(away):.0f} standard deviations "
                    f"from what the model learned from ({mean:.3g} ± {std - mean:.2g})"
                )


def open_model(
    run: Path,
    *,
    sets: Sequence[str] | None = None,
    imports: Sequence[str] | None = None,
    device: str | None = None,
    checkpoint: str = "best",
    weights: str = "ema",
    precision: str = "fp32",
    regressor: Path | None = None,
    regressor_guidance: float = 1.0,
    **sampler: Any,
) -> Opened:
    """Load a model with the sampler of its run, unless options differ.

    Args:
        run: the folder.
        sets: of ``--set``.
        imports: modules with hooks.
        device: the best if None.
        checkpoint: "best", "last" or the number of a step.
        weights: "ema" or "raw".
        precision: "fp32" or "bf16".
        regressor: the folder of a regressor that guides, too.
        regressor_guidance: how strongly.
        sampler: name, steps, temperature, top_p, top_k; None is as in the run.
    """
    from mdlm_personality.generation.writing import Manner, Pull
    from mdlm_personality.saved import check_writes, load

    chosen = sampler_sets(sets)
    catalog = load_catalog(*(imports or ()))
    trained = load(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=say,
    )
    check_writes(trained)
    pull = None
    if regressor is not None:
        from mdlm_personality.regressor.saved import load_regressor

        found = load_regressor(
            regressor,
            tokenizer=trained.tokenizer,
            device=trained.device,
            catalog=catalog,
            say=say,
        )
        pull = Pull(found, regressor_guidance)
    manner = Manner.of(
        trained, sets=chosen, precision=precision, regressor=pull, **sampler
    )
    return Opened(trained, manner)
