"""Texts of a persona.

Letters: B rows, L length, n nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mdlm_core.config import read_run
from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.gumbel import gumbel_max
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, Sampler, SamplerCallback, Tokenizer
from mdlm_core.samplers import Denoiser
from mdlm_core.samplers.canvas import canvas
from mdlm_core.samplers.text import PRECISIONS
from mdlm_personality.conditions import VALUES
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.regressor.guidance import RegressorGuidance
from mdlm_personality.regressor.model import TraitRegressor
from mdlm_personality.saved import Trained

from .personas import Change, Do, Given, Kind, Personas, Values, interventions
from .views import Told, told


@dataclass(frozen=True, slots=True)
class Pull:
    """Guidance by a regressor of traits, to those that a row is told.

    It comes on top of the model's law under the persona; with a guidance of 0 that is
    the law of nobody, and the regressor alone brings the persona in.
    """

    regressor: TraitRegressor
    gamma: float = 1.0
    candidates: int | None = None
    """See `mdlm_personality.regressor.guidance.RegressorGuidance`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How a canvas is filled."""

    sampler: Sampler
    config: SamplerConfig
    name: str = "ancestral"
    precision: str = "fp32"
    coupled: bool = False
    """Whether tokens are drawn by Gumbel-max, so that runs with the same seed differ
    only where their laws do."""
    regressor: Pull | None = None
    """A regressor of traits that guides, too."""

    @classmethod
    def of(
        cls,
        trained: Trained,
        *,
        sets: Sequence[str] = (),
        precision: str = "fp32",
        coupled: bool = False,
        regressor: Pull | None = None,
        **given: object,
    ) -> Manner:
        """Return the sampler of the run, with other settings where they are given.

        Args:
            trained: the model.
            sets: settings such as ``sampler.steps=64``.
            precision: "fp32", or "bf16" for autocast.
            coupled: see the class, as `regressor`.
            regressor: guides, too.
            given: name, steps, temperature, top_k, top_p and others of the sampler;
                what is None is as in the run.

        Raises:
            ConfigError: if a setting is unknown or breaks a rule.
            UsageError: if the precision is unknown.
        """
        if precision not in PRECISIONS:
            raise UsageError(
                f"the precision is '{precision}'; it must be {' or '.join(PRECISIONS)}"
            )
        flags = [f"sampler.{k}={v}" for k, v in given.items() if v is not None]
        catalog = trained.run.catalog
        choice = read_run(trained.run.folder, catalog, sets=[*sets, *flags]).sampler
        return cls(
            sampler=catalog.build("sampler", choice),
            config=choice.config,
            name=choice.name,
            precision=precision,
            coupled=coupled,
            regressor=regressor,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """Texts, and what they were written for."""

    texts: list[str]
    """One for each row; a new line where a text of the training data would end."""
    tokens: Tensor
    """``(B, L)``."""
    nfe: Tensor
    """``(B,)`` forward passes of each row."""
    personas: Personas
    """What each row was told."""


def generate(
    trained: Trained,
    values: Values | Sequence[Values],
    *,
    do: Do | Sequence[Do] | None = None,
    kind: Kind = "counterfactual",
    num: int = 1,
    length: int | None = None,
    prompt: str = "",
    seed: int = 0,
    guidance: GuidanceConfig | None = None,
    manner: Manner | None = None,
    callback: SamplerCallback | None = None,
) -> Written:
    """Write texts of personas; row i of seed s is the same whatever else is written.

    Args:
        trained: the model.
        values: of one persona, or of several: five traits in `TRAITS` order, None for
            one that is not known, or traits and labels by name.
        do: sets nodes of the personas, one intervention for all or one for each.
        kind: what `do` means; see `Change`.
        num: texts of each persona; they follow each other.
        length: tokens of a text; as trained if not given.
        prompt: a beginning, or a text with blanks; see `mdlm_core.samplers.canvas`.
        seed: decides every draw.
        guidance: how strongly texts are drawn to the persona.
        manner: the sampler; that of the run if not given.
        callback: called with the canvas after every evaluation.

    Raises:
        UsageError: if a value, a name or the prompt does not fit.
    """
    given = Given.of(trained.persona, values)
    change = None
    if do is not None:
        noise = Noise(seed).child("persona")
        change = Change(do=interventions(do), kind=kind, noise=noise)
    course = told(trained.persona, given, change, settings=guidance)
    return write(
        trained,
        course.repeated(num),
        length=length,
        prompt=prompt,
        seed=seed,
        manner=manner,
        callback=callback,
    )


def write(
    trained: Trained,
    course: Told,
    *,
    length: int | None = None,
    prompt: str = "",
    seed: int = 0,
    manner: Manner | None = None,
    callback: SamplerCallback | None = None,
    sample_id: Tensor | None = None,
) -> Written:
    """Write one text for each row of `course`; see `generate`.

    `sample_id` ``(B,)`` are the numbers of the rows; those that have the same one share
    their draws.
    """
    rows = canvas(
        trained.tokenizer,
        length=trained.length if length is None else length,
        num=len(course),
        prompt=prompt,
        device=trained.device,
    )
    if sample_id is not None:
        rows = replace(rows, sample_id=sample_id.to(rows.sample_id))
    noise = Noise(seed).child("sample")
    found = fill(trained, rows, course, noise=noise, manner=manner, callback=callback)
    return Written(
        texts=[shown(trained.tokenizer, ids) for ids in found.tokens.tolist()],
        tokens=found.tokens,
        nfe=found.nfe,
        personas=course.personas,
    )


def fill(
    trained: Trained,
    rows: Batch,
    course: Told,
    *,
    noise: Noise,
    manner: Manner | None = None,
    callback: SamplerCallback | None = None,
) -> Sampled:
    """Fill the masks of a canvas, each row as it is told."""
    manner = manner or Manner.of(trained)
    denoiser = denoiser_for(trained, course, manner)
    device = torch.device(trained.device).type
    low = manner.precision == "bf16"
    with torch.autocast(device, torch.bfloat16, enabled=low):
        return manner.sampler(
            denoiser,
            telling(trained, rows, course),
            schedule=trained.schedule,
            noise=noise,
            steps=manner.config.steps,
            callback=callback,
        )


def denoiser_for(trained: Trained, course: Told, manner: Manner) -> Denoiser:
    """Return what is asked for the laws of the rows of `course`."""
    config = manner.config
    denoiser = course.denoiser(
        trained.backbone,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        banned=never_written(trained),
    )
    denoiser.policy = getattr(trained.run.module, "policy", None)
    if (pull := manner.regressor) is not None:
        denoiser = RegressorGuidance(
            denoiser, pull.regressor, gamma=pull.gamma, candidates=pull.candidates
        )
    if manner.coupled:
        denoiser.pick = gumbel_max
    return denoiser


def telling(trained: Trained, rows: Batch, course: Told) -> Batch:
    """Return the canvas with what its rows are told.

    "traits" are the columns of the persona, for a regressor; the model reads the nodes.
    """
    values = trained.persona.values(course.personas.z).detach()
    return replace(rows, condition={**course.condition(), VALUES: values})


def never_written(trained: Trained) -> list[int]:
    """Return the ids that stand for no text: unknown, or beyond the tokenizer's."""
    tokenizer = trained.tokenizer
    banned = [*range(tokenizer.vocab_size, trained.backbone.vocab_size)]
    unknown = getattr(tokenizer, "unknown_id", None)
    return banned if unknown is None else [*banned, unknown]


def shown(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return the text of ids, with a new line for each end of a document."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == tokenizer.eod_id:
            parts.append([])
        else:
            parts[-1].append(token)
    return "\n".join(tokenizer.decode(part) for part in parts).strip("\n")
