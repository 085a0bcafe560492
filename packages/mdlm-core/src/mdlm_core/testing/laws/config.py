"""Laws about the settings of a component."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mdlm_core.catalog import Catalog
from mdlm_core.config import Component, read_run, resolve, to_yaml
from mdlm_core.config.schema import RunConfig
from mdlm_core.specs import ComponentSpec
from mdlm_core.testing.law import hold, rule
from mdlm_core.testing.light import heavy_imports
from mdlm_core.testing.subject import FIELD_OF_KIND


@rule(builds=False)
def is_a_frozen_dataclass(settings: type) -> None:
    """Settings are a frozen dataclass whose fields are given by keyword only."""
    hold(is_dataclass(settings), f"{settings.__name__} is no dataclass")
    parameters: Any = getattr(settings, "__dataclass_params__")  # noqa: B009
    hold(parameters.frozen, f"{settings.__name__} is not frozen")
    positional = [entry.name for entry in fields(settings) if not entry.kw_only]
    hold(not positional, f"not keyword-only: {', '.join(positional)}")


@rule(builds=False)
def has_defaults(settings: type) -> None:
    """Every setting has a default."""
    bare = [
        entry.name
        for entry in fields(settings)
        if entry.default is MISSING and entry.default_factory is MISSING
    ]
    hold(not bare, f"no default: {', '.join(bare)}")


@rule(builds=False)
def documents_every_field(settings: type) -> None:
    """The class has a docstring, and a string below each field says what it means."""
    # A dataclass without one is given its own signature as a docstring.
    generated = (settings.__doc__ or "").startswith(f"{settings.__name__}(")
    hold(settings.__doc__ and not generated, f"{settings.__name__} has no docstring")
    documented: set[str] = set()
    for cls in settings.__mro__:
        if is_dataclass(cls):
            documented |= _documented(cls)
    bare = [entry.name for entry in fields(settings) if entry.name not in documented]
    hold(not bare, f"undocumented: {', '.join(bare)}")


def _documented(cls: type) -> set[str]:
    """Return the annotated names that a string follows in the source of `cls`."""
    node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id
        for field, text in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


@rule(builds=False)
def is_light(settings: type) -> None:
    """Importing the settings imports nothing heavy."""
    found = heavy_imports(settings.__module__)
    hold(not found, f"'{settings.__module__}' imports {', '.join(found)}")


@rule(builds=False)
def tiny_settings_are_accepted(component_spec: ComponentSpec, catalog: Catalog) -> None:
    """The spec's tiny settings are settings of the class, and keep its rules."""
    field = FIELD_OF_KIND[component_spec.kind]
    resolve(catalog, sets=[f"{field}.name={component_spec.name}"], tiny=True)


@rule(builds=False)
def survives_yaml(
    component_spec: ComponentSpec,
    settings: type,
    component: Component,
    catalog: Catalog,
) -> None:
    """Settings written as YAML and read again are the same settings."""
    field = FIELD_OF_KIND[component_spec.kind]
    for config in (settings(), component.config):
        chosen = Component(name=component_spec.name, config=config)
        run = replace(RunConfig(), **{field: chosen})  # type: ignore[arg-type]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "config.yaml"
            path.write_text(to_yaml(run), encoding="utf-8")
            again = getattr(read_run(path, catalog), field).config
        hold(again == config, f"wrote {config}, read {again}")
