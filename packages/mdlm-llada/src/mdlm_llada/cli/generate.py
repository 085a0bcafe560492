"""``mdlm llada generate``: answers to prompts."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Json, Out, Seed, Sets
from mdlm_core.errors import UsageError

from .decoding import (
    BlockLength,
    Cache,
    CfgScale,
    Checkpoint,
    Dtype,
    GenLength,
    MaskTokenId,
    Model,
    Remasking,
    Steps,
    Temperature,
    TemplateName,
    Threshold,
    decoding,
    say,
)


def generate(
    model: Model,
    prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What is asked; may be repeated."),
    ] = None,
    gen_length: GenLength = None,
    steps: Steps = None,
    block_length: BlockLength = None,
    temperature: Temperature = None,
    cfg_scale: CfgScale = None,
    remasking: Remasking = None,
    threshold: Threshold = None,
    cache: Cache = None,
    mask_token_id: MaskTokenId = None,
    dtype: Dtype = "auto",
    template: TemplateName = "auto",
    checkpoint: Checkpoint = "best",
    stream: Annotated[
        bool, typer.Option("--stream", help="Show the answer while it is written.")
    ] = False,
    out: Out = None,
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Answer prompts. Without --prompt each line of standard input is one."""
    catalog = load_catalog(*(imports or ()))
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
    )
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"--out '{out}': there is no folder '{out.parent}'")
    prompts = prompt or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not prompts:
        raise UsageError("there is no prompt; use --prompt TEXT, or give lines")
    if stream and (len(prompts) != 1 or as_json or out is not None):
        raise UsageError(
            "--stream shows the answer to one prompt; leave out --json and --out, and "
            "give a single prompt"
        )
    from mdlm_core.samplers.live import printable
    from mdlm_llada.generate import check_lengths
    from mdlm_llada.generate import generate as answer
    from mdlm_llada.models import load_model
    from mdlm_llada.streaming import TextStreamer

    check_lengths(length, settings)
    loaded = load_model(
        model,
        device=device or "auto",
        mask_token_id=mask_token_id,
        dtype=dtype,
        template=template,
        checkpoint=checkpoint,
        catalog=catalog,
    )
    start = time.perf_counter()
    answers = answer(
        loaded,
        prompts,
        answer_length=length,
        settings=settings,
        seed=seed or 0,
        streamer=TextStreamer(loaded.tokenizer) if stream else None,
    )
    seconds = time.perf_counter() - start
    nfe = sum(found.nfe for found in answers)
    say(
        f"{len(answers)} x {length} tokens: {nfe / len(answers):.1f} evaluations an "
        f"answer, {seconds:.1f} s"
    )
    if stream:
        return
    body = "\n".join(found.text for found in answers)
    if as_json:
        rows = [
            {
                "prompt": asked,
                "text": found.text,
                "tokens": found.ids,
                "nfe": found.nfe,
                "tokens_per_forward": found.tokens_per_forward,
            }
            for asked, found in zip(prompts, answers, strict=True)
        ]
        facts = {"model": model, "seed": seed or 0, "seconds": round(seconds, 3)}
        body = json.dumps({**facts, "answers": rows}, ensure_ascii=False)
    elif len(answers) > 1:
        body = "\n".join(
            f"--- {number} ---\n{found.text}" for number, found in enumerate(answers, 1)
        )
    if out is not None:
        out.write_text(body + "\n", encoding="utf-8")
    else:
        print(printable(body) if sys.stdout.isatty() else body)
