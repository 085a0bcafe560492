"""`MSAGPT_MDLM`: a trained run behind the original's two methods.

Letters: B batch, L columns of the query, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.train.runs import LoadedRun, load_run
from mdlm_msa import layout
from mdlm_msa.alphabet import GMASK, MASK, SEPARATOR, SOP, Ids

from .diffusion import banned, sampler_named


class MSAGPT_MDLM(nn.Module):
    """A trained model that writes rows below a context of tokens."""

    def __init__(self, run: LoadedRun) -> None:
        """Take over a trained run."""
        super().__init__()
        self.run = run
        self.backbone = cast("nn.Module", run.backbone)
        self.schedule: Schedule = run.schedule

    @classmethod
    def from_pretrained(
        cls, path: Path | str, args: Any = None, **settings: Any
    ) -> tuple[MSAGPT_MDLM, Any]:
        """Load a run folder; return the model and `args` as they came.

        Args:
            path: the run folder.
            args: anything; its `device` is read, if it has one.
            settings: of `mdlm_core.train.load_run`.
        """
        device = settings.pop("device", None) or getattr(args, "device", None) or "cpu"
        return cls(load_run(path, device=str(device), **settings)), args

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.backbone.parameters()).device

    @torch.no_grad()
    def generate(
        self,
        context_tokens: Tensor,
        msa_len: int,
        max_gen_length: int,
        num_steps: int = 256,
        msa_delimiter_id: int = SEPARATOR,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        sampler: str = "ddpm_cache",
        invalid_slices: Sequence[int] = (),
        seed: int = 0,
        callback: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Write rows below a context ``[gMASK] sop query <M> row <M> ... <M>``.

        Separators stand where they belong before anything is written, and rows consist
        of residues and gaps.

        Args:
            context_tokens: ``(B, C)``, all of one query's length.
            msa_len: L + 1: a row and its separator.
            max_gen_length: new tokens, at most; whole rows are written.
            num_steps: T.
            msa_delimiter_id: 35.
            temperature: divides the log-probabilities.
            top_p: keep the smallest set of residues with at least this probability.
            top_k: keep the k most probable residues; 0 means all.
            sampler: ddpm, ddpm_cache, confidence, remask, one-shot, or another.
            invalid_slices: ids that are never drawn.
            seed: decides every draw.
            callback: called with (step, canvas) after every change.

        Returns:
            ``(B, C + n msa_len)``: the context, and n rows, each with its separator.

        Raises:
            UsageError: if no row fits, or the separator is another one.
            DataError: if the context has another form.
        """
        if msa_delimiter_id != SEPARATOR:
            raise UsageError(
                f"msa_delimiter_id is {msa_delimiter_id}; it must be {SEPARATOR}, "
                f"get_command('<M>')"
            )
        rows = max_gen_length // msa_len
        if rows < 1:
            raise UsageError(
                f"max_gen_length is {max_gen_length}, and a row with its separator "
                f"takes msa_len={msa_len} tokens; ask for {msa_len} at least"
            )
        canvases = [
            _canvas(context_rows(tokens, msa_len), rows) for tokens in context_tokens
        ]
        batch = layout.batch(canvases).to(self.device)
        denoiser = Denoiser(
            cast("Backbone", self.backbone),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            banned=banned(invalid_slices),
        )
        draw = sampler_named(sampler, num_steps)
        with denoiser.evaluating():
            found = draw(
                denoiser,
                batch,
                schedule=self.schedule,
                noise=Noise(seed).child("generate"),
                steps=num_steps,
                callback=callback,
            )
        return found.tokens.to(context_tokens.device)


def context_rows(tokens: Tensor, msa_len: int) -> Ids:
    """Return the rows ``(N, L)`` of a context ``(C,)``.

    Raises:
        DataError: if it is not ``[gMASK] sop`` and N rows, each with its separator.
    """
    ids, rest = tokens.tolist(), (len(tokens) - 2) % msa_len
    count = (len(ids) - 2) // msa_len
    if ids[:2] != [GMASK, SOP]:
        raise DataError(
            f"the context begins with the ids {ids[:2]}; it must begin with [gMASK] "
            f"and sop, {[GMASK, SOP]}"
        )
    if rest or count < 1:
        raise DataError(
            f"the context has {len(ids) - 2} tokens after [gMASK] sop, which is no "
            f"multiple of msa_len={msa_len}, the length of a row with its separator"
        )
    body = np.array(ids[2:]).reshape(count, msa_len)
    if (body[:, -1] != SEPARATOR).any() or (body[:, :-1] == SEPARATOR).any():
        raise DataError(
            f"the separators of the context are not at every {msa_len}th token after "
            f"[gMASK] sop; rows must all be as long as the query"
        )
    if not ((body[:, :-1] >= 1) & (body[:, :-1] < MASK)).all():
        raise DataError("a row of the context holds padding or a mask")
    rows: Ids = body[:, :-1].astype(np.uint8)
    return rows


def _canvas(given: Ids, rows: int) -> layout.Canvas:
    new = np.full((rows, given.shape[1]), MASK, np.uint8)
    return layout.Canvas(np.concatenate([given, new]), len(given))


__all__ = ["MSAGPT_MDLM", "context_rows"]
