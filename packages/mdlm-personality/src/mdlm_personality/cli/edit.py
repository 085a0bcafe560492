"""``mdlm personality edit``: what a text would be if its writer were another."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Sets
from mdlm_core.errors import DataError, UsageError

from . import given as options
from . import results
from .counterfactual import moves, persona_lines
from .opening import open_model
from .results import STATEMENT, say


def edit(
    run: options.Run,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="What was written.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="A file with the text."),
    ] = None,
    traits: options.Traits = None,
    labels: options.Labels = None,
    do: options.Set = None,
    shift: options.Shift = None,
    share: Annotated[
        float,
        typer.Option(
            "--share", metavar="R", help="How much of the text may change, in [0, 1]."
        ),
    ] = 0.5,
    contrast: options.Contrast = 0.0,
    num: options.Num = 1,
    guidance: options.Guide = 1.0,
    guidance_schedule: options.Schedule = "constant",
    guidance_interval: options.Interval = "0,0.6",
    trait_guidance: options.TraitGuide = None,
    negative: options.Negative = None,
    regressor: options.Regressor = None,
    regressor_guidance: options.RegressorGuide = 1.0,
    steps: options.Steps = None,
    temperature: options.Temperature = None,
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
    """Say what a text would be if its writer were another.

    The random numbers behind the text are worked out under the writer's persona, and
    used again under the changed one; with an unchanged persona the text comes back as
    it is. --traits are the writer's, as far as they are known. A new line of the text
    stands for the end of a document.
    """
    results.check_out(out, force)
    written = _text(text, file)
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
        steps=steps,
        temperature=temperature,
    )
    opened.note_far([*person.items(), *(setting.items() if do else ())])
    if not person:
        say("note: no traits are given, so that the text is taken for nobody's")

    from mdlm_personality.generation.changes import marked
    from mdlm_personality.generation.edit import edit as edited

    found = edited(
        opened.trained,
        written,
        person,
        setting,
        share=share,
        kind=kind,
        contrast=contrast,
        num=num,
        seed=seed,
        guidance=guide,
        manner=opened.manner,
    )
    moved = found.moved(opened.trained)
    say(
        f"{found.hidden} of {found.tokens} tokens might change, "
        f"{found.nfe.float().mean():.1f} forward passes a text"
    )
    say(STATEMENT)
    if as_json:
        facts = {
            **opened.facts(),
            "traits": person,
            kind: setting,
            "share": share,
            "contrast": contrast,
            "guidance": asdict(guide),
            "seed": seed,
            "statement": STATEMENT,
            "before": found.before,
            "moved": moves(moved),
        }
        rows = zip(found.texts, found.changes, found.nfe.tolist(), strict=True)
        facts["edits"] = [
            {"text": a, "marked": marked(b), "share_changed": b.share, "nfe": c}
            for a, b, c in rows
        ]
        body = json.dumps(facts, ensure_ascii=False)
    else:
        colour = out is None and results.colour()
        lines = persona_lines(moved)
        for index, one in enumerate(found.changes, 1):
            number = f" {index}" if num > 1 else ""
            lines.append(f"--- text{number}: {one.share:.0%} of the words changed ---")
            lines.append(marked(one, colour=colour))
        body = "\n".join(lines)
    results.deliver(body, out)


def _text(text: str | None, file: Path | None) -> str:
    """Return the text to edit.

    Raises:
        UsageError: if there is none, or two.
        DataError: if the file cannot be read.
    """
    if (text is None) == (file is None):
        raise UsageError("give the text to edit, by --text or by --file")
    if file is None:
        return text or ""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"'{file}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{file}' is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
