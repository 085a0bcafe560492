"""A causal language model of transformers, read from left to right.

    log p(x) = sum over i of log p(x_i | start, x_1, ..., x_(i-1)),

so that the first token is scored as well, and the probabilities of all texts of one
length sum to one. Letters: B batch, L length, D width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from mdlm_classify.config import ClassHuggingFaceConfig
from mdlm_classify.nn.hugging_face import sizes_of
from mdlm_classify.nn.per_class import PerClass
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.interop.hugging_face import HuggingFaceBackbone
from mdlm_core.interop.hugging_face_weights import load
from mdlm_core.protocols import Tokenizer


class CausalLM(HuggingFaceBackbone):
    """A language model that sees what is to the left alone, with a start before it.

    It is behind the face of a backbone, but no denoiser: a canvas with a mask in it is
    refused.
    """

    def __init__(self, model: nn.Module, *, mask_id: int, start_id: int) -> None:
        """Wrap a model.

        Args:
            model: a `PreTrainedModel` with a head over the vocabulary.
            mask_id: the tokenizer's mask; it has probability zero.
            start_id: the token that stands before each row.
        """
        super().__init__(model, mask_id=mask_id, causal=True, shift=False)
        self.start_id = start_id

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return states ``(B, L, D)``; that at i has read the start and i tokens.

        Args:
            batch: read are `tokens` and `pad`, which must be at the end of a row.
            t: not read.

        Raises:
            UsageError: if a token is missing, or a row is longer than the positions
                that the model has learned.
        """
        self._check(batch)
        tokens = batch.tokens.masked_fill(batch.pad, self.start_id)
        start = torch.full_like(tokens[:, :1], self.start_id)
        states: Tensor = self.trunk(
            input_ids=torch.cat([start, tokens[:, :-1]], 1),
            use_cache=False,
            return_dict=True,
        )[0]
        return states

    def _check(self, batch: Batch) -> None:
        if bool((batch.tokens.eq(self.mask_id) & ~batch.pad).any()):
            raise UsageError(
                "a causal model reads from left to right, so that it cannot fill in or "
                "leave out a token; for texts with gaps use a masked diffusion model"
            )
        if bool((batch.pad[:, :-1] & ~batch.pad[:, 1:]).any()):
            raise UsageError("a causal model takes rows that are padded at their end")
        if self.longest is not None and batch.length > self.longest:
            raise UsageError(
                f"the row has {batch.length} tokens and the model has learned "
                f"{self.longest} positions; use a shorter one"
            )


def build(
    config: ClassHuggingFaceConfig, *, tokenizer: Tokenizer, length: int
) -> PerClass:
    """Return the models, without classes yet: each new class loads its own.

    Args:
        config: where they begin: at `path`, or new ones of the given sizes.
        tokenizer: gives the ids; a model without a start of its own starts with the
            end of a document.
        length: L, which learned positions must suffice for.

    Raises:
        ConfigError: if settings and model do not go together.
        CheckpointError: if the model cannot be loaded, or is no causal one.
        MissingExtraError: if transformers is missing.
    """
    if config.kind == "masked":
        raise ConfigError(
            "model.kind is masked, and a causal model is needed; set it to causal, or "
            "set task.name=classify for a masked one"
        )
    config = replace(config, kind="causal")
    start = tokenizer.eod_id
    ids = {"vocab_size": tokenizer.vocab_size, "mask_id": tokenizer.mask_id}
    return PerClass(partial(_new, config, length=length, start_id=start, **ids), **ids)


def _new(
    config: ClassHuggingFaceConfig,
    *,
    vocab_size: int,
    mask_id: int,
    start_id: int,
    length: int,
) -> CausalLM:
    """Return the model of one class."""
    model, _ = load(
        config, vocab_size=vocab_size, length=length, sizes=sizes_of(config)
    )
    own = getattr(model.config, "bos_token_id", None)
    start_id = start_id if own is None else int(own)
    backbone = CausalLM(model, mask_id=mask_id, start_id=start_id)
    check(backbone, config.path, length)
    return backbone


def check(backbone: CausalLM, path: str, length: int) -> None:
    """Find out how the head is made; refuse a model that sees what follows.

    Raises:
        ConfigError: if it has fewer positions than `length`.
        CheckpointError: if a token sees what follows it.
    """
    name = path or type(backbone.model).__name__
    if backbone.longest is not None and length > backbone.longest:
        raise ConfigError(
            f"'{name}' has learned {backbone.longest} positions, fewer than the "
            f"{length} of a row; set data.length to at most {backbone.longest}"
        )
    mode = backbone.training
    backbone.eval()
    ids = [i for i in range(min(8, backbone.vocab_size)) if i != backbone.mask_id]
    tokens = torch.tensor([ids[: min(5, length)]])
    other = tokens.clone()
    other[0, -2:] = tokens[0, :1]
    try:
        with torch.no_grad():
            states = backbone.hidden(Batch.of(tokens))[0]
            changed = backbone.hidden(Batch.of(other))[0]
            backbone.find_head(states)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"'{name}' cannot be read from left to right: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    finally:
        backbone.train(mode)
    if not torch.allclose(states[:-1], changed[:-1], atol=1e-5):
        raise CheckpointError(
            f"'{name}': a token of {type(backbone.model).__name__} sees those that "
            f"follow it, so that it is no causal language model"
        )
