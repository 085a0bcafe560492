"""What scoring returns: log p(text | class), its error, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Estimates of log p(text | class) for N texts under C classes, in nats.

    Estimates are lower bounds unless `exact`. Classes are compared on common draws:
    with d the draws that a class c had, and "best" the class that leads,
    ``l_c = l_best (all its draws) - mean over c's draws of (l_best - l_c)``.
    """

    log_likelihood: Tensor
    """``(N, C)`` float64."""
    se: Tensor
    """``(N, C)`` float64: the standard error of l_best - l_c from the draws alone; 0
    for the best class, where it is exact, and for a text without a token."""
    draws: Tensor
    """``(N, C)`` int64: draws of each text under each class."""
    tokens: Tensor
    """``(N,)`` int64: the tokens that are scored."""
    evaluations: Tensor
    """``(N,)`` int64: rows that went through the model, those of the null class too."""
    kept: Tensor
    """``(N, C)`` bool: the classes that were still in the race at the end."""
    null: Tensor | None = None
    """``(N,)`` float64: log p(text | no class) under the same masks, if asked for."""
    exact: bool = False
    """Whether these are log-likelihoods themselves, without a bound or an error."""

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, rows: Tensor) -> Scores:
        """Return the scores of some texts, by index or mask."""
        return Scores(
            log_likelihood=self.log_likelihood[rows],
            se=self.se[rows],
            draws=self.draws[rows],
            tokens=self.tokens[rows],
            evaluations=self.evaluations[rows],
            kept=self.kept[rows],
            null=None if self.null is None else self.null[rows],
            exact=self.exact,
        )

    @classmethod
    def join(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of several groups of texts as one, in order.

        Raises:
            DataError: if there is no part, or some parts are exact or have the null
                class and others do not.
        """
        if not parts:
            raise DataError("there are no scores to join")
        if len({(part.exact, part.null is None) for part in parts}) > 1:
            raise DataError(
                "scores that were made in different ways cannot be joined: either all "
                "are exact or none, and all have the null class or none"
            )
        null = [part.null for part in parts if part.null is not None]
        return cls(
            log_likelihood=torch.cat([part.log_likelihood for part in parts]),
            se=torch.cat([part.se for part in parts]),
            draws=torch.cat([part.draws for part in parts]),
            tokens=torch.cat([part.tokens for part in parts]),
            evaluations=torch.cat([part.evaluations for part in parts]),
            kept=torch.cat([part.kept for part in parts]),
            null=torch.cat(null) if null else None,
            exact=parts[0].exact,
        )
