"""The task: learn text given a persona.

Letters: B batch, K observed columns (the five traits, then labels), n nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog
from mdlm_core.config import read_run
from mdlm_core.config.schema import Component, RunConfig
from mdlm_core.data.conditions import WithoutConditions
from mdlm_core.errors import CheckpointError, ConfigError, DataError, UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource
from mdlm_core.samplers import sample_text
from mdlm_core.tasks.bound import measure
from mdlm_core.tasks.held_out import held_out

from . import stages
from .causal import losses
from .causal.tiers import node_names
from .causal_diffusion import CausalDiffusion, say
from .conditions import KNOWN, VALUES, as_condition
from .config import PersonalityConfig
from .nn.personality_dit import PersonalityDiT
from .persona import Persona
from .traits import TRAITS, assignment, from_mapping, shown, trait_index


class Personality:
    """The task; see `protocols.Task`."""

    def __init__(
        self, config: PersonalityConfig, *, run: RunConfig, catalog: Catalog
    ) -> None:
        self.config = config
        self.run = run
        self.catalog = catalog

    def build(self, source: DataSource) -> CausalDiffusion:
        """Build the model for the source's tokens and labels.

        Raises:
            ConfigError: if the model knows no personas, or the stage has nothing to
                learn.
        """
        labels = self.run.model.config
        if not hasattr(labels, "labels"):
            raise ConfigError(
                f"model.name={self.run.model.name} cannot be told a persona; use "
                f"personality-dit"
            )
        settings: Any = replace(self.run.model.config, labels=_labels(self.run))
        tokenizer = source.tokenizer
        backbone = self.catalog.build(
            "backbone",
            Component(name=self.run.model.name, config=settings),
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        stages.check_stage(self.config, backbone.persona)
        searched = settings.structure in ("dagma", "notears")
        taken = self.config.persona_from or self.config.warm_start
        if self.config.stage == 3 and searched and not taken:
            raise ConfigError(
                f"model.structure={settings.structure} looks for edges in stage 2, and "
                f"task.stage is 3; name the run of stage 2 with task.persona_from, or "
                f"set task.stage=all"
            )
        return CausalDiffusion(
            backbone,
            self.config,
            structure=settings.structure,
            schedule=self.catalog.build("schedule", self.run.schedule),
            policy=self.catalog.build("masking", self.run.masking, source=source),
        )

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Begin with the scale of the data, and with other runs' weights.

        Raises:
            DataError: if the diffusion is to learn from a table without texts.
        """
        trained = cast("CausalDiffusion", module)
        backbone = cast("PersonalityDiT", trained.backbone)
        if self.config.stage in (3, "all") and source.card().get("texts") is False:
            raise DataError(
                "the data is a table without texts, from which encoder and causal "
                "layer can learn, but not the diffusion; set task.stage=1 or 2, or "
                "name the column of texts with data.text"
            )
        statistics = getattr(source, "statistics", None)
        if statistics is not None:
            backbone.persona.set_scale(*map(torch.as_tensor, statistics()))
        if self.config.warm_start:
            from mdlm_core.train.warm_start import warm_start

            _check_columns(backbone.persona, self.config.warm_start, self.catalog)
            warm_start(backbone, self.config.warm_start, source.tokenizer)
        if self.config.persona_from:
            _take_persona(trained, self.config.persona_from, self.catalog)
        elif backbone.persona.encoder is not None and self.config.stage != 2:
            expected = torch.eye(len(TRAITS))
            if warning := backbone.persona.encoder.collapse_warning(expected):
                say(f"warning: {warning}")

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return the bound on held-out rows, and what the traits are worth.

        "loss", which decides the best checkpoint, is in nats per token given the
        persona; "unconditional" is the same of the null. In stages 1 and 2 it is the
        loss of the encoder or of the causal layer, in nats per row.
        """
        trained = cast("CausalDiffusion", module)
        numbers = self._columns(trained, source)
        if self.config.stage in (1, 2):
            if "columns" not in numbers:
                raise ConfigError(
                    f"stage {self.config.stage} learns from traits, and the data has "
                    f"none; use data.name=persona-text or persona-corpus"
                )
            row = numbers.pop("columns")
            return {"loss": row, "nats_per_row": row, **numbers}
        noise = Noise(self.run.seed).child("evaluate")
        schedule = self.catalog.build("schedule", self.run.schedule)
        backbone = trained.backbone

        def bound(data: DataSource) -> Any:
            return measure(
                backbone,
                data,
                draws=self.config.eval_draws,
                rows=self.config.eval_rows,
                noise=noise,
                schedule=schedule,
            )

        told, untold = bound(source), bound(WithoutConditions(source))
        found = {"loss": told.nats, "loss_se": told.nats_se}
        if told.bytes_per_token:
            found["bits_per_byte"] = told.bits_per_byte
            found["bits_per_byte_se"] = told.bits_per_byte_se
        return {
            **found,
            "perplexity": told.perplexity,
            "unconditional": untold.nats,
            **numbers,
        }

    def _columns(
        self, trained: CausalDiffusion, source: DataSource
    ) -> dict[str, float]:
        """Return the held-out loss of encoder or causal layer, and active units."""
        persona = trained.persona
        number = self.config.stage if self.config.stage in (1, 2) else 2
        measured = number == 1 or stages.learnable(persona)
        if not measured and persona.encoder is None:
            return {}
        device = persona.mean.device
        values, known = [], []
        for batch in held_out(source, self.config.eval_rows, at_once=64):
            if VALUES in batch.condition:
                values.append(batch.condition[VALUES].to(device))
                known.append(batch.condition[KNOWN].to(device))
        if not values:
            return {}
        together = torch.cat(values), torch.cat(known)
        numbers: dict[str, float] = {}
        with torch.no_grad():
            if number == 1:
                rows = stages.encoder_loss(
                    persona,
                    *together,
                    noise=Noise(self.run.seed).child("evaluate", "latents"),
                    rows=torch.arange(len(together[0]), device=device),
                    progress=1.0,
                )
                numbers["columns"] = float(rows.mean())
            elif measured:
                if not bool(trained.settled):  # what loading it would make of it
                    persona = deepcopy(persona)
                    losses.settle(persona.layer)
                rows = stages.causal_loss(
                    persona, *together, structure="tiered", sparsity=0.0, progress=1.0
                )
                numbers["columns"] = float(rows.mean())
        if persona.encoder is not None:
            active = stages.active_units(persona, *together)
            numbers["active_units"] = float(active)
            if not active:
                say(
                    "warning: the encoder has collapsed: none of its latents says "
                    "anything about the traits. Lower model.beta or model.sigma, set "
                    "model.capacity, or use model.encoder=identity"
                )
        return numbers

    def condition(self, values: Mapping[str, str], num: int) -> Mapping[str, Tensor]:
        """Return the persona of `num` rows, for ``mdlm sample --condition``."""
        persona = self._columns_of_run()
        given = dict(assignment(f"{name}={text}") for name, text in values.items())
        labels = {n: v for n, v in given.items() if n in persona[len(TRAITS) :]}
        traits = {n: v for n, v in given.items() if n not in labels}
        for name in traits:
            try:
                trait_index(name)
            except UnknownNameError as error:
                others = ", ".join(persona[len(TRAITS) :]) or "none"
                raise UnknownNameError(
                    f"{error} Besides them the labels of this model: {others}"
                ) from None
        told = as_condition(from_mapping(traits), labels, columns=persona)
        return {name: tensor.expand(num, -1) for name, tensor in told.items()}

    def _columns_of_run(self) -> tuple[str, ...]:
        return (*TRAITS, *_labels(self.run))

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Sample a few texts, each of a persona drawn at random."""
        if not self.config.sample_count or self.config.stage in (1, 2):
            return []
        columns = self._columns_of_run()
        count = self.config.sample_count
        u = Noise(seed).child("personas").uniform(torch.arange(count), len(TRAITS))
        traits = [[round(value, 2) for value in row] for row in u.tolist()]
        rows = [as_condition(row, columns=columns) for row in traits]
        settings: Any = self.run.sampler.config
        texts = sample_text(
            cast("Backbone", module.backbone),
            source.tokenizer,
            schedule=self.catalog.build("schedule", self.run.schedule),
            length=source.length,
            num=count,
            seed=seed,
            sampler=self.catalog.build("sampler", self.run.sampler),
            config=settings,
            condition={name: torch.cat([r[name] for r in rows]) for name in rows[0]},
        ).texts
        return [
            f"[{shown(row)}] {text}" for row, text in zip(traits, texts, strict=True)
        ]


