"""Sampling strategies and `diffusion_sampling`, as the original's chat calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mdlm_core.catalog import load_catalog
from mdlm_core.errors import UsageError
from mdlm_msa.alphabet import SEPARATOR

from .diffusion import banned
from .tokenization import ProteinGLMTokenizer
from .wrapper import MSAGPT_MDLM


@dataclass(frozen=True, slots=True)
class DiffusionStrategy:
    """A sampler by name with its settings."""

    strategy_name: str
    num_steps: int = 256
    temperature: float = 1.0
    invalid_slices: tuple[int, ...] = ()
    seed: int = 0

    def generate(
        self,
        model: MSAGPT_MDLM,
        context_tokens: Tensor,
        msa_len: int,
        max_gen_length: int,
        msa_delimiter_id: int = SEPARATOR,
    ) -> Tensor:
        """Return `MSAGPT_MDLM.generate` with these settings."""
        return model.generate(
            context_tokens,
            msa_len,
            max_gen_length,
            self.num_steps,
            msa_delimiter_id,
            temperature=self.temperature,
            sampler=self.strategy_name,
            invalid_slices=self.invalid_slices,
            seed=self.seed,
        )


def get_diffusion_strategy(
    strategy_name: str = "ddpm_cache",
    num_steps: int = 256,
    temperature: float = 1.0,
    invalid_slices: Sequence[int] = (),
    seed: int = 0,
) -> DiffusionStrategy:
    """Return a strategy by its name, one of ``mdlm list sampler``.

    Raises:
        UnknownNameError: if there is no such sampler.
        UsageError: if an id of `invalid_slices` does not exist.
    """
    load_catalog().component("sampler", strategy_name)
    banned(invalid_slices)
    return DiffusionStrategy(
        strategy_name, num_steps, temperature, tuple(invalid_slices), seed
    )


def diffusion_sampling(
    args: Any,
    raw_text: Sequence[str],
    model: MSAGPT_MDLM,
    tokenizer: ProteinGLMTokenizer,
    strategy: DiffusionStrategy,
) -> str:
    """Return the query, the prompt and new rows as text, parted by ``<M>``.

    Args:
        args: its `max_gen_length` is read: new tokens, at most.
        raw_text: the query, then rows of the prompt.
        model: a trained model.
        tokenizer: see `tokenization`.
        strategy: see `get_diffusion_strategy`.

    Raises:
        UsageError: if rows are not as long as the query.
    """
    lengths = {len(tokenizer.tokenize(row)) for row in raw_text}
    if len(lengths) != 1:
        raise UsageError(
            f"the query and the rows of the prompt have {sorted(lengths)} letters; "
            f"all must have as many as the query"
        )
    tokens = [tokenizer.get_command("[gMASK]"), tokenizer.get_command("sop")]
    for row in raw_text:
        tokens += [*tokenizer.tokenize(row), tokenizer.get_command("<M>")]
    output = strategy.generate(
        model=model,
        context_tokens=torch.tensor([tokens], device=model.device),
        msa_len=lengths.pop() + 1,
        max_gen_length=args.max_gen_length,
        msa_delimiter_id=tokenizer.get_command("<M>"),
    )
    return tokenizer.detokenize(output[0].tolist()).removesuffix("<M>")
