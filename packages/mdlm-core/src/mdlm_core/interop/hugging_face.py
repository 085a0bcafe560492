"""Any masked or causal language model of transformers as a backbone.

A causal model is asked with a mask that lets every token see every other one, which is
how such models are turned into denoisers (Gong et al., 2024, arXiv 2410.17891). That
the answer does see both ways, and no padding, is checked once when a model is built.

Letters: B batch, L length, N selected positions, V vocabulary, D width.
"""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from mdlm_core.config.components import HuggingFaceModelConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError

from .hugging_face_weights import load

_KINDS_OF_LAYERS = {"full_attention", "sliding_attention"}


def build(
    config: HuggingFaceModelConfig, *, vocab_size: int, mask_id: int, length: int
) -> HuggingFaceBackbone:
    """Return the model at ``config.path`` as a backbone.

    If the tokenizer has more ids than the model, such as a mask of its own, the
    embedding grows; a new row is the mean of the others.

    Args:
        config: the settings.
        vocab_size: ids of the tokenizer.
        mask_id: its mask.
        length: L, which learned positions must suffice for.

    Raises:
        ConfigError: if settings and model do not go together.
        CheckpointError: if the model cannot be loaded, or cannot be a backbone.
        MissingExtraError: if transformers is missing.
    """
    check_mask(config, mask_id)
    model, causal = load(config, vocab_size=vocab_size, length=length)
    backbone = HuggingFaceBackbone(
        model, mask_id=mask_id, causal=causal, shift=shifts(config, model, causal)
    )
    check(backbone, config.path, length)
    return backbone


def check_mask(config: HuggingFaceModelConfig, mask_id: int) -> None:
    """Refuse a mask in the settings that is not the tokenizer's."""
    if config.mask_token_id not in (None, mask_id):
        raise ConfigError(
            f"model.mask_token_id is {config.mask_token_id}, but the mask of the "
            f"tokenizer is {mask_id}; set data.mask_token_id to the same, where the "
            f"data have that setting, or leave model.mask_token_id out"
        )


def shifts(config: HuggingFaceModelConfig, model: Any, causal: bool) -> bool:
    """Return whether the state at i is about token i + 1."""
    if config.shift is not None:
        return config.shift
    # A denoiser that was converted to the format of a causal model says so itself.
    return bool(getattr(model.config, "mdlm_shift", causal))


