"""Low-rank adapters through peft, on weights that stay as they are.

A layer W becomes W + (alpha / rank) B A with B zero at first (Hu et al., 2021, arXiv
2106.09685). Needs the extra ``peft``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from mdlm_core.errors import ConfigError, MissingExtraError

from .config import LoraConfig
from .lora_base import LoraBase

_BASE = "lora_base"
"""The part of the model that knows the weights below the adapters."""
_ROUTERS = ("router",)
"""Layers that choose experts: they are no part of attention or MLP."""


def apply_lora(
    backbone: nn.Module, config: LoraConfig, *, outside: bool, inside: str = ""
) -> None:
    """Put adapters into `backbone`, in place; nothing happens if the rank is 0.

    Only the adapters are trained from then on. They are float32, whatever the type of
    the weights below them.

    Args:
        backbone: the model. Its `head` stays as it is.
        config: rank, scale, dropout, and which layers.
        outside: whether the weights below come from a checkpoint that stays where it
            is, so that a run does not save them again; it reads them from there, and
            saves their checksum, so that others are refused (`LoraBase`).
        inside: adapters go only into parts below this one, such as ``model.bert``.

    Raises:
        ConfigError: if a target is no linear layer of the model.
        MissingExtraError: without peft.
    """
    if not config.rank:
        return
    peft = _peft()
    layers = _linear_layers(backbone, inside)
    names = _chosen(config.targets, layers)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=names,
        fan_in_fan_out=not isinstance(layers[names[0]], nn.Linear),
        bias="none",
    )
    below = backbone.state_dict()
    base = LoraBase(below) if outside else None
    peft.inject_adapter_in_model(settings, backbone)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if base is not None:
        everything = set(backbone.state_dict())
        renamed = {_below(name, names) for name in below}
        backbone.external_tensors = frozenset(everything & renamed)  # type: ignore[assignment]
        backbone.add_module(_BASE, base)
        hook = backbone.register_load_state_dict_post_hook
        hook(base.loaded)  # type: ignore[no-untyped-call]
        next(iter(adapters(backbone).values())).register_forward_pre_hook(base.before)


def _below(name: str, names: Iterable[str]) -> str:
    """Return what a weight is called once its layer has an adapter."""
    layer, _, leaf = name.rpartition(".")
    return f"{layer}.base_layer.{leaf}" if layer in set(names) else name


def merge_lora(backbone: nn.Module) -> None:
    """Add the adapters to the weights below them and take them out, in place.

    The model is then what it was before `apply_lora`, with other weights, and all of
    them can be trained. Nothing happens if there are no adapters.

    Raises:
        ConfigError: if a merged weight is not finite.
    """
    for name, layer in adapters(backbone).items():
        with torch.no_grad():
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise ConfigError(
                    f"the adapter of '{name}' cannot be merged: {error}; it was "
                    f"trained to numbers that are not finite"
                ) from error
        parent, _, leaf = name.rpartition(".")
        setattr(backbone.get_submodule(parent), leaf, layer.get_base_layer())
    for attribute in ("external_tensors", "peft_config"):
        if attribute in vars(backbone):
            delattr(backbone, attribute)
    if hasattr(backbone, _BASE):
        delattr(backbone, _BASE)
    backbone.requires_grad_(True)


def adapters(backbone: nn.Module) -> dict[str, Any]:
    """Return the layers that have adapters, by name; empty without peft."""
    try:
        layer = _peft().tuners.lora.LoraLayer
    except MissingExtraError:
        return {}
    return {name: m for name, m in backbone.named_modules() if isinstance(m, layer)}


def _linear_layers(backbone: nn.Module, inside: str) -> dict[str, nn.Module]:
    """Return the layers that may have adapters, by name: linear, and not the head."""
    head = getattr(backbone, "head", None)
    start = f"{inside}." if inside else ""
    return {
        name: layer
        for name, layer in backbone.named_modules()
        if (type(layer) is nn.Linear or type(layer).__name__ == "Conv1D")
        and layer is not head
        and name.startswith(start)
    }


def _chosen(targets: tuple[str, ...], layers: Mapping[str, nn.Module]) -> list[str]:
    """Return the full names of the layers that `targets` mean, all if empty.

    A target is a full name, or the end of one: ``q``, ``1.q``.
    """
    leaves = sorted({name.rpartition(".")[2] for name in layers})
    chosen: list[str] = []
    for target in targets or [leaf for leaf in leaves if leaf not in _ROUTERS]:
        found = [name for name in layers if f".{name}".endswith(f".{target}")]
        if not found:
            near = get_close_matches(target, leaves, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"model.lora.targets names '{target}', which is no linear layer of "
                f"the model{hint}; its layers are called {', '.join(leaves)}"
            )
        chosen += found
    if not chosen:
        raise ConfigError("the model has no linear layer that an adapter could go into")
    return list(dict.fromkeys(chosen))


def _peft() -> ModuleType:
    try:
        return import_module("peft")
    except ImportError as error:
        raise MissingExtraError(
            f"model.lora needs the module 'peft' ({error}); install it with: pip "
            f"install 'mdlm-llada[peft]'"
        ) from error
