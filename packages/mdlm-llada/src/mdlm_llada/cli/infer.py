"""``mdlm llada infer``: a model's answers to the examples of a task, as a file."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Seed, Sets
from mdlm_core.errors import UsageError
from mdlm_llada.registry import get_task, import_tasks

from .decoding import (
    BlockLength,
    Cache,
    CfgScale,
    Checkpoint,
    Dtype,
    GenLength,
    MaskTokenId,
    Remasking,
    Steps,
    Temperature,
    TemplateName,
    Threshold,
    decoding,
    say,
)
from .progress import Progress, stoppable


def infer(
    task: Annotated[
        str, typer.Option(metavar="NAME", help="A task: gsm8k, addition, jsonl, ...")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "--model_name",
            metavar="MODEL",
            help="A run folder, or a checkpoint.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "--out_file", metavar="FILE", help="Where answers go."),
    ],
    path: Annotated[
        str,
        typer.Option(metavar="FILES", help="The task's file or folder; or it has one."),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Which examples: train or test.")
    ] = "test",
    rows: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Examples, at most; 0: all."),
    ] = None,
    cfg: Annotated[
        str,
        typer.Option(metavar="JSON", help="More settings of the task, as an object."),
    ] = "{}",
    gen_length: GenLength = None,
    steps: Steps = None,
    block_length: BlockLength = None,
    temperature: Temperature = None,
    cfg_scale: CfgScale = None,
    remasking: Remasking = None,
    threshold: Threshold = None,
    cache: Cache = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "--batch_size", metavar="B", help="Rows at a time."
        ),
    ] = None,
    mask_token_id: MaskTokenId = None,
    dtype: Dtype = "auto",
    template: TemplateName = "auto",
    checkpoint: Checkpoint = "best",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file of other origin.")
    ] = False,
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Answer the examples of a task. A file that is not complete is continued.

    Each line is {"task", "prompt", "gold_raw", "prediction", "meta": {"index"}}, for
    'mdlm llada score'. --seed decides the draws; --cfg '{"seed": 1}' which examples a
    task generates.
    """
    import_tasks(imports or ())
    catalog = load_catalog(*(imports or ()))
    found = get_task(task)
    data = {**_object(cfg), **({"path": path} if path else {})}
    if rows is not None:
        data["rows" if split == "train" else "held_out"] = rows
    found.check(data)
    settings, length = decoding(
        model,
        catalog,
        gen_length=gen_length,
        sets=sets,
        steps=steps,
        block=block_length,
        temperature=temperature,
        cfg_scale=cfg_scale,
        remasking=remasking,
        threshold=threshold,
        cache=cache,
        batch_size=batch_size,
    )
    examples = found.build_dataset(split, data)

    from mdlm_llada.generate import check_lengths
    from mdlm_llada.infer import infer as answer
    from mdlm_llada.models import load_model

    check_lengths(length, settings)
    progress = Progress(say, paced=not sys.stderr.isatty())
    with stoppable(progress, force=force):
        loaded = load_model(
            model,
            device=device or "auto",
            mask_token_id=mask_token_id,
            dtype=dtype,
            template=template,
            checkpoint=checkpoint,
            catalog=catalog,
        )
    made = {
        "task": found.name,
        "split": split,
        "cfg": data,
        "model": model,
        "dtype": dtype,
        "template": loaded.template,
        "tokenizer": loaded.tokenizer.fingerprint(),
        "gen_length": length,
        "seed": seed or 0,
        # How many rows are answered together changes nothing.
        "sampler": {k: v for k, v in asdict(settings).items() if k != "batch_size"},
    }
    start = time.perf_counter()
    with stoppable(progress, force=force):
        done = answer(
            loaded,
            found,
            examples,
            out,
            answer_length=length,
            settings=settings,
            seed=seed or 0,
            made=made,
            force=force,
            say=progress,
        )
    seconds = time.perf_counter() - start
    if as_json:
        print(json.dumps({"out": str(out), **asdict(done), "seconds": seconds}))
        return
    print(
        f"{out}: {done.rows:,} answers to {found.name}, {split}; {done.answered:,} of "
        f"them now, with {done.nfe:.1f} evaluations and "
        f"{done.tokens_per_forward:.2f} tokens per evaluation, in {seconds:.1f} s"
    )


def _object(text: str) -> dict[str, object]:
    """Return the object that ``--cfg`` holds."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--cfg is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError('--cfg must be an object, as in {"instructions": true}')
    return found
