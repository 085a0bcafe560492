"""``mdlm personality counterfactual``: a text, and the same if a trait were another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mdlm_core.cli.options import Device, Imports, Json, Out, Sets

from . import given as options
from . import results
from .opening import open_model
from .results import STATEMENT, say, short

if TYPE_CHECKING:
    from mdlm_personality.generation.changes import Changes
    from mdlm_personality.generation.counterfactual import Moved, Pair

_LATENT = 3
"""Latent nodes that are named."""
_ORDERED = ("ancestral", "first-hitting", "analytic", "ddpm", "ddpm_cache")


def counterfactual(
    run: options.Run,
    traits: options.Traits = None,
    labels: options.Labels = None,
    do: options.Set = None,
    shift: options.Shift = None,
    contrast: options.Contrast = 0.0,
    num: options.Num = 1,
    length: options.Length = None,
    prompt: options.Prompt = "",
    guidance: options.Guide = 1.0,
    guidance_schedule: options.Schedule = "constant",
    guidance_interval: options.Interval = "0,0.6",
    trait_guidance: options.TraitGuide = None,
    negative: options.Negative = None,
    regressor: options.Regressor = None,
    regressor_guidance: options.RegressorGuide = 1.0,
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    seed: options.Seed = 0,
    out: Out = None,
    force: options.Force = False,
    sets: Sets = None,
    checkpoint: options.Checkpoint = "best",
    weights: options.Weights = "ema",
    precision: options.Precision = "fp32",
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a text of a persona, and what it would be if a trait were another.

    Both texts share the order in which words are revealed and the random numbers of
    every word, so that they differ only in what follows from the persona. Words that
    changed are marked: [-before-]{+after+}, or by colour on a terminal.
    """
    results.check_out(out, force)
    person = options.person_of(traits, labels)
    setting, kind = options.change_of(do, shift)
    guide = options.guidance_of(
        guidance, guidance_schedule, guidance_interval, trait_guidance, negative
    )
    opened = open_model(
        run,
        sets=sets,
        imports=imports,
        device=device,
        checkpoint=checkpoint,
        weights=weights,
        precision=precision,
        regressor=regressor,
        regressor_guidance=regressor_guidance,
        name=sampler,
        steps=steps,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
    )
    opened.note_far([*person.items(), *(setting.items() if do else ())])
    if not person:
        say("note: no traits are given, so that the factual text is of nobody")
    if opened.manner.name not in _ORDERED:
        say(
            f"note: {opened.manner.name} chooses by the text what to reveal next, so "
            f"that the two texts share their random numbers, but not their order"
        )

    from mdlm_personality.generation.counterfactual import counterfactual_pair

    trained = opened.trained
    if length is not None and length > trained.length:
        say(f"note: the model was trained on rows of {trained.length} tokens")
    pair = counterfactual_pair(
        trained,
        person,
        setting,
        kind=kind,
        contrast=contrast,
        num=num,
        length=length,
        prompt=prompt,
        seed=seed,
        guidance=guide,
        manner=opened.manner,
    )
    moved = pair.moved(trained.persona)
    before, after = (w.nfe.float().mean() for w in (pair.factual, pair.counterfactual))
    say(f"forward passes: {before:.1f} factual, {after:.1f} counterfactual")
    say(STATEMENT)
    if as_json:
        facts = {
            **opened.facts(),
            "traits": person,
            kind: setting,
            "contrast": contrast,
            "guidance": asdict(guide),
            "prompt": prompt,
            "seed": seed,
            "statement": STATEMENT,
        }
        facts |= {"moved": moves(moved), "pairs": _pairs(pair)}
        body = json.dumps(facts, ensure_ascii=False)
    else:
        colour = out is None and results.colour()
        body = "\n".join(
            [
                *persona_lines(moved),
                *_lines(pair.factual.texts, pair.changes, colour=colour),
            ]
        )
    results.deliver(body, out)


def moves(moved: Sequence[Moved]) -> list[dict[str, Any]]:
    """Return what moved, for JSON."""
    return [
        asdict(replace(one, before=short(one.before), after=short(one.after)))
        for one in moved
    ]


def persona_lines(moved: Sequence[Moved]) -> list[str]:
    """Return what moved, for people: what is observed, then the latent nodes."""
    shown = [one for one in moved if one.known or "." not in one.name]
    latent = [one for one in moved if one not in shown]
    latent.sort(key=lambda one: -abs(one.after - one.before))
    width = max((len(one.name) for one in [*shown, *latent[:_LATENT]]), default=0)
    lines = [
        f"  {one.name:{width}}  {one.before:6.3f} -> {one.after:6.3f}"
        + ("" if one.known else "  expected")
        for one in [*shown, *latent[:_LATENT]]
    ]
    if (more := len(latent) - _LATENT) > 0:
        lines.append(f"  and {more} latent nodes that moved less")
    return ["what moves:", *(lines or ["  nothing"])]


def _lines(
    texts: Sequence[str], changes: Sequence[Changes], *, colour: bool
) -> list[str]:
    """Return pairs for people."""
    from mdlm_personality.generation.changes import marked

    lines = []
    for index, (text, found) in enumerate(zip(texts, changes, strict=True), 1):
        number = f" {index}" if len(texts) > 1 else ""
        lines += [
            f"--- factual{number} ---",
            results.clean(text),
            f"--- counterfactual{number}: {found.share:.0%} of the words changed ---",
            marked(found, colour=colour),
        ]
    return lines


def _pairs(pair: Pair) -> list[dict[str, Any]]:
    from mdlm_personality.generation.changes import marked

    rows = zip(
        pair.factual.texts,
        pair.counterfactual.texts,
        pair.changes,
        pair.factual.nfe.tolist(),
        pair.counterfactual.nfe.tolist(),
        strict=True,
    )
    return [
        {
            "factual": before,
            "counterfactual": after,
            "marked": marked(found),
            "share_changed": found.share,
            "nfe": [first, second],
        }
        for before, after, found, first, second in rows
    ]
