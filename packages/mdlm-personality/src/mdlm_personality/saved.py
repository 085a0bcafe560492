"""Load a trained model with its persona."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mdlm_core.catalog import Catalog
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Schedule, Tokenizer
from mdlm_core.train.runs import LoadedRun, load_run

from .causal.losses import settle
from .causal_diffusion import CausalDiffusion
from .nn.personality_dit import PersonalityDiT
from .persona import Persona


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that was trained by the task "personality", and what belongs to it."""

    run: LoadedRun
    backbone: PersonalityDiT
    tokenizer: Tokenizer
    schedule: Schedule
    length: int
    """L, of the rows it was trained on."""

    @property
    def persona(self) -> Persona:
        """The encoder and the causal layer."""
        return self.backbone.persona

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(self.persona.mean.device)


def load(
    run: Path | str,
    *,
    device: str = "auto",
    weights: str = "ema",
    checkpoint: str | int = "best",
    catalog: Catalog | None = None,
    say: Callable[[str], None] = lambda text: None,
    settled: bool = True,
) -> Trained:
    """Load a model from a run folder; see `mdlm_core.train.runs.load_run`.

    A checkpoint of the middle of a search for edges may have cycles. It is settled,
    with what has been found so far, unless `settled` is False.

    Raises:
        UsageError: if the run has no persona.
    """
    loaded = load_run(
        run,
        device=device,
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=say,
    )
    backbone = loaded.module.backbone
    if not isinstance(backbone, PersonalityDiT):
        raise UsageError(
            f"the run '{run}' has the model '{loaded.config.model.name}', which knows "
            f"no personas; train one with 'mdlm train --plugin personality'"
        )
    module = loaded.module
    if settled and isinstance(module, CausalDiffusion) and not bool(module.settled):
        found = settle(backbone.persona.layer)
        say(f"the search was not over: {found.describe(backbone.persona.node_names)}")
        module.settled.fill_(True)
    return Trained(
        run=loaded,
        backbone=backbone,
        tokenizer=loaded.tokenizer,
        schedule=loaded.schedule,
        length=loaded.source.length,
    )


def check_writes(trained: Trained) -> None:
    """Raise unless the diffusion has learned.

    Raises:
        UsageError: if the run is one of stage 1 or 2.
    """
    stage = getattr(trained.run.config.task.config, "stage", "all")
    if str(stage) in ("1", "2"):
        name = trained.run.folder
        raise UsageError(
            f"the run '{name}' is of stage {stage}, so that it knows personas but no "
            f"texts yet; go on with 'mdlm train --plugin personality --set "
            f"task.stage=3 --set task.persona_from={name} --out FOLDER'"
        )
