"""Answers to held-out prompts, to look at."""

from __future__ import annotations

from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config.schema import RunConfig
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, MaskingPolicy

from .answers import answer, longest_answer
from .held_out import held_out, stack


def show_answers(
    module: nn.Module,
    source: DataSource,
    run: RunConfig,
    catalog: Catalog,
    *,
    count: int,
    seed: int,
    length: int = 0,
    policy: MaskingPolicy | None = None,
) -> list[str]:
    """Return `count` held-out prompts with the answers of the run's sampler.

    Args:
        module: has the model as its child `backbone`.
        source: the data.
        run: the settings of the sampler.
        catalog: builds it.
        count: how many prompts.
        seed: decides every draw.
        length: tokens of an answer; 0 takes the longest of the held-out ones.
        policy: the masking policy that the model was trained with, if it matters.
    """
    if not count or source.size("validation") == 0:
        return []
    backbone = module.backbone
    assert isinstance(backbone, nn.Module)
    batches = list(held_out(source, count))
    found = answer(
        backbone,
        stack(batches, source.tokenizer.pad_id),
        source,
        run,
        catalog,
        length=length or longest_answer(batches),
        noise=Noise(seed).child("sample"),
        policy=policy,
    )
    decode = source.tokenizer.decode
    return [decode([*item.prompt, *item.ids]) for item in found]
