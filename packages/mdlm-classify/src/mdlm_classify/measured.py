"""How well held-out texts are classified while a model trains.

Letters: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mdlm_core.protocols import DataSource, Schedule
from mdlm_core.samplers.text import device_of

from . import calibration
from .config import ScoringConfig
from .held_out import chosen, everyones, log_loss, mine
from .nn.condition import Conditional
from .posterior import log_joint, log_posterior
from .scoring.scorer import score


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers of held-out texts."""

    accuracy: float
    log_loss: float
    """After the temperature is fitted to the same texts; nan without a label."""
    nats_per_token: float
    """Of the bound on -log p(text | its class)."""


def measure(
    backbone: Conditional,
    source: DataSource,
    *,
    log_prior: Tensor,
    schedule: Schedule,
    draws: int,
    rows: int,
    seed: int,
) -> Measured:
    """Score held-out texts under all classes, with a fixed number of draws.

    The masks are the same at every call. Every process scores its own texts, and all
    get the same numbers.

    Args:
        backbone: the denoiser.
        source: a `LabelledSource`.
        log_prior: ``(C,)``.
        schedule: the one of training.
        draws: draws of each text under each class.
        rows: how many texts; 0 means all.
        seed: decides the masks.
    """
    documents, labels = chosen(source, rows)
    own = mine(documents)
    prior = log_prior.double().cpu()
    with torch.autocast(torch.device(device_of(backbone)).type, enabled=False):
        scores = score(
            backbone,
            [documents[i] for i in own.tolist()],
            classes=backbone.classes,
            settings=ScoringConfig(
                rule="fixed", start_draws=draws, max_draws=draws, seed=seed
            ),
            schedule=schedule,
            log_prior=prior,
        )
    found, tokens = everyones(own, scores.log_likelihood, scores.tokens)
    labels = labels.cpu()
    joint = log_joint(found, prior)
    tau = calibration.fit(joint, labels, tokens).of(tokens)
    posterior = log_posterior(found, prior, tau)
    total = found.gather(1, labels[:, None]).sum()
    return Measured(
        accuracy=float((posterior.argmax(1) == labels).double().mean()),
        log_loss=log_loss(posterior, labels),
        nats_per_token=-float(total) / max(int(tokens.sum()), 1),
    )
