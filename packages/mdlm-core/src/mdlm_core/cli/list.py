"""``mdlm list``: what can be chosen, and the settings of each."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict
from typing import Annotated

import typer

from mdlm_core.catalog import PLURAL, Catalog, load_catalog
from mdlm_core.config.describe import describe
from mdlm_core.config.schema import KIND_OF_FIELD
from mdlm_core.config.structure import settings_class
from mdlm_core.errors import UsageError
from mdlm_core.specs import CommandSpec, ComponentSpec, PresetSpec, Spec

from .options import Imports, Json
from .tables import print_settings, print_table

_FIELD_OF_KIND = {kind: key for key, kind in KIND_OF_FIELD.items()}
_ALIASES = {
    **{kind: kind for kind in PLURAL},
    **KIND_OF_FIELD,
    **{plural: kind for kind, plural in PLURAL.items()},
    **{key + "s": kind for key, kind in KIND_OF_FIELD.items()},
}


def list_components(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="model, schedule, masking, sampler, data, task, preset or command.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show all of its settings.")
    ] = None,
    imports: Imports = None,
    as_json: Json = False,
) -> None:
    """List what can be chosen by name, and the settings of one thing."""
    catalog = load_catalog(*(imports or ()))
    kinds = list(PLURAL) if kind is None else [_kind(kind)]
    if name is not None:
        _show_one(kinds[0], name, catalog, as_json)
    elif as_json:
        specs = {
            one: [_record(spec, catalog) for spec in catalog.specs(one)]
            for one in kinds
        }
        print(json.dumps(specs, indent=2))
    else:
        _show_all(kinds, catalog)


def _kind(name: str) -> str:
    if kind := _ALIASES.get(name.lower()):
        return kind
    near = difflib.get_close_matches(name.lower(), _ALIASES, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else "."
    shown = ", ".join([*KIND_OF_FIELD, "preset", "command"])
    raise UsageError(f"there is no kind '{name}'{guess} The kinds are: {shown}")


def _show_all(kinds: list[str], catalog: Catalog) -> None:
    first = True
    for kind in kinds:
        rows = [
            (spec.name, catalog.claim(kind, spec.name).name, spec.summary)
            for spec in catalog.specs(kind)
        ]
        if rows:
            chosen = _FIELD_OF_KIND.get(kind)
            how = f" ({chosen}.name)" if chosen else ""
            print(("" if first else "\n") + PLURAL[kind] + how)
            print_table(rows, indent="  ")
            first = False


def _record(spec: Spec, catalog: Catalog) -> dict[str, object]:
    record: dict[str, object] = {
        "name": spec.name,
        "summary": spec.summary,
        "plugin": catalog.claim(spec.kind, spec.name).name,
    }
    if isinstance(spec, ComponentSpec):
        record |= {"factory": str(spec.factory), "config": str(spec.config)}
        record |= {"tiny": dict(spec.tiny), "requires": list(spec.requires)}
    elif isinstance(spec, PresetSpec):
        record["path"] = spec.path
    elif isinstance(spec, CommandSpec):
        record["app"] = str(spec.app)
    return record


def _show_one(kind: str, name: str, catalog: Catalog, as_json: bool) -> None:
    spec = catalog.get(kind, name)
    record = _record(spec, catalog)
    found = []
    if isinstance(spec, ComponentSpec):
        cls = settings_class(kind, name, catalog)
        found = list(describe(cls, _FIELD_OF_KIND[kind]))
    if as_json:
        record["settings"] = [asdict(setting) for setting in found]
        print(json.dumps(record, indent=2))
        return
    provider = catalog.provider(kind, name)
    print(f"{kind} '{spec.name}', from {provider.label}")
    print(spec.summary)
    if isinstance(spec, ComponentSpec):
        print("\nsettings, their defaults and meaning:" if found else "\nno settings")
        print_settings(found, indent="  ")
        if spec.requires:
            print(f"\nneeds: {', '.join(spec.requires)} (pip install '{spec.extra}')")
    elif isinstance(spec, PresetSpec):
        print(f"\nsee it with: mdlm config show --preset {spec.name}")
    elif isinstance(spec, CommandSpec):
        print(f"\nsee it with: mdlm {spec.name} --help")
