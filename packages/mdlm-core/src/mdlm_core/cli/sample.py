"""``mdlm sample``: write texts with a trained model, or fill in blanks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.config import read_run, to_dict
from mdlm_core.errors import UsageError

from .conditions import Conditions, condition_of, read_conditions
from .options import Device, Imports, Json, Sets

if TYPE_CHECKING:
    from mdlm_core.protocols import Tokenizer
    from mdlm_core.samplers import Texts

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]


def sample(
    run: Run,
    num: Annotated[int, typer.Option(metavar="N", help="How many texts.")] = 1,
    length: Annotated[
        int | None,
        typer.Option(metavar="L", help="Tokens in a text; default: as trained."),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="How it begins; ____ is a blank to fill, ____{12} one of 12 tokens.",
        ),
    ] = "",
    conditions: Conditions = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="One of 'mdlm list sampler'."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="T", help="Steps of the sampler.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="0 takes the most probable token.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(metavar="P", help="Probability that is kept.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(metavar="K", help="Tokens that are kept.")
    ] = None,
    ban: Annotated[
        list[str] | None,
        typer.Option(metavar="TOKEN", help="A token not to use; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    checkpoint: Annotated[
        str, typer.Option(help="best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="ema or raw.")] = "ema",
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16: faster, and coarser in the model.")
    ] = "fp32",
    live: Annotated[
        bool, typer.Option("--live", help="Show the canvas filling in.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there, do not print.")
    ] = None,
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write texts with a trained model, or fill in the blanks of one."""
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out '{out}': there is no folder '{out.parent}'")
    values = read_conditions(conditions or ())
    catalog = load_catalog(*(imports or ()))
    flags = _flags(
        name=sampler, steps=steps, temperature=temperature, top_p=top_p, top_k=top_k
    )
    config = read_run(run, catalog, sets=[*_of_sampler(sets or ()), *flags])

    from mdlm_core.samplers import sample_text
    from mdlm_core.samplers.live import LiveView
    from mdlm_core.train import load_run

    loaded = load_run(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=_say,
    )
    condition = condition_of(loaded.task, values, num, name=config.task.name)
    start = time.perf_counter()
    with LiveView(loaded.tokenizer) if live else nullcontext() as view:
        texts = sample_text(
            loaded.backbone,
            loaded.tokenizer,
            schedule=loaded.schedule,
            length=_length(length, prompt, loaded.source.length),
            num=num,
            prompt=prompt,
            seed=seed,
            sampler=catalog.build("sampler", config.sampler),
            config=config.sampler.config,
            banned=_ids(ban or (), loaded.tokenizer),
            condition=condition,
            policy=getattr(loaded.module, "policy", None),
            precision=precision,
            callback=view,
        )
    seconds = time.perf_counter() - start
    _say(
        f"{num} x {texts.tokens.shape[1]} tokens, {config.sampler.name}, seed {seed}: "
        f"{texts.nfe.float().mean():.1f} evaluations a text, {seconds:.1f} s"
    )
    facts = {
        "run": str(run),
        "checkpoint": loaded.checkpoint.name,
        "weights": loaded.weights,
        "precision": precision,
        "sampler": to_dict(config)["sampler"],
        "prompt": prompt,
        "condition": values,
        "seed": seed,
        "seconds": round(seconds, 3),
    }
    _deliver(_json(facts, texts) if as_json else _text(texts.texts), out)


def _of_sampler(sets: Sequence[str]) -> list[str]:
    """Return what ``--set`` says, if it is about the sampler."""
    for text in sets:
        if not text.strip().startswith(("sampler.", "sampler=")):
            raise UsageError(
                f"--set {text}: of a finished run only the sampler can be set, such as "
                f"--set sampler.steps=64"
            )
    return list(sets)


def _flags(**given: object) -> list[str]:
    """Return the flags that were given as settings of the sampler."""
    return [
        f"sampler.{key}={value}" for key, value in given.items() if value is not None
    ]


def _length(given: int | None, prompt: str, trained: int) -> int | None:
    """Return the length of the canvas: as asked for, as trained, or as the prompt."""
    from mdlm_core.samplers.canvas import has_open_end

    if given is None:
        return trained if has_open_end(prompt) else None
    if given > trained:
        _say(f"note: the model was trained on rows of {trained} tokens")
    return given


def _ids(texts: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """Return the id of each text that is one token."""
    ids = []
    for text in texts:
        found = tokenizer.encode(text)
        if len(found) != 1:
            raise UsageError(
                f"--ban '{text}' is {len(found)} tokens of '{tokenizer.name}'; only a "
                f"single token can be banned"
            )
        ids += found
    return ids


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _text(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"--- {i} ---\n{text}" for i, text in enumerate(texts, 1))


def _json(facts: dict[str, Any], texts: Texts) -> str:
    rows = zip(texts.texts, texts.tokens.tolist(), texts.nfe.tolist(), strict=True)
    samples = [{"text": a, "tokens": b, "nfe": c} for a, b, c in rows]
    return json.dumps({**facts, "samples": samples}, ensure_ascii=False)


def _deliver(body: str, out: Path | None) -> None:
    """Print the result, or write it to a file."""
    if out is None:
        from mdlm_core.samplers.live import printable

        print(printable(body) if sys.stdout.isatty() else body)
        return
    try:
        out.write_text(body + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--out '{out}' cannot be written: {error.strerror}"
        ) from error
