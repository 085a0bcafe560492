"""Three numbers that are all called perplexity, under three names.

`ordered_ppl` and the bound of core's evaluation (elbo_ppl) say how surprising held-out
text is to the model. `gen_ppl` says how surprising the model's texts are to another
model, read from left to right; dull texts please it most, so that it never comes
without the entropy of the texts.

Letters: B rows, L length, N texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import likelihood
from mdlm_core.errors import DataError, MissingExtraError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Backbone, Schedule


@dataclass(frozen=True, slots=True)
class Ordered:
    """Held-out text restored token by token in random orders."""

    perplexity: float
    """exp of the mean -log p per token of single orders: a bound, as elbo_ppl is."""
    mixed: float
    """exp of -log of the mean of p over the orders of a row, per token: tighter."""
    rows: int
    tokens: int
    orders: int


@dataclass(frozen=True, slots=True)
class Generative:
    """Texts as a fixed autoregressive model reads them."""

    perplexity: float
    """exp of the nats per token after the first, over all texts together."""
    entropy: float
    """The mean over texts of the entropy of their tokens, in nats."""
    texts: int
    """Texts with at least two tokens."""
    tokens: int
    model: str


def ordered_ppl(
    backbone: Backbone,
    batch: Batch,
    *,
    orders: int,
    noise: Noise,
    schedule: Schedule | None = None,
) -> Ordered:
    """Return the perplexity of rows by chains over whole orders.

    Each order is an exactly normalised law of a row, and so is their mixture; a row
    costs one evaluation for each of its tokens and orders.

    Args:
        backbone: the denoiser.
        batch: clean rows with at least one free token.
        orders: how many for each row.
        noise: decides them.
        schedule: for a backbone that sees the time.

    Raises:
        DataError: if no token is free.
    """
    found = likelihood.any_order_chain(
        backbone, batch, draws=orders, noise=noise, schedule=schedule
    )
    tokens = int(found.tokens.sum())
    if not tokens:
        raise DataError("no token is free; there is nothing to score")
    mixed = math.log(orders) - torch.logsumexp(-found.values, dim=1)
    return Ordered(
        perplexity=math.exp(float(found.nats.sum()) / tokens),
        mixed=math.exp(float(mixed.sum()) / tokens),
        rows=len(batch),
        tokens=tokens,
        orders=orders,
    )


def gen_ppl(
    texts: Sequence[str], model: Path | str, *, device: str = "cpu", length: int = 1024
) -> Generative:
    """Return the perplexity of texts under a causal language model, with entropy.

    The first token of a text is not scored, as the model has no law for it; the mean
    is over tokens, not over texts.

    Args:
        texts: N texts.
        model: the folder or the name of a transformers model and its tokenizer.
        device: where it runs.
        length: tokens of a text at most.

    Raises:
        MissingExtraError: if transformers is not installed.
        UsageError: if there is no such model.
        DataError: if no text has two tokens.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(
            "generative perplexity needs transformers; install it with "
            "pip install 'mdlm-core[hf]'"
        ) from error
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(model))
        judge: Any = AutoModelForCausalLM.from_pretrained(str(model))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"'{model}' is no causal language model that can be loaded: "
            f"{str(error).splitlines()[0]}"
        ) from error
    judge = judge.to(device).eval()
    nats, scored, entropies = 0.0, 0, []
    for text in texts:
        ids = tokenizer(text)["input_ids"][:length]
        if len(ids) < 2:
            continue
        row = torch.tensor([ids], device=device)
        with torch.no_grad():
            logits = judge(row).logits[0, :-1]
        law = logits.float().log_softmax(-1)
        nats -= float(law.gather(1, row[0, 1:, None]).double().sum())
        scored += len(ids) - 1
        entropies.append(token_entropy(ids))
    if not scored:
        raise DataError(f"none of {len(texts)} texts has two tokens")
    return Generative(
        perplexity=math.exp(min(nats / scored, 700.0)),
        entropy=sum(entropies) / len(entropies),
        texts=len(entropies),
        tokens=scored,
        model=str(model),
    )


def token_entropy(ids: Sequence[int]) -> float:
    """Return the entropy of the tokens of a text by their counts, in nats."""
    return -sum(
        count / len(ids) * math.log(count / len(ids)) for count in Counter(ids).values()
    )


def mauve(
    texts: Sequence[str], human: Sequence[str], *, model: str, seed: int = 0
) -> float:
    """Return MAUVE (Pillutla et al., 2021, arXiv 2102.01454), by mauve-text.

    It is under the GPL, and is imported here and nowhere else.

    Args:
        texts: generated ones.
        human: as many by people.
        model: the transformers model whose states are compared.
        seed: of its clustering.

    Raises:
        MissingExtraError: if mauve-text is not installed.
    """
    try:
        from mauve import compute_mauve
    except ImportError as error:
        raise MissingExtraError(
            "MAUVE needs mauve-text (GPL); install it with "
            "pip install 'mdlm-personality[mauve]'"
        ) from error
    found = compute_mauve(
        p_text=list(human),
        q_text=list(texts),
        featurize_model_name=model,
        seed=seed,
        verbose=False,
    )
    return float(found.mauve)
