"""``mdlm personality generate``: texts of a persona."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Sets

from . import given as options
from . import results
from .opening import open_model
from .results import clean, say

if TYPE_CHECKING:
    from mdlm_personality.generation.writing import Written


def generate(
    run: options.Run,
    traits: options.Traits = None,
    labels: options.Labels = None,
    do: options.Set = None,
    kind: Annotated[
        Literal["counterfactual", "intervene"],
        typer.Option(
            "--kind",
            help="What --do means: this persona if something were set, or a person of "
            "whom it is set and all that is not given is new.",
        ),
    ] = "counterfactual",
    num: options.Num = 1,
    length: options.Length = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            metavar="S",
            help="Tokens that a window adds to a text longer than in training.",
        ),
    ] = None,
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
    """Write texts of a persona.

    Without --traits and --label they are of no persona in particular. A text that is
    longer than the rows of the training data is written in windows, each of which has
    the end of the text so far before it.
    """
    results.check_out(out, force)
    person = options.person_of(traits, labels)
    setting = options.assignments("--do", do)
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
    opened.note_far([*person.items(), *setting.items()])
    if not person and not setting:
        say("note: no traits are given, so that the texts are of nobody in particular")

    from mdlm_personality.generation import long, writing

    common: dict[str, Any] = {
        "do": setting or None,
        "kind": kind,
        "num": num,
        "prompt": prompt,
        "seed": seed,
        "guidance": guide,
        "manner": opened.manner,
    }
    trained = opened.trained
    if stride is not None or (length or 0) > trained.length:
        stride = stride or max(1, trained.length // 2)
        total = length or trained.length
        say(f"windows of {trained.length} tokens, each {stride} further on")
        found = long.generate_sar(trained, person, total, stride, **common)
    else:
        found = writing.generate(trained, person, length=length, **common)
    mean = found.nfe.float().mean()
    say(
        f"{num} x {found.tokens.shape[1]} tokens, {opened.manner.name}, seed {seed}: "
        f"{mean:.1f} forward passes a text"
    )
    if as_json:
        facts = {**opened.facts(), "traits": person, "do": setting, "kind": kind}
        facts |= {"guidance": asdict(guide), "seed": seed}
        body = _json({**facts, "prompt": prompt}, found, trained.persona)
    else:
        body = _text([clean(text) for text in found.texts])
    results.deliver(body, out)


def _text(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"--- {i} ---\n{text}" for i, text in enumerate(texts, 1))


def _json(facts: dict[str, Any], found: Written, persona: Any) -> str:
    rows = zip(found.texts, found.tokens.tolist(), found.nfe.tolist(), strict=True)
    samples = [{"text": a, "tokens": b, "nfe": c} for a, b, c in rows]
    first = persona.values(found.personas.z[:1])[0].tolist()
    columns = dict(zip(persona.columns, map(results.short, first), strict=True))
    return json.dumps(
        {**facts, "persona": columns, "samples": samples}, ensure_ascii=False
    )