class HuggingFaceBackbone(nn.Module):
    """A language model of transformers, its trunk and its head apart."""

    def __init__(
        self, model: nn.Module, *, mask_id: int, causal: bool, shift: bool
    ) -> None:
        """Wrap a model.

        Args:
            model: a `PreTrainedModel` with a head over the vocabulary.
            mask_id: the mask.
            causal: whether it was trained to see what is to the left alone.
            shift: whether its state at i is about token i + 1.

        Raises:
            CheckpointError: if it has layers that are no attention.
        """
        super().__init__()
        self.model: Any
        self.model = model
        self.mask_id = mask_id
        self.vocab_size = int(self.model.get_input_embeddings().num_embeddings)
        self.time_conditioned = False
        self.causal = causal
        self.shift = shift
        self._first, self.longest = _positions(self.trunk)
        """The first position, and how many there are; None if they are not learned."""
        self._takes = set(inspect.signature(self.trunk.forward).parameters)
        self._kinds = set(getattr(self.model.config, "layer_types", None) or ())
        if strange := sorted(self._kinds - _KINDS_OF_LAYERS):
            raise CheckpointError(
                f"{type(model).__name__} has layers of the kind '{strange[0]}', which "
                f"cannot see both ways; models of attention alone can be backbones"
            )
        self._head_is_linear = self._checkpointing = False

    @property
    def trunk(self) -> nn.Module:
        """The model without its head."""
        return cast("nn.Module", getattr(self.model, self.model.base_model_prefix))

    @property
    def head(self) -> nn.Module | None:
        """The head if it is one linear layer, as `Backbone.logits` says."""
        if not self._head_is_linear:
            return None
        return cast("nn.Module", self.model.get_output_embeddings())

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return self._checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        name = f"activation_checkpointing_{'enable' if value else 'disable'}"
        if not hasattr(self.model, name):  # what it is called in older transformers
            name = name.replace("activation", "gradient")
        try:
            getattr(self.model, name)(*([{"use_reentrant": False}] if value else []))
        except ValueError as error:
            raise ConfigError(
                f"train.checkpoint_activations is true, but {error}"
            ) from error
        self._checkpointing = value

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas.

        With `shift`, the state at i is the model's at i - 1, and that of the first
        token of a row or a document its own, so that logits are about the token that
        they stand at.

        Args:
            batch: read are `tokens`, `pad`, `positions` and `documents`. Tokens at
                padded positions are not.
            t: not read.

        Raises:
            UsageError: if the canvas is longer than the model's positions, or it has
                positions that the model does not take.
        """
        if self.longest is not None and batch.length > self.longest:
            raise UsageError(
                f"the canvas has {batch.length} positions and the model has learned "
                f"{self.longest}; use a shorter one"
            )
        given: dict[str, Any] = {
            **self.inputs(batch),
            "attention_mask": self._attention_mask(batch),
            "position_ids": self._position_ids(batch),
            "use_cache": False,
            "return_dict": True,
        }
        states: Tensor = self.trunk(
            **{name: value for name, value in given.items() if name in self._takes}
        )[0]
        return _shifted(states, batch.documents) if self.shift else states

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the trunk reads of the tokens, by the names of its arguments.

        A subclass that tells the model more gives ``inputs_embeds`` instead.
        """
        return {"input_ids": batch.tokens.masked_fill(batch.pad, self.mask_id)}

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D)``."""
        head = self.head
        logits: Tensor = self._own_logits(hidden) if head is None else head(hidden)
        return logits

    def find_head(self, states: Tensor) -> None:
        """Find out from a few states ``(N, D)`` whether the head is one layer."""
        own = self._own_logits(states)
        head = self.model.get_output_embeddings()
        if type(head) is nn.Linear and head.in_features == states.shape[-1]:
            self._head_is_linear = torch.allclose(own, head(states))

    def _own_logits(self, hidden: Tensor) -> Tensor:
        """Return what the model's own code makes of given states.

        A copy that shares all parts but the trunk is called, whose trunk returns them.
        """
        head = copy(self.model)
        head._modules = {
            **self.model._modules,
            self.model.base_model_prefix: _Given(hidden[None]),
        }
        logits: Tensor = head(inputs_embeds=hidden[None]).logits[0]
        return logits

    def _position_ids(self, batch: Batch) -> Tensor | None:
        if batch.positions is None:
            places = torch.arange(batch.length, device=batch.tokens.device)[None]
        elif batch.positions.shape[-1] == 1:
            places = batch.positions[..., 0]
        else:
            raise UsageError(
                f"a model of transformers has one position axis, not "
                f"{batch.positions.shape[-1]}: use another backbone for these data"
            )
        if "position_ids" not in self._takes and batch.positions is not None:
            raise UsageError(
                f"{type(self.model).__name__} takes no positions, but the rows have "
                f"some; use data without"
            )
        return places + self._first

    def _attention_mask(self, batch: Batch) -> Any:
        """Return who sees whom, as the trunk takes it; None if all see all."""
        see = _see(batch)
        config = self.model.config
        window = getattr(config, "sliding_window", None)
        if see is None and not self.causal:
            return None
        if see is None:
            length = batch.length
            see = batch.pad.new_ones(1, 1, length, length)
        near = see
        if window is not None:
            place = torch.arange(batch.length, device=see.device)
            distance = (place[:, None] - place).abs()
            reach = distance < window if self.causal else distance <= window
            near = see & reach
        if self._kinds and "sliding_attention" in self._kinds:
            masks = {"full_attention": see, "sliding_attention": near}
            return {kind: self._in_form(mask) for kind, mask in masks.items()}
        return self._in_form(see if self._kinds else near)

    def _in_form(self, see: Tensor) -> Tensor:
        """Return a mask as the model's attention takes it."""
        if self.model.config._attn_implementation == "sdpa":
            return see
        dtype = self.model.dtype
        lowest = torch.finfo(dtype).min
        return torch.zeros_like(see, dtype=dtype).masked_fill(~see, lowest)


