"""``mdlm llada chat``: a conversation in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from mdlm_core.catalog import load_catalog
from mdlm_core.cli.options import Device, Imports, Seed, Sets

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
)


def chat(
    model: Model,
    system: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model is told first.")
    ] = "",
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
    sets: Sets = None,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
) -> None:
    """Talk to a model; each line is a turn. /help lists what else can be typed.

    On a terminal drafts are shown in yellow while an answer is written. Lines may be
    piped in: then only the answers are printed, errors go to standard error, and the
    exit code is that of the first one.
    """
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

    from mdlm_llada.chat import Chat
    from mdlm_llada.generate import check_lengths
    from mdlm_llada.models import load_model

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
    code = Chat(
        loaded,
        catalog,
        settings=settings,
        answer_length=length,
        system=system,
        seed=seed or 0,
    ).run()
    if code:
        raise typer.Exit(code)
