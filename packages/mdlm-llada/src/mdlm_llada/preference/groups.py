"""The module of learning from rewards: a model, and groups of its own answers.

Letters: B prompts, g answers to each, R = g B answers, G their length, I inner steps,
W the width of a prompt with an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, LogLinear, Loss
from mdlm_core.kernels.modes import evaluating
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_llada.config import DecodeConfig, GRPOConfig
from mdlm_llada.decode import decode

from .mean_field import Written, log_probs, written
from .objective import advantages, clipped_terms
from .reference import Reference
from .rollouts import Held, Rollouts

Reward = Callable[[int, Sequence[int]], float]
"""From a prompt's sample id and an answer's ids to its reward."""


class Groups(nn.Module):
    """A denoiser that writes groups of answers, and the loss of their tokens.

    Step s belongs to round ``s // I``. The first step of a round writes g answers to
    each prompt and has them rewarded. All its steps then learn from these answers,
    each with other holes in the prompts; under the same holes the answers were scored
    by the model that wrote them and by the reference.
    """

    def __init__(
        self,
        backbone: nn.Module,
        reference: Reference | None,
        rollouts: Rollouts,
        *,
        settings: GRPOConfig,
        schedule: Schedule | None,
        tokens: int,
        ends: Sequence[int],
        reward: Reward,
    ) -> None:
        """Put the parts together.

        Args:
            backbone: the denoiser that is trained.
            reference: what it is held to; None if it is held to nothing.
            rollouts: room for the answers of a global batch.
            settings: how answers are written and learned from.
            schedule: tells a backbone that sees the time which one it is.
            tokens: ids of the tokenizer; the backbone may have more.
            ends: ids that end an answer.
            reward: what an answer is worth.
        """
        super().__init__()
        self.backbone = backbone
        self.reference = reference
        self.rollouts = rollouts
        self.settings = settings
        self.schedule = schedule
        self.tokens = tokens
        self.ends = tuple(ends)
        self.reward = reward

    @property
    def denoiser(self) -> Backbone:
        """The backbone."""
        return cast("Backbone", self.backbone)

    def advance(self, step: int, steps: int) -> None:
        """Let the reference become the model if it is time to."""
        every = self.settings.sync_reference
        if self.reference is not None and every and step and step % every == 0:
            self.reference.follow(self.backbone)

    def count(self, batch: Batch) -> Tensor:
        """Return the tokens that answers to `batch` have at most, a scalar int64.

        How many they have is known once they are written, see `Loss.count`.
        """
        each = self.settings.group * self.settings.answer_length
        return batch.sample_id.new_tensor(len(batch) * each)

    def forward(self, batch: Batch, draw: Draw) -> Loss:
        """Return the summed loss of the tokens of all answers to `batch`.

        Answers depend on (noise, round, `sample_id`). `Loss.extra` has the means over
        prompts of `reward`, of `kl` and `clipped` per token, and of `answer_tokens`.
        """
        settings = self.settings
        number, inner = divmod(draw.step, settings.inner_steps)
        noise = draw.noise.child("round", number)
        if not self.rollouts.hold(draw.rows, batch.sample_id, noise):
            found = self.write(batch, noise)
            self.rollouts.keep(draw.rows, batch.sample_id, noise, found)
        held = self.rollouts.of(draw.rows)
        rows = written(batch, held.answers)
        counted = self.counted(rows)
        new = self._scored(self.denoiser, rows, counted, noise, inner)
        merit = advantages(held.rewards, scaled=settings.scale_rewards)  # (B, g)
        terms = clipped_terms(
            new,
            _flat(held.old[:, inner]),
            None if self.reference is None else _flat(held.reference[:, inner]),
            merit.T.reshape(-1),
            counted,
            clip=settings.clip,
            beta=settings.beta,
        )

        def mean(values: Tensor) -> Tensor:
            """Return the mean over prompts of the means over their tokens."""
            each = [part.view(settings.group, -1) for part in (values.sum(1), sizes)]
            return (each[0].sum(0) / each[1].sum(0)).mean()

        sizes = counted.sum(1)
        extra = {
            "reward": held.rewards.mean(),
            "clipped": mean(terms.clipped),
            "answer_tokens": sizes.float().mean(),
        }
        if self.reference is not None:
            extra["kl"] = mean(terms.kl)
        return Loss(
            terms.loss.sum(),
            counted.sum(),
            -new.detach()[counted],
            rows.spread(counted),
            extra=extra,
        )

    def counted(self, rows: Written) -> Tensor:
        """Return ``(R, G)`` bool: the tokens up to the first end, that one included."""
        return _before_end(rows.answers, self.ends)

    @torch.no_grad()
    def write(self, batch: Batch, noise: Noise) -> Held:
        """Write g answers to each prompt, and return all that is known about them.

        Args:
            batch: B prompts.
            noise: that of a round.
        """
        settings = self.settings
        group, size = settings.group, settings.answer_length
        masks = batch.tokens.new_full((len(batch), group, size), self.denoiser.mask_id)
        canvas = written(batch, masks)
        with evaluating(self.backbone):
            answers = self._decoded(canvas, noise)
            rows = written(batch, _unflat(answers, group))
            counted = self.counted(rows)
            old = self._all_scored(self.denoiser, rows, counted, noise)
        reference = old[:, :0]
        if self.reference is not None:
            with self.reference.of(self.backbone) as model:
                reference = self._all_scored(model, rows, counted, noise)
        rewards = [
            self.reward(row, ids)
            for row, ids in zip(
                batch.sample_id.repeat(group).tolist(), answers.tolist(), strict=True
            )
        ]
        worth = torch.tensor(rewards, dtype=torch.float32, device=answers.device)
        return Held(
            _unflat(answers, group),
            worth.view(group, -1).T.contiguous(),
            old,
            reference,
        )

    def _decoded(self, canvas: Written, noise: Noise) -> Tensor:
        """Return ``(R, G)`` answers; what follows an end is that end again."""
        settings = self.settings
        denoiser = Denoiser(
            self.denoiser,
            temperature=settings.temperature,
            banned=range(self.tokens, self.denoiser.vocab_size),
        )
        sampled = decode(
            denoiser,
            canvas.batch,
            schedule=self.schedule or cast("Schedule", LogLinear(eps=0.0)),
            noise=noise.child("answers"),
            steps=settings.steps,
            settings=DecodeConfig(
                steps=settings.steps,
                block=settings.block,
                temperature=settings.temperature,
                eos_ids=self.ends,
                # Processes that share weights must all ask for them equally often.
                stop=not _sharded(self.backbone),
            ),
        )
        answers = sampled.tokens.gather(1, canvas.places)
        there = _before_end(answers, self.ends)
        last = answers.gather(1, there.sum(1, keepdim=True) - 1)
        return torch.where(there, answers, last)

    def _scored(
        self, model: Backbone, rows: Written, counted: Tensor, noise: Noise, inner: int
    ) -> Tensor:
        """Return ``(R, G)`` log-probabilities with the holes of an inner step."""
        return log_probs(
            model,
            rows,
            counted,
            noise=noise.child("inner", inner),
            prompt_mask=self.settings.prompt_mask,
            coupled=self.settings.coupled,
            schedule=self.schedule,
        )

    def _all_scored(
        self, model: Backbone, rows: Written, counted: Tensor, noise: Noise
    ) -> Tensor:
        """Return ``(B, I, g, G)`` log-probabilities with the holes of each of them."""
        every = [
            _unflat(
                self._scored(model, rows, counted, noise, inner), self.settings.group
            )
            for inner in range(self.settings.inner_steps)
        ]
        return torch.stack(every, 1)


def _before_end(answers: Tensor, ends: Sequence[int]) -> Tensor:
    """Return bool, as `answers` ``(R, G)``: up to the first end, that one included."""
    ending = torch.isin(answers, torch.tensor(ends, device=answers.device))
    before: Tensor = (ending.long().cumsum(1) - ending.long()) == 0
    return before


def _unflat(values: Tensor, group: int) -> Tensor:
    """Return ``(B, g, G)`` from R rows, all first answers before all second ones."""
    return values.view(group, -1, values.shape[1]).transpose(0, 1)


def _flat(values: Tensor) -> Tensor:
    """Return ``(R, G)`` from ``(B, g, G)``; see `_unflat`."""
    return values.transpose(0, 1).reshape(-1, values.shape[2])


def _sharded(backbone: nn.Module) -> bool:
    """Return whether this process holds parts of the weights only."""
    return any(
        hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id")
        for parameter in backbone.parameters()
    )