class _Given(nn.Module):
    """A trunk that returns given states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, *_: object, **__: object) -> _States:
        return _States(self._states)


class _States:
    """What a trunk returns, with states alone: everything else is None."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def check(backbone: HuggingFaceBackbone, path: str, length: int) -> None:
    """Find out how the head is made; refuse a model that cannot be a backbone.

    Args:
        backbone: the model, wrapped.
        path: where it comes from.
        length: L, which learned positions must suffice for.

    Raises:
        ConfigError: if it has fewer positions.
        CheckpointError: if the model does not take the masks, a token does not see
            what follows it, or it sees padding.
    """
    name = path or type(backbone.model).__name__
    mode = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            sees, ignores = _try(backbone)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"'{name}' cannot be a backbone: {type(backbone.model).__name__} does not "
            f"take a mask of who sees whom ({str(error).splitlines()[0]})"
        ) from error
    finally:
        backbone.train(mode)
    if not sees:
        raise CheckpointError(
            f"'{name}': a token of {type(backbone.model).__name__} does not see those "
            f"that follow it, so that it cannot fill in a text"
        )
    if not ignores:
        raise CheckpointError(
            f"'{name}': a token of {type(backbone.model).__name__} sees padding, "
            f"although it is told not to; rows of different lengths would be wrong"
        )
    if backbone.longest is not None and length > backbone.longest:
        raise ConfigError(
            f"'{name}' has learned {backbone.longest} positions, fewer than the "
            f"{length} of a row; set data.length to at most {backbone.longest}"
        )


def _try(backbone: HuggingFaceBackbone) -> tuple[bool, bool]:
    """Return whether a token sees what follows, and does not see padding."""
    ids = [i for i in range(min(8, backbone.vocab_size)) if i != backbone.mask_id][:5]
    device = next(backbone.parameters()).device
    tokens = torch.tensor([ids], device=device)
    changed = tokens.clone()
    changed[0, 1] = tokens[0, 0]  # the next one, which any window holds
    pad = torch.zeros_like(tokens, dtype=torch.bool)
    pad[0, -1] = True
    whole = backbone.hidden(Batch.of(tokens))[0]
    other = backbone.hidden(Batch.of(changed))[0]
    padded = backbone.hidden(Batch.of(tokens, pad=pad))[0, :-1]
    cut = backbone.hidden(Batch.of(tokens[:, :-1]))[0]
    backbone.find_head(whole)
    near = torch.allclose(cut, padded, atol=1e-2, rtol=1e-2)
    return not torch.equal(whole[0], other[0]), near


def _positions(trunk: nn.Module) -> tuple[int, int | None]:
    """Return the first learned position and their number; 0 and None without."""
    for name, part in trunk.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf in ("position_embeddings", "wpe") and isinstance(part, nn.Embedding):
            first = 0 if part.padding_idx is None else part.padding_idx + 1
            return first, part.num_embeddings - first
    return 0, None


def _see(batch: Batch) -> Tensor | None:
    """Return who sees whom ``(B, 1, L, L)`` bool; None if all see all."""
    padded = bool(batch.pad.any())
    if batch.documents is None and not padded:
        return None
    there = ~batch.pad
    see = there[:, None, None, :].expand(-1, 1, batch.length, -1)
    if batch.documents is not None:
        one = batch.documents[:, :, None] == batch.documents[:, None, :]
        see = see & one[:, None]
    if padded:  # a padded token sees itself, because nobody may see nothing
        itself = torch.eye(batch.length, dtype=torch.bool, device=there.device)
        see = see | itself
    return see


def _shifted(states: Tensor, documents: Tensor | None) -> Tensor:
    """Return the states moved one position to the right, inside each document."""
    moved = torch.cat([states[:, :1], states[:, :-1]], dim=1)
    if documents is None:
        return moved
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return torch.where(first[..., None], states, moved)
