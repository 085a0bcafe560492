"""All measurements of a trained model in one call.

What is written is judged by something that never saw a generated text, and every number
stands beside what it has to be compared with: the judge's ceiling on people's texts,
the null rate of flips, the diversity of people's texts of the same size, and the scores
of representations that separate nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import numpy as np
import torch

from mdlm_core.data.conditions import WithoutConditions
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource
from mdlm_core.tasks.bound import Bound, measure
from mdlm_core.tasks.held_out import held_out

from .config import GuidanceConfig, PersonaCorpusConfig
from .data.source import PersonaSource
from .data.split import same_author
from .data.texts import PersonaTexts
from .generation.writing import Manner
from .metrics import baselines, diversity, perplexity, trials
from .metrics.alignment import alignment
from .metrics.disentanglement import LEAST
from .metrics.intervals import plain
from .metrics.judges import Judge, LexiconJudge, TextJudge
from .metrics.reconstruction import reconstruction
from .metrics.representation import persona_codes, text_codes
from .saved import Trained
from .traits import TRAITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How much is measured."""

    gammas: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Strengths of guidance; 1 is the model's own law."""
    samples: int = 128
    """Texts of random personas at each strength."""
    personas: int = 48
    """Personas at each strength of which every trait is set; 0 leaves flips out."""
    rows: int = 256
    """Held-out rows for bound, ceiling and states of texts; 0 means all."""
    draws: int = 4
    """Draws of the bound for each row."""
    steps: int | None = None
    """Of the sampler; None is as in the run."""
    language_model: str = ""
    """A transformers model for generative perplexity; none is measured without it."""
    seed: int = 0
    """Decides every draw."""

    def __post_init__(self) -> None:
        for name, least in {"samples": 8, "personas": 0, "rows": 0, "draws": 1}.items():
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name} is {getattr(self, name)}; it must be at least {least}"
                )
        if not self.gammas or not all(np.isfinite(self.gammas)):
            raise UsageError(
                f"the strengths of guidance are {self.gammas}; give one or more finite "
                f"numbers"
            )
        if len(set(self.gammas)) < len(self.gammas):
            raise UsageError(f"a strength is given twice in {self.gammas}")

    @property
    def texts(self) -> int:
        """How many texts are written."""
        each = self.samples + self.personas * (2 + len(TRAITS))
        return len(self.gammas) * each


