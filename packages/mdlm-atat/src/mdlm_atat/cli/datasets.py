"""``mdlm atat datasets``: list, show and prepare data sets and phases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdlm_atat.datasets import DatasetConfig, DatasetManager, PhaseConfig
from mdlm_atat.datasets import get_dataset_manager as manager_of
from mdlm_atat.datasets.schema import choose
from mdlm_core.cli.options import Json
from mdlm_core.cli.tables import print_table
from mdlm_core.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from mdlm_atat.datasets.prepare import Prepared

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List, show and prepare data sets.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, or a phase.")]
Size = Annotated[
    str | None,
    typer.Option("--variant", metavar="V", help="Its size; default: the stage's."),
]
Stage = Annotated[
    str | None,
    typer.Option("--preset", metavar="STAGE", help="debug, validation or production."),
]
Pieces = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="T", help="What its tokens are counted with."),
]
File = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="A registry on top of the others."),
]


@app.command("ls")
def list_(
    preset: Stage = None,
    config: File = None,
    phases: Annotated[
        bool, typer.Option("--phases", help="List the phases instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the data sets, and what is prepared of each."""
    manager = manager_of(preset, config)
    if phases:
        _list_phases(manager, as_json)
        return
    found = {
        name: [
            manager.get_config(name, size, split=manager.list_splits(name)[0])
            for size in manager.list_variants(name)
        ]
        for name in manager.list_datasets()
    }
    if as_json:
        records = [record.to_dict() for sizes in found.values() for record in sizes]
        print(json.dumps(records, indent=2))
        return
    rows = [("NAME", "VARIANTS", "SOURCE", "PREPARED, IN TOKENS", "LICENSE")]
    for name, sizes in found.items():
        done = [f"{one.variant} {one.num_tokens:,}" for one in sizes if one.measured]
        rows.append(
            (
                name,
                ", ".join(one.variant for one in sizes),
                sizes[0].source,
                ", ".join(done) or "none",
                sizes[0].license,
            )
        )
    print_table(rows)


def _list_phases(manager: DatasetManager, as_json: bool) -> None:
    found = [manager.get_phase_config(name) for name in manager.list_phases()]
    if as_json:
        print(json.dumps([phase.to_dict() for phase in found], indent=2))
        return
    rows = [("PHASE", "TRAINS ON", "MEASURED ON", "DESCRIPTION")]
    for phase in found:
        rows.append((phase.id, *_sets_of(phase), phase.description))
    print_table(rows)


def _sets_of(phase: PhaseConfig) -> tuple[str, str]:
    val = phase.val_dataset
    held_out = f"{phase.dataset.holdout:.0%} of it"
    trained = f"{phase.dataset.name} ({phase.dataset.variant})"
    return trained, held_out if val is None else f"{val.name} ({val.variant})"


@app.command()
def show(
    name: Name,
    variant: Size = None,
    preset: Stage = None,
    tokenizer: Pieces = None,
    config: File = None,
    as_json: Json = False,
) -> None:
    """Show a data set, or a phase: where it comes from and what is measured."""
    manager = manager_of(preset, config)
    found = _find(manager, name, variant, tokenizer)
    if isinstance(found, PhaseConfig):
        if as_json:
            print(json.dumps(found.to_dict(), indent=2))
        else:
            _show_phase(found)
        return
    if as_json:
        print(json.dumps([one.to_dict() for one in found], indent=2))
        return
    first = found[0]
    about = " ".join(filter(None, (first.description, first.purpose)))
    print(f"{first.name} ({first.variant}): {about}".rstrip(": "))
    rows = [("source", first.source), ("license", first.license)]
    rows += [("splits", ", ".join(first.splits)), ("tokenizer", first.tokenizer)]
    if first.max_tokens is not None:
        rows.append(("budget", f"{first.max_tokens:,} tokens for each split"))
    if "validation" not in first.splits:
        rows.append(("held out", f"{first.holdout:.0%} of the documents"))
    print_table(rows, indent="  ")
    for one in found:
        print(f"\n{one.split}")
        for key, value in _measurements(one):
            print(f"  {key:<10}  {value}")  # a path is not wrapped


