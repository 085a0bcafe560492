"""A trained model that scores texts: log p(text | class), and the posterior of it.

Letters: N texts, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from mdlm_core.protocols import Schedule, Tokenizer
from mdlm_core.samplers.text import device_of

from .calibration import LengthTemperature
from .config import ScoringConfig
from .data.document import Document, encode
from .nn.condition import Conditional
from .posterior import log_posterior, with_prior
from .scoring.scorer import score
from .scoring.scores import Scores

Progress = Callable[[int, int], None]
"""Called with how much of the scoring is done, and of how much."""


@dataclass(kw_only=True)
class LikelihoodModel(ABC):
    """What is needed to classify by likelihood, whatever the model is."""

    labels: tuple[str, ...]
    """The names of the C classes, in the order of the model."""
    log_prior: Tensor
    """``(C,)`` float64 log p(class), under which the temperature was fitted."""
    temperature: LengthTemperature = field(default_factory=LengthTemperature)
    """What log p(text, class) is divided by."""
    log_new_prior: Tensor | None = None
    """``(C,)`` float64: another prior since then, which no temperature divides."""

    @property
    def log_prior_now(self) -> Tensor:
        """``(C,)`` float64: the prior in force."""
        return self.log_prior if self.log_new_prior is None else self.log_new_prior

    def race_prior(self, tokens: Tensor) -> Tensor:
        """Return what is added to log-likelihoods to rank classes, ``(N, C)`` float64.

        The posterior is the softmax of ``(l + log pi) / tau + log pi' - log pi`` with
        pi' a prior since calibration, so that ``l`` is compared, in nats, on
        ``l + log pi + tau(L) (log pi' - log pi)``.

        Args:
            tokens: ``(N,)`` scored tokens L of each text.
        """
        old, new = self.log_prior, self.log_new_prior
        if new is None:
            return old.expand(len(tokens), -1)
        tau = self.temperature.of(tokens)[:, None]
        ruled_out = (old == -torch.inf) | (new == -torch.inf)
        moved = old + tau * (new - old).masked_fill(ruled_out, 0.0)
        return moved.masked_fill(ruled_out, -torch.inf)

    @abstractmethod
    def documents(self, texts: Sequence[str], *, gaps: bool = False) -> list[Document]:
        """Return texts as the model reads them; see `scores` for `gaps`."""

    @abstractmethod
    def score_documents(
        self,
        documents: Sequence[Document],
        *,
        null: bool = False,
        progress: Progress | None = None,
    ) -> Scores:
        """Return log p(text | class) for what `documents` returned; see `scores`."""

    def scores(
        self,
        texts: Sequence[str],
        *,
        gaps: bool = False,
        null: bool = False,
        progress: Progress | None = None,
    ) -> Scores:
        """Return log p(text | class) for N texts under C classes.

        Args:
            texts: the texts; one without a token has likelihood 1 under each class.
            gaps: whether underscores in a text stand for missing tokens.
            null: whether to score the null class too.
            progress: told how far scoring is.

        Raises:
            UsageError: if the model has no null class, or cannot leave gaps.
        """
        found = self.documents(texts, gaps=gaps)
        return self.score_documents(found, null=null, progress=progress)

    @abstractmethod
    def to(self, device: str | torch.device) -> LikelihoodModel:
        """Return the same model on another device."""

    def log_posterior(self, scores: Scores) -> Tensor:
        """Return log p(class | text) ``(N, C)`` float64.

        With L the tokens of a text, ``p(c | x) = softmax((l_c + log pi_c) / tau(L))``;
        a prior since then multiplies it by the ratio of the priors.
        """
        tau = self.temperature.of(scores.tokens)
        found = log_posterior(scores.log_likelihood, self.log_prior, tau)
        if self.log_new_prior is None:
            return found
        return with_prior(found, self.log_prior, self.log_new_prior)


@dataclass(kw_only=True)
class Predictor(LikelihoodModel):
    """A masked diffusion model that is told the class; see `scoring.scorer.score`."""

    backbone: Conditional
    tokenizer: Tokenizer
    schedule: Schedule
    length: int
    """Tokens in a window, L."""
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    @property
    def device(self) -> str:
        """Where the model is."""
        return device_of(self.backbone)

    def documents(self, texts: Sequence[str], *, gaps: bool = False) -> list[Document]:
        """Return the texts as token ids."""
        return [
            encode(self.tokenizer, text, length=self.length, gaps=gaps)
            for text in texts
        ]

    def score_documents(
        self,
        documents: Sequence[Document],
        *,
        null: bool = False,
        progress: Progress | None = None,
        scoring: ScoringConfig | None = None,
    ) -> Scores:
        """Return estimates of log p(text | class); see `LikelihoodModel.scores`.

        Args:
            documents: the texts as ids.
            null: whether to score the null class too.
            progress: told how far scoring is.
            scoring: the estimator, instead of the predictor's own.
        """
        tokens = torch.tensor([document.tokens for document in documents])
        return score(
            self.backbone,
            documents,
            classes=len(self.labels),
            settings=scoring or self.scoring,
            schedule=self.schedule,
            log_prior=self.race_prior(tokens),
            null=null,
            progress=progress,
        )

    def to(self, device: str | torch.device) -> Predictor:
        """Return the predictor with a copy of the model on another device."""
        copy = deepcopy(cast("nn.Module", self.backbone)).to(device)
        return replace(self, backbone=cast("Conditional", copy))
