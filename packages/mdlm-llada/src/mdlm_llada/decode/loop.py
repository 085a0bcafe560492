"""The loop: evaluate, commit the surest tokens of each row's block, go on."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.errors import UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampled, SamplerCallback, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.config import DecodeConfig

from .blocks import Row, rows_of
from .guidance import PromptGuidance
from .propose import TURN, propose
from .rules import commit
from .states import Source, causal_block, source

Observer = Callable[[Tensor, Tensor, Tensor], None]
"""Called after every evaluation with the canvas ``(B, L)``; a draft, which is the same
with the proposed tokens at the masked positions of the blocks in work; and ``(B,)``,
the position in each row before which nothing changes any more."""


def decode(
    denoiser: Denoiser,
    canvas: Batch,
    *,
    schedule: Schedule,
    noise: Noise,
    steps: int,
    callback: SamplerCallback | None = None,
    settings: DecodeConfig | None = None,
    observer: Observer | None = None,
) -> Sampled:
    """Fill the canvas block after block, the surest tokens of a block first.

    LLaDA's decoding (arXiv 2502.09992, section 2.4 and appendix B.4). A row's blocks
    begin at its first position to fill; those of a block-diffusion model are the
    model's. At every step a token is drawn at each masked position of the row's block,
    and the surest ones are committed; the others stay masked. A block-diffusion model
    keeps to its steps: a threshold, factor or bound commits more than the step's
    count, never less (as LLaDA 2 decodes). Rows go on at their own
    pace, and one that is full makes room for the next.

    A step needs the head at the masked positions of the block alone, and a draw one
    number for each. At temperature 0 nothing is drawn.

    Args:
        denoiser: the model; a time-conditioned one sees the t its canvas implies.
        canvas: B rows; the mask stands where to write.
        schedule: used for that t alone.
        noise: keys every draw.
        steps: T over all blocks of a row; each gets an equal share.
        callback: called after every evaluation with its number and the canvas.
        settings: everything else.
        observer: called as `callback` is, with a draft beside the canvas.

    Raises:
        UsageError: if the settings do not go with the model.
    """
    settings = settings or DecodeConfig()
    run = _Run.of(denoiser, canvas, settings, schedule, noise, steps)
    waiting = iter(run.rows)
    free = list(range(run.capacity))
    active: list[Row] = []
    changes = 0
    with denoiser.evaluating():
        while True:
            while free and (row := next(waiting, None)) is not None:
                row.slot = free.pop(0)
                active.append(row)
            if not active:
                break
            draft = run.advance(active, drafting=observer is not None)
            changes += 1
            free += [row.slot for row in active if row.done]
            active = [row for row in active if not row.done]
            if callback is not None:
                callback(changes, run.tokens.clone())
            if observer is not None and draft is not None:
                observer(run.tokens.clone(), draft, run.settled())
    return Sampled(run.tokens, run.nfe)


def check(
    denoiser: Denoiser, canvas: Batch, settings: DecodeConfig, schedule: Schedule
) -> None:
    """Refuse settings that do not go with the model, without evaluating it.

    Args:
        denoiser: the model.
        canvas: rows such as those to be decoded.
        settings: how to decode.
        schedule: as `decode` takes it.

    Raises:
        UsageError: as `decode` does.
    """
    _Run.of(denoiser, canvas, settings, schedule, Noise(0), settings.steps)


@dataclass
class _Run:
    """What a decoding has at hand."""

    denoiser: Denoiser
    canvas: Batch
    settings: DecodeConfig
    noise: Noise
    source: Source
    rows: list[Row]
    capacity: int
    size: int
    ends: Tensor
    """Ids that end a text."""
    todo: Tensor
    """``(B, L)`` bool: what was to fill at the beginning."""
    tokens: Tensor
    nfe: Tensor

    @classmethod
    def of(
        cls,
        denoiser: Denoiser,
        canvas: Batch,
        settings: DecodeConfig,
        schedule: Schedule,
        noise: Noise,
        steps: int,
    ) -> _Run:
        size = _block_size(denoiser, settings)
        ends = _ends(denoiser, settings)
        if settings.eos == "never":
            denoiser = copy(denoiser)
            denoiser.banned = tuple(sorted({*denoiser.banned, *ends}))
        if settings.cfg_scale > 0:
            denoiser = PromptGuidance(denoiser, settings.cfg_scale)
        if denoiser.time_conditioned:
            denoiser = denoiser.on_implied_time(schedule)
        todo = denoiser.masked(canvas)
        aligned = causal_block(denoiser) > 0
        rows = rows_of(todo, canvas.pad, size, steps, aligned=aligned)
        capacity = max(1, min(settings.batch_size, len(rows)))
        return cls(
            denoiser=denoiser,
            canvas=canvas,
            settings=settings,
            noise=noise,
            source=source(denoiser, canvas, settings, capacity=capacity),
            rows=rows,
            capacity=capacity,
            size=size,
            ends=torch.tensor(ends, dtype=torch.int64, device=canvas.tokens.device),
            todo=todo,
            tokens=canvas.tokens.clone(),
            nfe=torch.zeros_like(canvas.sample_id),
        )

    def advance(self, active: list[Row], *, drafting: bool) -> Tensor | None:
        """Evaluate the model once for each active row; return a draft if asked to."""
        device = self.tokens.device
        index = torch.tensor([row.index for row in active], device=device)
        spans = torch.tensor([row.span for row in active], device=device)
        part = self._part(index, max(row.length for row in active))
        window = spans[:, :1] + torch.arange(self.size, device=device)  # (b, S)
        inside = window < spans[:, 1:]
        window = window.clamp(max=part.length - 1)
        now = part.tokens.gather(1, window)
        todo = self.todo[index[:, None], window] & inside
        masked = todo & (now == self.denoiser.mask_id)
        editing = self.settings.edit_threshold > 0
        found = propose(
            self.denoiser,
            self.source,
            part,
            active,
            window,
            todo if editing else masked,
            settings=self.settings,
            noise=self.noise,
            ends=self.ends,
        )
        counts = torch.tensor([row.count for row in active], device=device)
        chosen = commit(
            self.settings,
            found.sure,
            masked,
            counts,
            found.entropy,
            at_least_counts=causal_block(self.denoiser) > 0,
        )
        left = (masked & ~chosen).any(1).tolist()
        chosen |= found.revised & ~masked
        self._write(index, window, chosen, found.tokens)
        self.nfe[index] += self.denoiser.passes
        draft = None
        if drafting:
            before = self.tokens.clone()
            self._write(index, window, masked, found.tokens)
            draft, self.tokens = self.tokens, before
        changed = chosen.any(1).tolist() if editing else left
        for row, *state in zip(active, left, changed, strict=True):
            self._go_on(row, *state)
        return draft

    def settled(self) -> Tensor:
        """Return ``(B,)``: the position before which a row does not change any more."""
        ends = [self.tokens.shape[1]] * len(self.tokens)
        for row in self.rows:
            if not row.done:
                ends[row.index] = row.span[0]
        return torch.tensor(ends, device=self.tokens.device)

    def _part(self, index: Tensor, length: int) -> Batch:
        """Return the rows `index`, without what is padding in all of them."""
        part = self.canvas.with_tokens(self.tokens).select(index)
        if length == part.length or part.condition:
            return part
        there = slice(0, length)
        return replace(
            part,
            tokens=part.tokens[:, there],
            frozen=part.frozen[:, there],
            pad=part.pad[:, there],
            positions=None if part.positions is None else part.positions[:, there],
            documents=None if part.documents is None else part.documents[:, there],
        )

    def _write(
        self, index: Tensor, window: Tensor, where: Tensor, tokens: Tensor
    ) -> None:
        """Write `tokens` ``(b, S)`` where they are chosen."""
        rows = index[:, None].expand_as(window)
        self.tokens[rows[where], window[where]] = tokens[where]

    def _go_on(self, row: Row, left: bool, changed: bool) -> None:
        """Note that `row` has been evaluated, and go on to its next step or block."""
        row.turn += 1
        if left:
            row.step += 1
            return
        if changed and row.edits < self.settings.edit_steps:
            row.edits += 1
            return
        first, end = row.span
        row.next_block()
        if self.settings.stop and len(self.ends) and not row.done:
            todo = self.todo[row.index]
            written = self.tokens[row.index, first:end][todo[first:end]]
            ending = written[torch.isin(written, self.ends)]
            if len(ending):
                rest = todo & (self.tokens[row.index] == self.denoiser.mask_id)
                self.tokens[row.index].masked_fill_(rest, int(ending[0]))
                row.block = len(row.spans)


def _block_size(denoiser: Denoiser, settings: DecodeConfig) -> int:
    """Return S, the model's own if it has one."""
    size = causal_block(denoiser)
    if size and settings.block != size:
        raise UsageError(
            f"sampler.block is {settings.block}, but the model sees blocks of {size}; "
            f"set sampler.block={size}"
        )
    if settings.block > TURN:
        raise UsageError(f"sampler.block is {settings.block}; at most {TURN}")
    return settings.block


def _ends(denoiser: Denoiser, settings: DecodeConfig) -> list[int]:
    """Return the ids that end a text: those set, or the one of the checkpoint."""
    architecture = getattr(denoiser.backbone, "architecture", None)
    own = getattr(architecture, "eos_token_id", None)
    ends = list(settings.eos_ids) or ([] if own is None else [int(own)])
    size = denoiser.backbone.vocab_size
    wrong = [token for token in ends if not 0 <= token < size]
    if wrong:
        raise UsageError(
            f"sampler.eos_ids holds {wrong[0]}, which is outside the vocabulary of "
            f"{size} ids, 0 to {size - 1}"
        )
    if settings.eos != "free" and not ends:
        raise UsageError(
            f"sampler.eos is {settings.eos}, but no end of text is known; set "
            f"sampler.eos_ids"
        )
    return ends