def _take_persona(trained: CausalDiffusion, run: str, catalog: Catalog) -> None:
    """Copy encoder, causal layer and scale of another run.

    Raises:
        CheckpointError: if they have other columns, edges or sizes.
    """
    from .saved import load

    other = load(run, device="cpu", catalog=catalog, settled=False)
    own = trained.persona
    if other.persona.columns != own.columns:
        raise CheckpointError(
            f"the run '{run}' observes {', '.join(other.persona.columns)}, and this "
            f"one {', '.join(own.columns)}; give both the same labels"
        )
    found = cast("CausalDiffusion", other.run.module)
    theirs, mine = other.persona.layer.support, own.layer.support
    if (
        found.structure != trained.structure
        or other.persona.node_names != own.node_names
        or (trained.structure == "fixed" and not theirs.equal(mine))
    ):
        raise CheckpointError(
            f"the run '{run}' has other nodes or edges (model.structure="
            f"{found.structure}); give model.structure, model.edges and the tiers of "
            f"labels the values of that run"
        )
    try:
        own.load_state_dict(other.persona.state_dict())
    except RuntimeError as error:
        raise CheckpointError(
            f"encoder and causal layer of the run '{run}' do not fit: {error}. Give "
            f"model.encoder, latent_dim, structure and mechanism the values of that run"
        ) from error
    trained.settled.copy_(found.settled)


def _check_columns(own: Persona, run: str, catalog: Catalog) -> None:
    """Refuse a run whose weights take the same numbers for other columns.

    Raises:
        CheckpointError: if a run of this model observes something else.
    """
    config = read_run(Path(run), catalog)
    if not hasattr(config.model.config, "labels"):
        return
    labels = _labels(config)
    columns = (*TRAITS, *labels)
    nodes = config.model.config.latent_dim
    if columns != own.columns or own.node_names != node_names(nodes, labels):
        raise CheckpointError(
            f"the run '{run}' observes {', '.join(columns)}, and this one "
            f"{', '.join(own.columns)}; give both the same labels in the same tiers, "
            f"and the same model.latent_dim"
        )


def _labels(run: RunConfig) -> dict[str, str]:
    """Return the labels of a run, its data's first, and the tier of each."""
    tiers = getattr(run.data.config, "label_tiers", {})
    return {**tiers, **run.model.config.labels}


def build(
    config: PersonalityConfig, *, run: RunConfig, catalog: Catalog
) -> Personality:
    """Return the task, for the catalog."""
    return Personality(config, run=run, catalog=catalog)