def evaluate(
    trained: Trained,
    plan: Plan | None = None,
    *,
    data: PersonaTexts | None = None,
    judge: Judge | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Measure a model.

    Args:
        trained: the model.
        plan: how much is measured.
        data: people's texts; those of authors that it has learned from are left out.
            If not given, those that the run held out.
        judge: reads traits in texts; if not given the exact one for invented persons,
            and one that is fitted to the training texts for all others.
        progress: told how many texts were written.

    Returns:
        The card: plain values, ready for JSON; what could not be measured is None.

    Raises:
        UsageError: if the run has learned no diffusion, or has no texts.
        DataError: if there are too few texts to compare with.
    """
    plan = plan or Plan()
    start = time.monotonic()
    stage = getattr(trained.run.config.task.config, "stage", "all")
    if stage in (1, 2):
        raise UsageError(
            f"the run '{trained.run.folder}' is of stage {stage} and writes no texts "
            f"yet; train stage 3 with task.persona_from={trained.run.folder}"
        )
    noise = Noise(plan.seed).child("personality", "evaluate")
    fresh = None if data is None else unseen(trained, data)
    source = _source(trained, fresh)
    judge = judge or judge_for(trained)
    windows = _windows(source, plan.rows)
    card: dict[str, Any] = {
        "run": str(trained.run.folder),
        "checkpoint": trained.run.checkpoint.name,
        "step": trained.run.step,
        "weights": trained.run.weights,
        "data": source.card().get("name"),
        "held_out_by_run": data is None,
        "left_out": 0 if data is None or fresh is None else len(data) - len(fresh),
        "judge": judge.name,
        "plan": asdict(plan) | {"gammas": list(plan.gammas)},
        "length": trained.length,
        "bound": _bounds(trained, source, plan, noise),
        "ceiling": _plain_all(
            alignment(
                windows.values[:, : len(TRAITS)],
                judge.read(windows.texts),
                noise=noise.child("ceiling"),
                groups=writers(windows),
            )
        ),
        "guided": [],
    }
    manner = Manner.of(trained, steps=plan.steps, coupled=True)
    for gamma in plan.gammas:
        guidance = GuidanceConfig(scale=gamma)
        common: dict[str, Any] = {"guidance": guidance, "manner": manner}
        fit = trials.aligned(
            trained,
            judge,
            samples=plan.samples,
            noise=noise,
            progress=progress,
            **common,
        )
        found: dict[str, Any] = {
            "gamma": gamma,
            "nfe": fit.drawn.nfe,
            "alignment": _plain_all(fit.alignment),
            "diversity": _diversity(fit.drawn.texts, windows, plan, noise),
            "flips": [],
            "generative": None,
        }
        if plan.personas:
            moved = trials.flipped(
                trained,
                judge,
                personas=plan.personas,
                noise=noise,
                progress=progress,
                **common,
            )
            found["flips"] = _plain_all(moved.flips)
            found["nfe_of_pair"] = moved.nfe
        if plan.language_model:
            found["generative"] = asdict(
                perplexity.gen_ppl(fit.drawn.texts, plan.language_model)
            )
        card["guided"].append(found)
    if plan.language_model:
        card["human_generative"] = asdict(
            perplexity.gen_ppl(windows.texts, plan.language_model)
        )
    card |= _representation(trained, source, plan, noise)
    card["seconds"] = time.monotonic() - start
    return card


def judge_for(trained: Trained) -> Judge:
    """Return the judge that goes with the data of a run.

    Raises:
        UsageError: if the data has no texts.
    """
    config = trained.run.config.data.config
    if isinstance(config, PersonaCorpusConfig):
        return LexiconJudge(config.effect)
    texts = cast("PersonaSource", trained.run.source).texts("train")
    if not any(texts.texts):
        raise UsageError("the data of the run has no texts that a judge could learn")
    return TextJudge().fit(texts)


def writers(texts: PersonaTexts) -> list[int]:
    """Return a number for each text, the same for those of one author."""
    places: dict[str, int] = {}
    return [places.setdefault(same_author(each), len(places)) for each in texts.authors]


def unseen(trained: Trained, data: PersonaTexts) -> PersonaTexts:
    """Return the texts of authors that a run has not learned from.

    An author is known by name, but for invented persons, whose names are numbers, and
    by any text that stands in the training split.

    Raises:
        DataError: if no author is left, or the columns are not those of the run.
    """
    columns = trained.persona.columns
    if data.columns != columns[: len(data.columns)]:
        raise DataError(
            f"the texts have the columns {', '.join(data.columns)}, and the run has "
            f"{', '.join(columns)}; read them with the labels of the run, or with none"
        )
    seen = cast("PersonaSource", trained.run.source).texts("train")
    texts = {text.strip() for text in seen.texts} - {""}
    invented = isinstance(trained.run.config.data.config, PersonaCorpusConfig)
    met = set() if invented else set(map(same_author, seen.authors))
    names = [same_author(author) for author in data.authors]
    met |= {
        name
        for name, text in zip(names, data.texts, strict=True)
        if text.strip() in texts
    }
    kept = [row for row, name in enumerate(names) if name not in met]
    if not kept:
        raise DataError(
            f"all {len(data)} texts are by authors that the run '{trained.run.folder}' "
            f"has learned from; give texts by others"
        )
    return data.select(kept)


def _source(trained: Trained, data: PersonaTexts | None) -> PersonaSource:
    if data is None:
        return cast("PersonaSource", trained.run.source)
    return PersonaSource(
        {"train": data, "validation": data},
        trained.tokenizer,
        length=trained.length,
        card={"name": "given"},
    )


def _windows(source: PersonaSource, rows: int) -> PersonaTexts:
    """Return held-out rows as texts, spread evenly, without those that end early."""
    windows = source.windows("validation")
    words = np.array([len(text.split()) for text in windows.texts])
    whole = np.flatnonzero(words >= max(1.0, float(np.median(words)) / 2))
    if len(whole) < 2:
        raise DataError(
            f"{len(whole)} held-out rows have words; nothing can be compared with them"
        )
    if rows and rows < len(whole):
        whole = whole[(2 * np.arange(rows) + 1) * len(whole) // (2 * rows)]
    return windows.select(whole)


def _bounds(
    trained: Trained, source: PersonaSource, plan: Plan, noise: Noise
) -> dict[str, Any]:
    """Return the bound given personas and without, and the chain over whole orders."""

    def bound(data: DataSource) -> Bound:
        return measure(
            trained.backbone,
            data,
            draws=plan.draws,
            rows=plan.rows,
            noise=noise.child("bound"),
            schedule=trained.schedule,
        )

    told, untold = bound(source), bound(WithoutConditions(source))
    few = next(iter(held_out(source, min(8, plan.rows or 8), at_once=8)))
    chain = perplexity.ordered_ppl(
        trained.backbone,
        few.to(trained.device),
        orders=2,
        noise=noise.child("orders"),
        schedule=trained.schedule,
    )
    return {
        "nats_per_token": told.nats,
        "nats_per_token_se": told.nats_se,
        "elbo_ppl": told.perplexity,
        "elbo_ppl_se": told.perplexity_se,
        "without_persona": untold.nats,
        "elbo_ppl_without_persona": untold.perplexity,
        "rows": told.rows,
        "draws": told.draws,
        "ordered": asdict(chain),
    }


def _diversity(
    texts: list[str], windows: PersonaTexts, plan: Plan, noise: Noise
) -> dict[str, Any] | None:
    """Return the diversity of texts, and of as many people's of the same length."""
    try:
        count, words = diversity.size_that_fits(texts, windows.texts, count=100)
        return {
            name: asdict(
                diversity.diversity(
                    diversity.cut(
                        group, count=count, words=words, noise=noise.child("cut")
                    )
                )
            )
            for name, group in {"written": texts, "people": windows.texts}.items()
        }
    except DataError:  # texts without words: said by None
        return None


def _representation(
    trained: Trained, source: PersonaSource, plan: Plan, noise: Noise
) -> dict[str, Any]:
    """Return disentanglement of nodes and of states, and what an encoder gives back."""
    people = source.table("validation")[:, : len(TRAITS)]
    people = people[~np.isnan(people).any(1)]
    found: dict[str, Any] = {"disentanglement": {}, "reconstruction": None}
    if len(people) >= LEAST:
        codes = persona_codes(trained, people)
        found["disentanglement"]["persona"] = _scores(codes, people, noise)
    codes, traits = text_codes(trained, source, plan.rows)
    if (~np.isnan(traits).any(1)).sum() >= LEAST:
        found["disentanglement"]["text"] = _scores(codes, traits, noise)
    encoder = trained.persona.encoder
    if encoder is not None and len(people):
        found["reconstruction"] = plain(asdict(_given_back(trained, people)))
    return found


def _given_back(trained: Trained, people: np.ndarray[Any, Any]) -> Any:
    """Return how well the encoder gives back the traits, in [0, 1]."""
    encoder = trained.persona.encoder
    assert encoder is not None
    count = len(TRAITS)
    mean, std = trained.persona.mean[:count], trained.persona.std[:count]
    values = torch.tensor(people, dtype=torch.float32, device=mean.device)
    known = torch.ones_like(values, dtype=torch.bool)
    with torch.no_grad():
        back = encoder.decode(encoder.mean((values - mean) / std, known)) * std + mean
    return reconstruction(people, back.double().cpu().numpy())


def _scores(codes: Any, traits: Any, noise: Noise) -> dict[str, Any]:
    found: Mapping[str, baselines.Score] = baselines.report(
        codes, traits, noise=noise.child("scores"), repeats=5
    )
    return {name: asdict(score) for name, score in found.items()}


def _plain_all(records: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [
        plain({each.name: getattr(record, each.name) for each in fields(record)})
        for record in records
    ]
