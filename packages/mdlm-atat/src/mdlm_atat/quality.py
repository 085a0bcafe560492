"""How good samples are, against what they cost.

A sampler that plans its order is a model of its own, which the bound on -log p says
nothing about. So its samples are looked at: how probable an n-gram model of the same
corpus finds them, how varied they are, and how well hidden tokens of held-out rows are
guessed. Low entropy with a low judge's NLL is no quality but repetition; the held-out
text itself is the measure of both. Letters: B rows, L length, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, DataSource, MaskingPolicy, Schedule
from mdlm_core.samplers.denoiser import Denoiser
from mdlm_core.tasks.held_out import held_out

from .commit import BY_NUMBER, Importance, Order, Score
from .frequency import one_epoch
from .judge import NGramJudge
from .measures import distinct, infilling_accuracy, unigram_entropy
from .sampler import uncertainty_guided

ORDERS: tuple[Order, ...] = (
    "random",
    "confident_first",
    "uncertain_first",
    "left_to_right",
    "importance",
)
HIDDEN = (0.15, 0.5)
"""Shares of the tokens that are hidden for infilling."""
LONGEST = 4
"""n of the longest n-grams whose variety is told."""
HELD_OUT = "held-out text"
"""What the first row of a table is about."""


def usable_orders(policy: object) -> tuple[Order, ...]:
    """Return the orders that a model with this masking policy can be sampled in."""
    tells = isinstance(policy, Importance) and getattr(policy, "weighs", True)
    return ORDERS if tells else tuple(name for name in ORDERS if name != "importance")


def quality_against_nfe(
    backbone: Backbone,
    source: DataSource,
    *,
    schedule: Schedule,
    policy: MaskingPolicy | None = None,
    measured: DataSource | None = None,
    orders: Sequence[Order] | None = None,
    steps: Sequence[int] = (8, 32, 128),
    entropy_bounds: Sequence[float] = (),
    num: int = 64,
    length: int | None = None,
    seed: int = 0,
    score: Score = "entropy",
    judge_tokens: int = 2_000_000,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Sample in every order at every number of steps, and say how good that is.

    All settings draw with the same numbers. Infilling takes the most probable tokens;
    samples are drawn from the model's laws as they are.

    Args:
        backbone: the model.
        source: its data; the judge learns from the training split.
        schedule: of training.
        policy: the masking policy, for the order ``importance``.
        measured: where the held-out rows come from; `source` if not given.
        orders: which; those of `usable_orders` if not given.
        steps: numbers of steps.
        entropy_bounds: in nats; for each order, in addition.
        num: samples, and rows of held-out text.
        length: of a sample; that of the data if not given.
        seed: decides every draw.
        score: what uncertain means.
        judge_tokens: training tokens that the judge counts, at most.
        batch_size: rows in one evaluation.

    Returns:
        Plain rows for JSON: ``order``, ``score``, ``steps`` or ``entropy_bound`` (the
        other one is None), ``nfe`` (evaluations of a sample, mean), ``judge_nats`` and
        ``judge_nats_se`` per token, ``unigram_entropy`` in nats, ``distinct`` with the
        shares for n = 1 to 4, and ``infilling``, the accuracy for each hidden share
        with its ``nfe``. The first row is `HELD_OUT`: the text itself, for comparison,
        without a cost.

    Raises:
        UsageError: if an order needs a policy that is not there, or a bound is not
            finite or negative.
        DataError: if a split has no rows.
    """
    for bound in entropy_bounds:
        if not 0 <= bound < math.inf:
            raise UsageError(f"the entropy bound {bound} is not 0 or more, and finite")
    orders = usable_orders(policy) if orders is None else orders
    length = source.length if length is None else length
    device = _device(backbone)
    clean = _held_out(measured or source, num).to(device)
    judge = _judge(source, judge_tokens)
    beyond = range(source.tokenizer.vocab_size, backbone.vocab_size)
    noise = Noise(seed).child("quality")
    blank = torch.full((num, length), backbone.mask_id, device=device)

    def denoiser(temperature: float) -> Denoiser:
        return Denoiser(
            backbone, temperature=temperature, banned=list(beyond), policy=policy
        )

    text = clean.tokens[:, : min(length, source.length)]
    table: list[dict[str, Any]] = [
        {"order": HELD_OUT, "score": None, "steps": None, "entropy_bound": None}
        | {"nfe": None}
        | _looks(text, judge)
        | {"infilling": None}
    ]
    settings = [(number, BY_NUMBER) for number in steps]
    settings += [(1, bound) for bound in entropy_bounds]
    for order in orders:
        for number, bound in settings:
            plan: dict[str, Any] = {
                "steps": number,
                "schedule": schedule,
                "order": order,
                "score": score,
                "entropy_bound": bound,
                "batch_size": batch_size,
            }
            drawn = uncertainty_guided(
                denoiser(1.0), Batch.of(blank), noise=noise.child("sample"), **plan
            )
            infilling = {}
            for share in HIDDEN:
                accuracy, nfe = infilling_accuracy(
                    denoiser(0.0), clean, share=share, noise=noise, **plan
                )
                infilling[str(share)] = {"accuracy": accuracy, "nfe": nfe}
            table.append(
                {
                    "order": order,
                    "score": score,
                    "steps": None if bound >= 0 else number,
                    "entropy_bound": bound if bound >= 0 else None,
                    "nfe": float(drawn.nfe.double().mean()),
                }
                | _looks(drawn.tokens, judge)
                | {"infilling": infilling}
            )
    return table


def _looks(tokens: Tensor, judge: NGramJudge) -> dict[str, Any]:
    """Return what is said about rows without asking the model."""
    nats = judge.nll(tokens.cpu().numpy()).mean(1)
    spread = float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else None
    longest = min(LONGEST, tokens.shape[1])
    return {
        "judge_nats": float(nats.mean()),
        "judge_nats_se": spread,
        "unigram_entropy": unigram_entropy(tokens),
        "distinct": [distinct(tokens, n) for n in range(1, longest + 1)],
    }


def _judge(source: DataSource, tokens: int) -> NGramJudge:
    """Return a judge that has read the training split, up to so many tokens."""
    rows, keep = [], []
    left = tokens
    for batch in one_epoch(source, tokens=tokens):
        rows.append(batch.tokens)
        keep.append(batch.free)
        left -= int(batch.free.sum())
        if left <= 0:
            break
    if not rows:
        raise DataError("the training split has no rows for the n-gram judge to read")
    return NGramJudge.train(
        torch.cat(rows).numpy(),
        vocab_size=source.tokenizer.vocab_size,
        mask_id=source.tokenizer.mask_id,
        keep=np.asarray(torch.cat(keep)),
    )


def _held_out(source: DataSource, num: int) -> Batch:
    """Return `num` rows of the held-out split, spread evenly; all if it has fewer."""
    found = next(held_out(source, num, at_once=num), None)
    if found is None:
        raise DataError("the validation split has no rows to compare samples with")
    return found


def _device(backbone: Backbone) -> torch.device:
    module = cast("nn.Module", backbone)
    return next(module.parameters()).device
