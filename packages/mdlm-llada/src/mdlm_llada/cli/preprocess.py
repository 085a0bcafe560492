"""``mdlm llada preprocess``: the examples of a task as a file of token ids."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Imports, Json
from mdlm_core.cli.tables import print_table
from mdlm_core.errors import UsageError


def preprocess(
    task: Annotated[
        str, typer.Option(metavar="NAME", help="A task: gsm8k, addition, jsonl, ...")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "--out_file", metavar="FILE", help="Where rows go."),
    ],
    path: Annotated[
        str,
        typer.Option(metavar="FILES", help="The task's file or folder; or it has one."),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Which examples: train or test.")
    ] = "train",
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer",
            "--tokenizer_path",
            metavar="NAME",
            help="byte, or the name or folder of a Hugging Face tokenizer.",
        ),
    ] = "byte",
    mask_token_id: Annotated[
        int | None,
        typer.Option(
            "--mask-token-id",
            "--mask_token_id",
            metavar="ID",
            help="The mask, for a tokenizer that does not name one.",
        ),
    ] = None,
    template: Annotated[
        Literal["auto", "llada", "plain", "none"],
        typer.Option(help="How a prompt becomes text."),
    ] = "auto",
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length", "--max_len", min=2, metavar="N", help="Tokens of a row."
        ),
    ] = 4096,
    too_long: Annotated[
        Literal["drop", "truncate", "error"],
        typer.Option("--too-long", help="What happens to longer rows."),
    ] = "drop",
    rows: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Examples, at most; 0: all."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Which examples are generated.")
    ] = 0,
    cfg: Annotated[
        str,
        typer.Option(metavar="JSON", help="More settings of the task, as an object."),
    ] = "{}",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file of other origin.")
    ] = False,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """Write the examples of a task as token ids, for training.

    Each line is {"id": ..., "input_ids": [...], "prompt_length": n}. FILE.meta.json
    beside it says which tokenizer made the ids; training refuses another one.
    """
    settings = _settings(cfg)
    load_catalog(*(imports or ()))
    from mdlm_llada.data.preprocess import preprocess as write
    from mdlm_llada.data.rows import Fit
    from mdlm_llada.registry import get_task
    from mdlm_llada.tokenizer import load_tokenizer

    settings = {"path": path, "seed": seed, **settings}
    if rows is not None:
        settings["rows" if split == "train" else "held_out"] = rows
    fit = Fit(max_length, too_long, ("--max-length", "--too-long"))
    sidecar = write(
        get_task(task),
        out,
        split=split,
        cfg=settings,
        tokenizer=load_tokenizer(tokenizer, mask_token_id),
        template=template,
        fit=fit,
        force=force,
    )
    if as_json:
        record = {"out": str(out), **asdict(sidecar), "too_long": fit.card()}
        print(json.dumps(record, indent=2))
        return
    print(f"{out}: {fit.kept:,} rows of {sidecar.task}, {split}")
    print_table(
        [
            ("tokenizer", f"{sidecar.tokenizer}, {sidecar.vocab_size:,} ids"),
            ("template", sidecar.template),
            ("tokens", f"{fit.tokens:,}, {fit.learned:,} of them to learn"),
            ("longest", f"{fit.longest:,} tokens; at most {max_length:,} are kept"),
            ("dropped", f"{fit.dropped:,} rows"),
            ("truncated", f"{fit.truncated:,} rows"),
        ],
        indent="  ",
    )


def _settings(text: str) -> dict[str, Any]:
    """Return the settings that ``--cfg`` holds.

    Raises:
        UsageError: if it is no JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--cfg is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError('--cfg must be an object, as in {"annotations": true}')
    return found