def _measurements(one: DatasetConfig) -> list[tuple[str, str]]:
    rows = [("file", str(one.cache_file))]
    if one.manifest is None:
        if one.max_tokens is not None:
            return [("tokens", f"not prepared; at most {one.max_tokens:,}"), *rows]
        about = f"; about {one.num_tokens:,}" if one.split == "train" else ""
        return [("tokens", f"not prepared{about}"), *rows]
    manifest = one.manifest
    rows = [("tokens", f"{one.num_tokens:,}"), *rows]
    rows += [(key, f"{manifest[key]:,}") for key in ("documents", "bytes")]
    rows += [("vocabulary", str(manifest["tokenizer"]["vocab_size"]))]
    return [*rows, ("sha256", str(manifest["sha256"]))]


def _show_phase(phase: PhaseConfig) -> None:
    print(f"{phase.id}: {phase.description}")
    trained, measured = _sets_of(phase)
    rows = [("trains on", trained), ("measured on", measured)]
    if phase.fallback is not None:
        fallback = f"{phase.fallback.name} ({phase.fallback.variant})"
        rows.append(("if not there", f"{fallback} for both"))
    rows += [("preset", phase.preset), ("tokenizer", phase.tokenizer)]
    rows += [("length", str(phase.length))]
    rows += [("batch size", str(phase.batch_size or "the preset's"))]
    rows += [("steps", str(phase.steps or "the preset's"))]
    rows += [("variants", ", ".join(phase.variants))]
    rows += [("seeds", ", ".join(map(str, phase.seeds)))]
    windows = f"{phase.eval_windows} rows, {phase.eval_draws} noise levels each"
    print_table([*rows, ("scored", windows)], indent="  ")


@app.command()
def prepare(
    name: Name,
    variant: Size = None,
    preset: Stage = None,
    tokenizer: Pieces = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="S", help="Only train, validation or test."),
    ] = None,
    config: File = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make it again, even if it is whole.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch, cut, count and store the text of a data set, or of a phase."""
    manager = manager_of(preset, config)
    found = _find(manager, name, variant, tokenizer)
    if split is not None:
        found = _only(found, split)
    from mdlm_atat.datasets.prepare import prepare as make
    from mdlm_atat.datasets.prepare import prepare_phase

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    if isinstance(found, PhaseConfig):
        phase = prepare_phase(found, force=force, tell=tell)
        if as_json:
            print(json.dumps(phase.to_dict(), indent=2))
            return
        for one in phase.configs():
            print(f"{one.label}: {one.num_tokens:,} tokens in {one.cache_file}")
        return
    if split is None:  # a test split is prepared when it is asked for
        found = [one for one in found if one.split != "test"]
    made = [make(one, force=force, tell=tell) for one in found]
    if as_json:
        print(json.dumps([_record(item) for item in made], indent=2))
        return
    for item in made:
        tokens = f"{item.config.num_tokens:,} tokens in {item.config.cache_file}"
        print(f"{item.config.label}: {item.action}, {tokens}")


def _only(found: PhaseConfig | list[DatasetConfig], split: str) -> list[DatasetConfig]:
    """Return one split of a data set.

    Raises:
        UnknownNameError: if it has no such split.
        UsageError: if it is a phase.
    """
    if isinstance(found, PhaseConfig):
        raise UsageError("a phase needs its splits as they are; leave --split out")
    choose(f"split of '{found[0].name}'", split, [one.split for one in found])
    return [one for one in found if one.split == split]


def _record(done: Prepared) -> dict[str, object]:
    record = done.config.to_dict()
    return {**record, "action": done.action, "reason": done.reason}


def _find(
    manager: DatasetManager, name: str, variant: str | None, tokenizer: str | None
) -> PhaseConfig | list[DatasetConfig]:
    """Return a phase, or all splits of a data set.

    Raises:
        UnknownNameError: if `name` is neither.
        UsageError: if a phase is to have a variant.
    """
    try:
        phase = manager.find_phase(name)
    except UnknownNameError:
        known = [*manager.list_datasets(), *manager.list_phases()]
        choose("dataset or phase", name, known)
        return [
            manager.get_config(name, variant, split=split, tokenizer=tokenizer)
            for split in manager.list_splits(name)
        ]
    if variant is not None:
        raise UsageError(
            f"'{name}' is a phase, which says the variants of its data sets itself; "
            "leave --variant out"
        )
    return manager.get_phase_config(phase, tokenizer=tokenizer)
