"""What laws are checked on: each thing is made when a law asks for it by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from mdlm_core.catalog import Catalog
from mdlm_core.config import Component, RunConfig, resolve
from mdlm_core.config.schema import KIND_OF_FIELD
from mdlm_core.data.batch import Batch
from mdlm_core.errors import MdlmError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.plugins import PluginRecord
from mdlm_core.specs import ComponentSpec, DatasetSpec, PresetSpec, Spec

from .tiny import LENGTH, MASK_ID, VOCAB_SIZE, tiny_batch, tiny_canvas, tiny_source

FIELD_OF_KIND = {kind: field for field, kind in KIND_OF_FIELD.items()}
Given = Mapping[str, Callable[..., object]]
Settings = Mapping[str, Mapping[str, object]]


class Subject:
    """One component, and everything that a law about it may ask for.

    A law's parameters are attributes of this class. `given` replaces some of them,
    by functions that make them; ``batch`` is called with `length`, `vocab_size` and
    `mask_id`, the others without arguments. `settings` adds to the tiny settings of
    components. Nothing is shared between laws.
    """

    def __init__(
        self,
        catalog: Catalog,
        plugin: PluginRecord,
        spec: Spec | None = None,
        given: Given | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.catalog = catalog
        """What can be chosen by name."""
        self.plugin = plugin
        """The record of the plugin."""
        self._spec = spec
        self._given = dict(given or {})
        self._settings = settings or {}

    def argument(self, name: str) -> Any:
        """Return what a law calls `name`."""
        if name in self._given and name != "batch":
            return self._given[name]()
        return getattr(self, name)

    # ---- declarations --------------------------------------------------------

    @property
    def spec(self) -> Spec:
        """The spec of the component."""
        assert self._spec is not None
        return self._spec

    @property
    def component_spec(self) -> ComponentSpec:
        """The spec of a component that a configuration can choose."""
        assert isinstance(self.spec, ComponentSpec)
        return self.spec

    @property
    def settings(self) -> type:
        """The class of the component's settings."""
        cls = self.component_spec.config.load()
        assert isinstance(cls, type)
        return cls

    @cached_property
    def component(self) -> Component:
        """The component with its tiny settings."""
        field = FIELD_OF_KIND[self.spec.kind]
        sets = [f"{field}.name={self.spec.name}"]
        for key, value in self._settings.get(label(self.spec), {}).items():
            sets.append(f"{field}.{key}={json.dumps(value)}")
        config = resolve(self.catalog, sets=sets, tiny=True).config
        component = getattr(config, field)
        assert isinstance(component, Component)
        return component

    @cached_property
    def run(self) -> RunConfig:
        """Tiny settings of a run: of the preset, or of a run with the task."""
        if isinstance(self.spec, PresetSpec):
            return resolve(self.catalog, preset=self.spec.name, tiny=True).config
        for preset in [s for s in self.plugin.specs if isinstance(s, PresetSpec)]:
            run = resolve(self.catalog, preset=preset.name, tiny=True).config
            if run.task.name == self.spec.name and not missing_of(run, self.catalog):
                return run
        sets = [f"task.name={self.spec.name}"]
        modalities = getattr(self.spec, "modality", ("text",))
        for data in self.catalog.specs("dataset"):
            assert isinstance(data, DatasetSpec)
            if data.modality in modalities and not missing(data):
                sets.append(f"data.name={data.name}")
                break
        return resolve(self.catalog, sets=sets, tiny=True).config

    # ---- data ----------------------------------------------------------------

    @cached_property
    def source(self) -> Any:
        """The data source: of a data set or a task its own, otherwise a tiny one."""
        if self.spec.kind == "dataset":
            return self._build()
        if self.spec.kind in ("task", "preset"):
            return self.catalog.build("dataset", self.run.data)
        return tiny_source()

    @property
    def _ids(self) -> tuple[int, int]:
        """The vocabulary's size and the mask's id for `batch`."""
        if self.spec.kind == "masking":
            return self.source.tokenizer.vocab_size, self.source.tokenizer.mask_id
        return self.backbone.vocab_size, self.backbone.mask_id

    @cached_property
    def batch(self) -> Batch:
        """A clean batch, with a frozen prompt in one row and padding in another.

        Of a task: the first batch of its own data.
        """
        if self.spec.kind == "task":
            batches = self.source.batches("train", size=4, seed=0)
            first = next(iter(batches))
            assert isinstance(first, Batch)
            return first
        vocab_size, mask_id = self._ids
        make = self._given.get("batch")
        if make is None:
            make = partial(tiny_batch, axes=getattr(self.spec, "axes", 1))
        batch = make(length=LENGTH, vocab_size=vocab_size, mask_id=mask_id)
        assert isinstance(batch, Batch)
        return batch

    @cached_property
    def canvas(self) -> Batch:
        """The same batch with masks: everything, some, or nothing is known."""
        return tiny_canvas(self.batch, self._ids[1])

    @property
    def noise(self) -> Noise:
        """An explicit generator."""
        return Noise(0).child("law", self.spec.name)

    # ---- components ----------------------------------------------------------

    def _build(self, **context: Any) -> Any:
        with global_seed(Noise(0).child("law")):
            return self.catalog.build(self.spec.kind, self.component, **context)

    def new_backbone(self, seed: int = 0) -> Any:
        """Build the backbone; for other kinds than backbones it is core's DiT.

        Weights that do not come from outside are moved away from their initial
        values, because a model that starts at zero keeps every law.
        """
        spec, component = self.spec, None
        if spec.kind == "backbone":
            component = self.component
        else:
            run = resolve(self.catalog, sets=["model.name=dit"], tiny=True)
            component, spec = run.config.model, self.catalog.get("backbone", "dit")
        vocab_size, mask_id = getattr(spec, "ids", None) or (VOCAB_SIZE, MASK_ID)
        noise = Noise(seed).child("law", "weights")
        with global_seed(noise):
            backbone = self.catalog.build(
                "backbone",
                component,
                vocab_size=vocab_size,
                mask_id=mask_id,
                length=LENGTH,
            )
        if not getattr(spec, "pretrained", False):
            _move(backbone, noise)
        return backbone

    @property
    def build(self) -> Callable[[int], Any]:
        """A function that builds the backbone from a seed."""
        return self.new_backbone

    @cached_property
    def backbone(self) -> Any:
        """The backbone, not in training."""
        backbone = self.new_backbone()
        if isinstance(backbone, nn.Module):
            backbone.eval()
        return backbone

    @cached_property
    def schedule(self) -> Any:
        """The schedule; for other kinds than schedules it is the default."""
        if self.spec.kind == "schedule":
            return self._build()
        return self.catalog.build("schedule", Component(name="loglinear"))

    @cached_property
    def policy(self) -> Any:
        """The masking policy; what it learns is moved away from the start."""
        policy = self._build(source=self.source)
        if isinstance(policy, nn.Module):
            _move(policy, Noise(0).child("law", "policy"))
        return policy

    @cached_property
    def sampler(self) -> Any:
        """The sampler."""
        return self._build()

    @cached_property
    def denoise(self) -> Callable[..., Any]:
        """A function that makes a denoiser; it takes what `Denoiser` does."""
        from mdlm_core.samplers.denoiser import Denoiser

        return lambda **settings: Denoiser(self.argument("backbone"), **settings)

    @cached_property
    def task(self) -> Any:
        """The task."""
        return self.catalog.build(
            "task", self.run.task, run=self.run, catalog=self.catalog
        )

    @cached_property
    def module(self) -> Any:
        """What the task trains."""
        with global_seed(Noise(0).child("law")):
            return self.task.build(self.source)


