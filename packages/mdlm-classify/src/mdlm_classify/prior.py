"""How probable the classes are before a text is read.

Letters: N texts, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mdlm_core.errors import ConfigError

from .data.labels import listed, name_of, near

NAMES = ("empirical", "uniform")


class PriorError(ConfigError, ValueError):
    """A prior is no distribution over the classes."""


def class_prior(
    prior: str | Mapping[object, float],
    labels: Sequence[str],
    sizes: Tensor | None = None,
) -> Tensor:
    """Return the prior probabilities of the classes.

    Args:
        prior: "empirical" for the shares of the training texts, "uniform", or a weight
            for each label; weights need not sum to 1, and a class of weight 0 is never
            predicted. A label may be given as what its name is the text of, as 1
            for "1" and True for "true".
        labels: the names of the classes in order.
        sizes: ``(C,)`` training texts of each class, for "empirical".

    Returns:
        ``(C,)`` float64, summing to 1.

    Raises:
        PriorError: if the name or a label is unknown, a label is missing or there
            twice, or a weight is negative or no number, or all are 0.
    """
    if isinstance(prior, str):
        return _named(prior, labels, sizes)
    given: dict[str, float] = {}
    for key, value in prior.items():
        label = name_of(key)
        if label not in labels:
            raise PriorError(
                f"the prior has the label '{label}', which is none of the classes"
                f"{near(label, labels)}; they are {listed(labels)}"
            )
        if label in given:
            raise PriorError(f"the prior has the label '{label}' twice")
        given[label] = _weight(label, value)
    missing = [label for label in labels if label not in given]
    if missing:
        raise PriorError(
            f"the prior lacks {listed(missing)}; give every class a weight, 0 for one "
            f"that cannot be"
        )
    weights = [given[label] for label in labels]
    return _normalised(torch.tensor(weights, dtype=torch.float64))


def _named(prior: str, labels: Sequence[str], sizes: Tensor | None) -> Tensor:
    if prior == "uniform":
        return torch.full((len(labels),), 1 / len(labels), dtype=torch.float64)
    if prior != "empirical":
        raise PriorError(
            f"the prior is '{prior}'{near(prior, NAMES)}; it must be empirical, "
            f"uniform, or a weight for each class"
        )
    if sizes is None or len(sizes) != len(labels):
        raise PriorError(
            "an empirical prior needs the number of training texts of each class; "
            "give uniform, or a weight for each class"
        )
    return _normalised(sizes.double())


def _weight(label: str, value: object) -> float:
    try:
        weight = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        weight = math.nan
    if not math.isfinite(weight) or weight < 0:
        raise PriorError(
            f"the prior of '{label}' is {value!r}; it must be a number of 0 or more"
        )
    return weight


def _normalised(weights: Tensor) -> Tensor:
    weights = weights / weights.max().clamp_min(1e-300)  # a sum cannot overflow
    total = weights.sum()
    if not total > 0:
        raise PriorError("the prior is 0 for every class; one must be positive")
    return weights / total


def em_prior(
    log_likelihood: Tensor,
    prior: Tensor,
    *,
    smoothing: float | None = None,
    tolerance: float = 1e-9,
    steps: int = 10_000,
) -> Tensor:
    """Estimate the prior of unlabelled texts whose classes occur in other shares.

    Expectation maximisation (Saerens, Latinne and Decaestecker, 2002, eq. 9): with
    ``p(c | x) = softmax_c(l_c + log pi_c)``, the next pi is the mean of p(c | x) over
    the texts. It climbs to the pi under which the texts together are the most
    probable; that likelihood is concave in pi, so that there is no other summit. Where
    texts say little it is flat and its summit may be a corner, so that each step adds
    `smoothing` texts for every class, spread as `prior`: the step of EM to the pi of
    greatest density under a Dirichlet law (Dempster, Laird and Rubin, 1977), which has
    one summit too. The fewer texts settle, the more are added: a text that settles a
    share I of what is open about its class (`information`) counts as I texts.

    Args:
        log_likelihood: ``(N, C)`` log p(x | c) up to a constant for each text. Values
            that are too sure of themselves give a biased prior: use calibrated ones,
            ``log_posterior - log prior``.
        prior: ``(C,)`` where to start; a class of prior 0 stays there.
        smoothing: texts added for every class of prior above 0; 0 for plain EM. None
            adds one over the `information` of the posteriors under `prior`.
        tolerance: the greatest change of a class at which to stop.
        steps: passes, at most.

    Returns:
        ``(C,)`` float64, summing to 1; without a text, `prior`.

    Raises:
        PriorError: if a value is NaN, a text has no possible class, or `prior` is no
            distribution.
    """
    prior = prior.double()
    if not bool(prior.isfinite().all()) or bool((prior < 0).any()):
        raise PriorError(f"the prior is {prior.tolist()}; give numbers of 0 or more")
    prior = _normalised(prior)
    if bool(log_likelihood.isnan().any()):
        raise PriorError("a log-likelihood is NaN; the prior cannot be estimated")
    if not len(log_likelihood):
        return prior
    likelihood = log_likelihood.double().masked_fill(prior == 0, -torch.inf)
    best = likelihood.amax(1, keepdim=True)
    if not bool(best.isfinite().all()):
        row = int((~best.isfinite()).nonzero()[0, 0])
        raise PriorError(
            f"the log-likelihoods of text {row} are {log_likelihood[row].tolist()}; no "
            f"class with a prior above 0 has a finite one"
        )
    likelihood = (likelihood - best).exp()
    if smoothing is None:
        known = information((likelihood * prior).log().log_softmax(1))
        smoothing = 1 / max(known, 1e-6)
    added = smoothing * int((prior > 0).sum())
    start, whole = prior, len(likelihood) + added
    for _ in range(steps):
        joint = likelihood * prior
        posterior = joint / joint.sum(1, keepdim=True)
        new = (posterior.sum(0) + added * start) / whole
        change = float((new - prior).abs().max())
        prior = new
        if change < tolerance:
            break
    return prior / prior.sum()


def information(log_posterior: Tensor) -> float:
    """Return how much of the doubt about the class is gone once a text is read.

    The mutual information of text and class under the model, over the entropy of the
    classes: 0 if the posterior is the same for every text, 1 if it is always sure.

    Args:
        log_posterior: ``(N, C)``.
    """
    share = log_posterior.double().exp()
    before = float(torch.special.entr(share.mean(0)).sum())
    after = float(torch.special.entr(share).sum(1).mean())
    return 1 - after / before if before > 0 else 0.0


UNINFORMED = 0.05
"""Below this `information` the posteriors barely depend on the text."""


def correction_note(log_posterior: Tensor) -> str:
    """Return a warning if a prior cannot be estimated from posteriors; else "".

    Args:
        log_posterior: ``(N, C)`` before the correction.
    """
    known = information(log_posterior) if len(log_posterior) else 0.0
    if known >= UNINFORMED:
        return ""
    return (
        f"the posteriors barely depend on the text (it settles {known:.1%} of what is "
        f"open about the class), so that these texts say little about the prior"
    )
