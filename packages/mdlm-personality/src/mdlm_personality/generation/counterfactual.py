"""A text and what it would be if the person were another: coupled pairs.

Both texts are sampled with the same order of revealing and the same Gumbel numbers for
each token, so that they are one draw of a Gumbel-max causal model (Oberst and Sontag,
2019, arXiv 1905.05824) under two personas: where the two laws agree so do the tokens,
and all that differs follows from the persona. It is a counterfactual under the fitted
model, and no statement about a person.

Letters: B rows, L length, n nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import SamplerCallback
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.persona import Persona
from mdlm_personality.saved import Trained

from .changes import Changes, changes
from .personas import Change, Do, Given, Kind, Personas, Values, interventions
from .views import told
from .writing import Manner, Written, write


@dataclass(frozen=True, slots=True)
class Moved:
    """A node that is another than it was, in the units of the user."""

    name: str
    before: float
    after: float
    known: bool
    """Whether it is observed or set, rather than expected."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Factual and counterfactual texts, row by row."""

    factual: Written
    counterfactual: Written
    changes: tuple[Changes, ...]
    """Of each row."""

    def moved(self, persona: Persona, row: int = 0) -> list[Moved]:
        """Return the nodes of a row that the intervention moved; see `moved`."""
        before, after = self.factual.personas, self.counterfactual.personas
        return moved(persona, before, after, row)


def counterfactual_pair(
    trained: Trained,
    values: Values | Sequence[Values],
    do: Do | Sequence[Do],
    *,
    kind: Kind = "counterfactual",
    contrast: float = 0.0,
    num: int = 1,
    length: int | None = None,
    prompt: str = "",
    seed: int = 0,
    guidance: GuidanceConfig | None = None,
    manner: Manner | None = None,
    callback: SamplerCallback | None = None,
) -> Pair:
    """Write texts of personas, and the same texts if some nodes were set.

    A sampler whose order of revealing depends on the canvas, such as "confidence",
    shares its numbers but not its order.

    Args:
        trained: the model.
        values: of one persona or of several; see `generate`.
        do: what is set, one intervention for all personas or one for each.
        kind: see `Change`.
        contrast: w; the counterfactual law is
            ``log p(. | z') + w (log p(. | z') - log p(. | z))``.
        num: pairs of each persona; they follow each other.
        length: tokens of a text; as trained if not given.
        prompt: of both texts.
        seed: decides every draw.
        guidance: of both texts.
        manner: the sampler; tokens are drawn by Gumbel-max in any case.
        callback: called with the canvas after every evaluation of either text.

    Raises:
        UsageError: if a value, a name or the prompt does not fit.
    """
    given = Given.of(trained.persona, values)
    noise = Noise(seed).child("persona")
    change = Change(do=interventions(do), kind=kind, noise=noise)
    manner = replace(manner or Manner.of(trained), coupled=True)
    factual = told(trained.persona, given, settings=guidance)
    other = told(trained.persona, given, change, settings=guidance, contrast=contrast)
    before, after = (
        write(
            trained,
            course.repeated(num),
            length=length,
            prompt=prompt,
            seed=seed,
            manner=manner,
            callback=callback,
        )
        for course in (factual, other)
    )
    pairs = zip(before.texts, after.texts, strict=True)
    return Pair(before, after, tuple(changes(old, new) for old, new in pairs))


def moved(
    persona: Persona, before: Personas, after: Personas, row: int = 0
) -> list[Moved]:
    """Return the nodes that are others than before, in order of their tiers.

    A node counts if it moved by more than 1e-6 of its standard deviation, or became
    known.
    """
    found = []
    for node, name in enumerate(persona.node_names):
        old, new = float(before.z[row, node]), float(after.z[row, node])
        known = bool(after.known[row, node])
        if abs(new - old) > 1e-6 or known != bool(before.known[row, node]):
            found.append(
                Moved(name, persona.value(name, old), persona.value(name, new), known)
            )
    return found
