"""Trained causal models that score texts."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch

from mdlm_classify.data.document import Document, encode
from mdlm_classify.nn.per_class import PerClass
from mdlm_classify.predictor import LikelihoodModel, Progress
from mdlm_classify.scoring.scores import Scores
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Tokenizer

from .score import score


@dataclass(kw_only=True)
class CausalPredictor(LikelihoodModel):
    """A causal model for each class; its log-likelihoods are exact."""

    models: PerClass
    tokenizer: Tokenizer
    length: int
    """Tokens in a window, L."""
    tokens_at_once: int = 16_384

    def documents(self, texts: Sequence[str], *, gaps: bool = False) -> list[Document]:
        """Return the texts as token ids.

        Raises:
            UsageError: if they shall have gaps.
        """
        if gaps:
            raise UsageError(
                "a causal model reads from left to right, so that it cannot leave out "
                "a missing token; for texts with gaps use a masked diffusion model"
            )
        return [encode(self.tokenizer, text, length=self.length) for text in texts]

    def score_documents(
        self,
        documents: Sequence[Document],
        *,
        null: bool = False,
        progress: Progress | None = None,
    ) -> Scores:
        """Return log p(text | class) for what `documents` returned.

        Raises:
            UsageError: if the null class is asked for.
        """
        if null:
            raise UsageError(
                "there is a causal model for each class, and none for text of no "
                "class; use a masked diffusion model for that"
            )
        return score(
            self.models,
            documents,
            tokens_at_once=self.tokens_at_once,
            progress=progress,
        )

    def to(self, device: str | torch.device) -> CausalPredictor:
        """Return the predictor with a copy of the models on another device."""
        return replace(self, models=deepcopy(self.models).to(device))