def _move(module: nn.Module, noise: Noise) -> None:
    """Add noise of the usual size of an initial weight to every parameter."""
    generator = torch.Generator().manual_seed(noise.integer())
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() > 1 else 25
            step = torch.randn(parameter.shape, generator=generator)
            parameter.add_((step / math.sqrt(fan_in)).to(parameter))


def label(spec: Spec) -> str:
    """Return ``<kind>-<name>``."""
    return f"{spec.kind}-{spec.name}"


def missing(spec: Spec, settings: Settings | None = None) -> str:
    """Return why a component cannot be built here, or an empty string."""
    if not isinstance(spec, ComponentSpec):
        return ""
    for module in spec.requires:
        if find_spec(module) is None:
            return f"needs the module '{module}' (pip install '{spec.extra or module}')"
    alone = isinstance(spec, DatasetSpec) and not spec.offline
    if alone and label(spec) not in (settings or {}):
        return "needs the network or a file of the user's"
    return ""


def missing_of(run: RunConfig, catalog: Catalog) -> str:
    """Return why a run cannot start here, or an empty string."""
    for field, kind in KIND_OF_FIELD.items():
        name = getattr(run, field).name
        if reason := missing(catalog.get(kind, name)):
            return f"{kind} '{name}' {reason}"
    return ""


def obstacle(
    catalog: Catalog, spec: Spec | None, settings: Settings | None = None
) -> str:
    """Return why laws that build a component cannot be checked here, or ''."""
    if isinstance(spec, PresetSpec):
        try:
            run = resolve(catalog, preset=spec.name, tiny=True).config
        except MdlmError:
            return ""  # the law says what is wrong
        return missing_of(run, catalog)
    return missing(spec, settings) if spec is not None else ""
