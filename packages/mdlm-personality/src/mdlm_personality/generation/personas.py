"""The personas that rows of text are written for, and what they become.

A row's persona is its nodes z and which of them are known: observed, or set. Three
questions change it: `counterfactual` keeps a persona's noise and sets some nodes,
`intervene` draws new noise, `shift` moves the noise of some nodes.

Letters: B rows, K observed columns, n nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_personality.conditions import KNOWN, PERSONA, VALUES, as_condition
from mdlm_personality.persona import Persona
from mdlm_personality.traits import TRAITS, trait_index

Values = Sequence[float | None] | Mapping[str, float] | Tensor
"""Of one persona: five traits, or traits and labels by name."""
Do = Mapping[str, float]
"""Values by name of a node, in the units of the user."""
Kind = Literal["counterfactual", "intervene", "shift"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Personas:
    """What B rows are told, by node."""

    z: Tensor
    """``(B, n)`` float32, standardised."""
    known: Tensor
    """``(B, n)`` bool: observed, or set. A row without any has no persona."""

    def __len__(self) -> int:
        return len(self.z)

    def condition(self, index: int = 0) -> dict[str, Tensor]:
        """Return the tensors of `Batch.condition`, under the names of view `index`."""
        return {name_of(PERSONA, index): self.z, name_of(KNOWN, index): self.known}

    def repeated(self, times: int) -> Personas:
        """Return each row `times` times, one after the other."""
        return Personas(
            self.z.repeat_interleave(times, 0), self.known.repeat_interleave(times, 0)
        )

    def nobody(self) -> Personas:
        """Return as many rows without a persona."""
        return Personas(torch.zeros_like(self.z), torch.zeros_like(self.known))


def name_of(name: str, index: int) -> str:
    """Return the name of a condition in view `index`; the first is the model's."""
    return name if index == 0 else f"{name}@{index}"


@dataclass(frozen=True, slots=True)
class Given:
    """What a user said about B personas."""

    values: Tensor
    """``(B, K)`` in the units of the user."""
    known: Tensor
    """``(B, K)`` bool."""

    @classmethod
    def of(cls, persona: Persona, values: Values | Sequence[Values]) -> Given:
        """Read one persona, or a sequence of them.

        Raises:
            UsageError: if there is none, or a value is not in its range.
            UnknownNameError: if a name is neither a trait nor a label.
        """
        rows = [_row(persona, one) for one in _each(values)]
        device = persona.mean.device
        return cls(
            torch.cat([row[VALUES] for row in rows]).to(device),
            torch.cat([row[KNOWN] for row in rows]).to(device),
        )

    def __len__(self) -> int:
        return len(self.values)

    def without(self, column: int) -> Given:
        """Return the same with one column not known."""
        index = torch.tensor([column], device=self.known.device)
        return replace(self, known=self.known.index_fill(1, index, False))

    def only(self, column: int) -> Given:
        """Return the same with nothing known but one column, where it is."""
        index = torch.tensor([column], device=self.known.device)
        one = torch.zeros_like(self.known).index_fill(1, index, True)
        return replace(self, known=self.known & one)

    def personas(self, persona: Persona) -> Personas:
        """Return the nodes: the known ones as observed, the others expected."""
        with torch.no_grad():
            z = persona.complete(self.values, self.known)
        return Personas(z, persona.by_node(self.known))


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What is done to personas: one intervention for all rows, or one for each."""

    do: tuple[Do, ...]
    kind: Kind = "counterfactual"
    noise: Noise | None = None
    """Draws the new noise of "intervene"; None takes what is expected."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"'{self.kind}' is no way to change a persona; there are "
                f"{', '.join(KINDS)}"
            )

    def without(self, persona: Persona, node: int) -> Change:
        """Return the same, but for what it does to one node."""
        kept = tuple(
            {name: value for name, value in one.items() if persona.node(name) != node}
            for one in self.do
        )
        return replace(self, do=kept)

    def __call__(self, persona: Persona, given: Given) -> Personas:
        """Return the changed personas; what is set is known.

        Raises:
            UsageError: if "intervene" meets an observation that depends on what is
                set, or there are not as many interventions as personas.
            UnknownNameError: if a name is no node.
        """
        before = given.personas(persona)
        z, known = before.z.clone(), before.known.clone()
        with torch.no_grad():
            for items, rows in self._groups(len(given)).items():
                one, index = dict(items), torch.tensor(rows, device=z.device)
                z[index] = self._changed(persona, given, before.z, index, one)
                for name in one:
                    known[index, persona.node(name)] = True
        return Personas(z, known)

    def _groups(self, rows: int) -> dict[tuple[tuple[str, float], ...], list[int]]:
        """Return the rows of each intervention that does something."""
        if len(self.do) not in (1, rows):
            raise UsageError(
                f"{len(self.do)} interventions were given for {rows} personas; give "
                f"one for all, or one for each"
            )
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for row in range(rows):
            one = self.do[row if len(self.do) > 1 else 0]
            if one or self.kind == "intervene":
                groups.setdefault(tuple(one.items()), []).append(row)
        return groups

    def _changed(
        self, persona: Persona, given: Given, z: Tensor, rows: Tensor, one: Do
    ) -> Tensor:
        if self.kind == "counterfactual":
            return persona.counterfactual(z[rows], one)
        if self.kind == "shift":
            return persona.shift(z[rows], one)
        return persona.intervene(
            given.values[rows], given.known[rows], one, noise=self.noise, rows=rows
        )


def interventions(do: Do | Sequence[Do]) -> tuple[Do, ...]:
    """Return interventions as a tuple: one for all rows, or one for each."""
    return (do,) if isinstance(do, Mapping) else tuple(do)


def _each(values: Values | Sequence[Values]) -> list[Values]:
    """Return the personas that `values` is: itself, or its parts.

    Raises:
        UsageError: if there is none.
    """
    if isinstance(values, Mapping):
        return [values]
    parts: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    if not parts:
        raise UsageError("no persona was given; give at least one")
    single = parts[0] is None or isinstance(parts[0], Real)
    return [parts] if single else parts


def _trait(name: str, columns: Sequence[str]) -> int:
    """Return the place of a trait; the error for another name tells the labels, too."""
    try:
        return trait_index(name)
    except UnknownNameError:
        near = get_close_matches(name, columns, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UnknownNameError(
            f"'{name}' is neither a trait nor a label of this model; there are "
            f"{', '.join(columns)}.{hint}"
        ) from None


def _row(persona: Persona, values: Values) -> dict[str, Tensor]:
    """Return the condition ``(1, K)`` of one persona."""
    if isinstance(values, Mapping):
        traits: list[float | None] = [None] * len(TRAITS)
        labels: dict[str, float] = {}
        for name, value in values.items():
            if name in persona.columns[len(TRAITS) :]:
                labels[name] = float(value)
                continue
            place = _trait(name, persona.columns)
            if traits[place] is not None:
                raise UsageError(f"{TRAITS[place]} is given twice; give it once")
            traits[place] = float(value)
        return as_condition(traits, labels, columns=persona.columns)
    return as_condition(
        [None if value is None else float(value) for value in values],
        columns=persona.columns,
    )
