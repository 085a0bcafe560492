"""How strongly a text is drawn to its persona: guidance for personas.

The law that is sampled is

    log p(v) = log p(v | z) + sum over i of (g_i - 1) (log p(v | z) - log p(v | z_i))

up to a constant, normalised over the vocabulary (Schiff et al., 2025, arXiv
2412.10193; Ho and Salimans, 2022, arXiv 2207.12598). Each z_i is something to move
away from, a push: nobody, which gives the usual guidance; a negative persona; the
persona without one of its traits, for guidance by single traits; or the factual persona
of a counterfactual one, whose push of 1 + w is the contrast
``log p(. | z') + w (log p(. | z') - log p(. | z))``. The sum of single traits,
``log p(v) + sum over k of g_k (log p(v | k) - log p(v))``, is a case of it: a push of
``sum g_k`` from nobody, and one of ``1 - g_k`` from each trait alone.

What a push says travels in `Batch.condition` beside the persona, so that it stays with
its row whichever rows a sampler looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Backbone
from mdlm_core.samplers import Denoiser
from mdlm_core.samplers.guidance import Guidance, strength
from mdlm_personality.conditions import KNOWN, PERSONA
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.persona import Persona

from .personas import Change, Given, Personas, name_of

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Push:
    """Something to move away from, and how strongly."""

    against: Personas
    scale: float
    """g: 1 does nothing, 0 takes the law of `against` instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What B rows are told, what they are pushed away from, and when."""

    personas: Personas
    pushes: tuple[Push, ...] = ()
    settings: GuidanceConfig = field(default_factory=GuidanceConfig)
    """Gives the schedule of the pushes."""

    def __post_init__(self) -> None:
        used = tuple(push for push in self.pushes if push.scale != 1)
        object.__setattr__(self, "pushes", used)

    def __len__(self) -> int:
        return len(self.personas)

    @property
    def passes(self) -> int:
        """Forward passes of a row in one evaluation."""
        if not self.constant:
            return 1 + len(self.pushes)
        return sum(weight != 0 for weight in self._constant_weights())

    @property
    def constant(self) -> bool:
        """Whether the strength does not depend on the time."""
        return not self.pushes or self.settings.schedule == "constant"

    def condition(self) -> dict[str, Tensor]:
        """Return what `Batch.condition` needs to hold."""
        found = self.personas.condition()
        for index, push in enumerate(self.pushes, 1):
            found |= push.against.condition(index)
        return found

    def repeated(self, times: int) -> Told:
        """Return every row `times` times."""
        return replace(
            self,
            personas=self.personas.repeated(times),
            pushes=tuple(
                replace(push, against=push.against.repeated(times))
                for push in self.pushes
            ),
        )

    def denoiser(self, backbone: Backbone, **settings: Any) -> Denoiser:
        """Return the guided denoiser; without a push it is the plain one.

        Args:
            backbone: the model.
            settings: as of `Denoiser`.
        """
        if not self.pushes:
            return Denoiser(backbone, **settings)
        views = [seen(index) for index in range(1 + len(self.pushes))]
        if not self.constant:
            return Guidance(backbone, views=views, weights=self._weights, **settings)
        return Guidance(
            backbone, views=views, weights=self._constant_weights(), **settings
        )

    def _constant_weights(self) -> list[float]:
        extra = [push.scale - 1 for push in self.pushes]
        own = 1 + sum(extra)
        return [0.0 if abs(own) < _ROUNDING else own, *(-one for one in extra)]

    def _weights(self, t: Tensor) -> Tensor:
        """Return the weights ``(B, 1 + pushes)`` at times ``(B,)``."""
        extra = [
            strength(
                push.scale,
                t,
                schedule=self.settings.schedule,
                interval=self.settings.interval,
            )
            - 1
            for push in self.pushes
        ]
        others = torch.stack(extra, dim=1)
        return torch.cat([1 + others.sum(1, keepdim=True), -others], dim=1)


def seen(index: int) -> Callable[[Batch], Batch]:
    """Return the view of a canvas with the persona of push `index`, from 1, alone.

    Index 0 is the row's own.
    """

    def view(canvas: Batch) -> Batch:
        condition = {
            name: canvas.condition[name_of(name, index)] for name in (PERSONA, KNOWN)
        }
        return replace(canvas, condition=condition)

    return view


def told(
    persona: Persona,
    given: Given,
    change: Change | None = None,
    *,
    settings: GuidanceConfig | None = None,
    contrast: float = 0.0,
) -> Told:
    """Return what rows are told under the settings of guidance.

    Args:
        persona: of the model.
        given: what is known of the persons.
        change: an intervention; None is as observed.
        settings: how strongly, and against what.
        contrast: w, how strongly a changed persona is moved away from the factual one,
            on the schedule of the other pushes.

    Raises:
        UsageError: if a trait that is guided is not known, or two ways of guidance
            exclude each other.
    """
    settings = settings or GuidanceConfig()
    own = given.personas(persona) if change is None else change(persona, given)
    pushes = []
    if settings.per_trait:
        if settings.scale != 1 or settings.negative:
            raise UsageError(
                "guidance by single traits stands alone; leave out the guidance of the "
                "whole persona and the negative one"
            )
        rests = {
            name: _hidden(persona, given, change, name, own)
            for name in settings.per_trait
        }
        if settings.per_trait_form == "sum":
            pushes += _summed(persona, given, change, settings)
        else:
            pushes += [Push(rests[n], scale) for n, scale in settings.per_trait.items()]
    elif settings.negative:
        away = Given.of(persona, settings.negative).personas(persona)
        pushes.append(Push(_as_many(away, len(own)), settings.scale))
    else:
        pushes.append(Push(own.nobody(), settings.scale))
    if contrast:
        pushes.append(Push(given.personas(persona), 1 + contrast))
    return Told(personas=own, pushes=tuple(pushes), settings=settings)


def _summed(
    persona: Persona, given: Given, change: Change | None, settings: GuidanceConfig
) -> list[Push]:
    """Return the pushes whose law is the sum of single traits.

    Raises:
        UsageError: if there is an intervention, after which traits are not single.
    """
    if change is not None:
        raise UsageError(
            "the sum of single traits is about what is given, and here something is "
            "set as well; use per_trait_form='without'"
        )
    scales = {_column(persona, n): scale for n, scale in settings.per_trait.items()}
    known = given.known.any(0).nonzero()[:, 0].tolist()
    gammas = {column: scales.get(column, 1.0) for column in known}
    nobody = given.personas(persona).nobody()
    return [
        Push(nobody, sum(gammas.values())),
        *(Push(given.only(c).personas(persona), 1 - g) for c, g in gammas.items()),
    ]


def _as_many(one: Personas, rows: int) -> Personas:
    return one if len(one) == rows else one.repeated(rows)


def _hidden(
    persona: Persona, given: Given, change: Change | None, name: str, own: Personas
) -> Personas:
    """Return the personas without one trait or label, neither observed nor set.

    Raises:
        UsageError: if it is not known anyway, or cannot be.
    """
    column, node = _column(persona, name), persona.node(name)
    if not bool(own.known[:, node].all()):
        raise UsageError(
            f"guidance by {name} needs its value, and that is not known; give it, or "
            f"guide by another trait"
        )
    rest = given.without(column)
    if change is None:
        return rest.personas(persona)
    return change.without(persona, node)(persona, rest)


def _column(persona: Persona, name: str) -> int:
    """Return the observed column of a name.

    Raises:
        UsageError: if it is a latent node.
        UnknownNameError: if there is no such node.
    """
    node = persona.node(name)
    columns: Sequence[str] = persona.columns
    label = persona.node_names[node]
    if label not in columns:
        raise UsageError(
            f"{name} is not observed, so that there is no law without it; guide by one "
            f"of {', '.join(columns)}"
        )
    return list(columns).index(label)
