"""Bayes' rule: from log p(text | class) to log p(class | text).

Letters: N texts, C classes. All in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdlm_core.errors import DataError


def log_joint(log_likelihood: Tensor, log_prior: Tensor) -> Tensor:
    """Return ``l_c + log pi_c``, ``(N, C)`` float64.

    Args:
        log_likelihood: ``(N, C)`` nats.
        log_prior: ``(C,)``; -inf for a class that cannot be.

    Raises:
        DataError: if a value is NaN or no class is possible for a text.
    """
    joint = log_likelihood.double() + log_prior.double()
    bad = joint.isnan().any(1) | (joint.amax(1) == -torch.inf)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise DataError(
            f"the log-likelihoods of text {row} are {log_likelihood[row].tolist()}; "
            f"one class at least needs a finite one, and none may be NaN"
        )
    return joint


def log_posterior(
    log_likelihood: Tensor, log_prior: Tensor, tau: Tensor | float = 1.0
) -> Tensor:
    """Return log p(c | x) = log softmax_c((l_c + log pi_c) / tau).

    Args:
        log_likelihood: ``(N, C)`` nats.
        log_prior: ``(C,)``; -inf for a class that cannot be.
        tau: ``(N,)`` or a number, positive: see `calibration.LengthTemperature`.

    Returns:
        ``(N, C)`` float64.

    Raises:
        DataError: if a value is NaN, no class is possible for a text, or `tau` is
            not positive.
    """
    temperature = torch.as_tensor(
        tau, dtype=torch.float64, device=log_likelihood.device
    )
    if not bool((temperature > 0).all()) or not bool(temperature.isfinite().all()):
        raise DataError(f"the temperature is {tau}; it must be a positive number")
    if temperature.dim():
        temperature = temperature[:, None]
    return (log_joint(log_likelihood, log_prior) / temperature).log_softmax(1)


def log_evidence(log_likelihood: Tensor, log_prior: Tensor) -> Tensor:
    """Return log p(x) = logsumexp_c(l_c + log pi_c), ``(N,)`` float64 in nats.

    Raises:
        DataError: as `log_posterior`.
    """
    return log_joint(log_likelihood, log_prior).logsumexp(1)


def with_prior(log_posterior: Tensor, log_prior: Tensor, log_new: Tensor) -> Tensor:
    """Return the posterior under another prior.

    ``p'(c | x)`` is proportional to ``p(c | x) pi'_c / pi_c`` (Saerens, Latinne and
    Decaestecker, 2002, eq. 4). A calibrated posterior stays calibrated so, which it
    would not if the new prior went under the temperature.

    Args:
        log_posterior: ``(N, C)`` under the old prior.
        log_prior: ``(C,)`` the old prior; finite wherever the new one is.
        log_new: ``(C,)`` the new prior.

    Raises:
        DataError: if a class that was impossible becomes possible, or no class is
            possible for a text.
    """
    impossible = (log_prior == -torch.inf) & (log_new > -torch.inf)
    if bool(impossible.any()):
        raise DataError(
            f"class {int(impossible.nonzero()[0])} had prior 0; a posterior of 0 "
            f"cannot be raised: score the texts again under the new prior"
        )
    shift = torch.where(log_new == -torch.inf, log_new, log_new - log_prior)
    return log_joint(log_posterior, shift).log_softmax(1)
