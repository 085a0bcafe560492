"""``mdlm personality graph``: the causal graph of a table, or of a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out, Seed
from mdlm_core.errors import UsageError
from mdlm_personality.traits import TRAITS, assignment, check_value

from .results import check_out, say

if TYPE_CHECKING:
    from mdlm_personality.causal.tables import Table

STRUCTURES = ("tiered", "fixed", "dagma", "notears")
DRAWS = {"tiered": 200, "fixed": 200, "dagma": 0, "notears": 0}


def graph(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run: its causal layer.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="A .csv, .tsv or .gz of traits and labels."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COL=TIER,...",
            help="Further columns: wellness=beliefs,exer=actions.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIT=COL,...",
            help="The columns of the traits, if not called so; others are left out.",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Scores of traits in the table; 0,1."),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="tiered (default), fixed, dagma, notears."),
    ] = None,
    edges: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EDGE",
            help='"a -> b", or a file of edges or DOT; may be repeated; with fixed.',
        ),
    ] = None,
    no_tiers: Annotated[
        bool,
        typer.Option(
            "--no-tiers", help="dagma and notears may point to earlier tiers."
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="dagma and notears see columns in their own units."),
    ] = False,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Draws of rows for intervals; 0: none. Default: 200, or none for "
            "dagma and notears, which search again in each.",
        ),
    ] = None,
    check_scale: Annotated[
        bool,
        typer.Option("--check-scale", help="Whether other units give another graph."),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Other methods beside: pc, ges, lingam."),
    ] = None,
    do: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE[=VALUE]",
            help="What follows from an intervention; may be repeated.",
        ),
    ] = None,
    least: Annotated[
        float,
        typer.Option(metavar="W", help="Show effects from W standard deviations on."),
    ] = 0.05,
    latent: Annotated[
        bool, typer.Option("--latent", help="Of a run: latent nodes too.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture: .svg, .png, .pdf.")
    ] = None,
    dot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The graph in DOT.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print tables in Markdown.")
    ] = False,
    checkpoint: Annotated[
        str, typer.Option(help="Of a run: best, last, or the number of a step.")
    ] = "best",
    weights: Annotated[str, typer.Option(help="Of a run: ema or raw.")] = "ema",
    out: Out = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files of this command.")
    ] = False,
    imports: Imports = None,
    device: Device = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Show causes and effects: of a table of traits and labels, or in a model.

    A table: every column is explained by its parents, by least squares, with bootstrap
    intervals. The graph is assumed (tiered, fixed) or searched for (dagma, notears);
    --check-scale and --compare show how far data decides it. Effects hold under the
    fitted model.
    """
    if (run is None) == (data is None):
        raise UsageError("give a run, or a table with --data, and not both")
    asked = {
        "--labels": labels,
        "--columns": columns,
        "--scale": scale,
        "--structure": structure,
        "--edges": edges,
        "--no-tiers": no_tiers,
        "--raw": raw,
        "--bootstrap": bootstrap is not None,
        "--check-scale": check_scale,
        "--compare": compare,
    }
    if run is not None and (wrong := [name for name, value in asked.items() if value]):
        raise UsageError(
            f"{', '.join(wrong)} is for tables; the graph of a run is what it learned"
        )
    if data is not None and latent:
        raise UsageError("--latent is for runs; a table has no latent nodes")
    if least < 0:
        raise UsageError(f"--least is {least:g}; it must be 0 or more")
    for option, path in (("--out", out), ("--plot", plot), ("--dot", dot)):
        check_out(path, force, option)
    wanted = _interventions(do or ())
    if plot is not None:
        from mdlm_core.reports import check_picture

        check_picture(plot, package="mdlm-personality")
    if data is not None:
        card = _table_card(
            data,
            labels=_pairs("--labels", labels),
            columns=_pairs("--columns", columns),
            scale=_scale(scale),
            structure=_structure(structure, edges),
            edges=edges,
            tiers=not no_tiers,
            units="raw" if raw else "standardised",
            draws=bootstrap,
            check=check_scale,
            methods=[
                part.strip() for part in (compare or "").split(",") if part.strip()
            ],
            do=wanted,
            least=least,
            seed=seed or 0,
        )
    else:
        assert run is not None
        card = _run_card(
            run,
            checkpoint=checkpoint,
            weights=weights,
            imports=imports,
            device=device,
            least=least,
            latent=latent,
            do=wanted,
        )
    _write(card, out=out, plot=plot, dot=dot)
    if as_json:
        print(json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False))
        return
    from mdlm_personality.causal.report_text import to_text

    print(to_text(card, markdown=markdown))


def _table_card(
    path: Path,
    *,
    labels: dict[str, str],
    columns: dict[str, str],
    scale: tuple[float, float],
    structure: Any,
    edges: list[str] | None,
    tiers: bool,
    units: Any,
    draws: int | None,
    check: bool,
    methods: list[str],
    do: dict[str, float | None],
    least: float,
    seed: int,
) -> dict[str, Any]:
    from mdlm_core.kernels import Noise
    from mdlm_personality.causal import report, search, sem, stability
    from mdlm_personality.causal.cross_check import cross_check
    from mdlm_personality.causal.tables import read_table

    table = read_table(path, labels=labels, columns=columns, scale=scale)
    do = {table.names[table.column(name)]: value for name, value in do.items()}
    for name, value in do.items():
        if name in TRAITS and value is not None:
            check_value(name, value)
    if structure == "tiered" and len(set(table.tiers)) == 1:
        say(
            "note: all columns are of one tier, and tiered has edges between tiers "
            "only; name others with --labels, or search with --structure dagma"
        )
    noise = Noise(seed).child("graph")

    def support(seen: Table, used: Any = units) -> Any:
        return search.find_support(
            seen, structure, edges=edges, units=used, tiers=tiers
        )

    fitted = sem.fit(table, support(table))
    draws = DRAWS[structure] if draws is None else draws
    searched = structure in ("dagma", "notears")
    spread = None
    if draws:
        spread = sem.bootstrap(
            table,
            fitted,
            noise,
            draws=draws,
            least=least,
            support=support if searched else None,
            progress=_progress(draws),
        )
    stable = None
    if check:
        stable = stability.check_scale(
            table, lambda seen: support(seen, "raw"), noise, least=least
        )
    checks = cross_check(table, methods) if methods else []
    return report.of_table(
        fitted,
        source=str(path),
        rows=len(table),
        structure=f"{structure} on {units} columns" if searched else structure,
        least=least,
        spread=spread,
        stability=stable,
        checks=checks,
        do=do,
    )


def _run_card(
    run: Path,
    *,
    checkpoint: str,
    weights: str,
    imports: list[str] | None,
    device: str | None,
    least: float,
    latent: bool,
    do: dict[str, float | None],
) -> dict[str, Any]:
    from mdlm_core.catalog import load_catalog
    from mdlm_personality.causal import report
    from mdlm_personality.saved import load

    trained = load(
        run,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=load_catalog(*(imports or ())),
        say=say,
    )
    persona = trained.persona
    settings: Any = trained.run.config.model.config
    return report.of_persona(
        persona,
        source=str(run),
        structure=settings.structure,
        least=least,
        every=latent,
        do={persona.node_names[persona.node(name)]: v for name, v in do.items()},
    )


def _write(
    card: dict[str, Any], *, out: Path | None, plot: Path | None, dot: Path | None
) -> None:
    """Write what is asked for, and say where it is."""
    from mdlm_core.cache import write_atomic

    if out is not None:
        text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(out, f"{text}\n".encode())
        say(f"JSON: {out}")
    if plot is None and dot is None:
        return
    from mdlm_core.reports import save_figure
    from mdlm_personality.causal.figure import draw_graph, to_dot
    from mdlm_personality.causal.report import matrix

    names, tiers, weight = matrix(card)
    if plot is not None:
        title = f"{card['source']}, {card['structure']}"
        figure = draw_graph(names, tiers, weight, title=title)
        save_figure(figure, plot, package="mdlm-personality")
        say(f"picture: {plot}")
    if dot is not None:
        write_atomic(dot, to_dot(names, weight).encode())
        say(f"graph: {dot}")


def _structure(name: str | None, edges: list[str] | None) -> str:
    name = name or ("fixed" if edges else "tiered")
    if name not in STRUCTURES:
        raise UsageError(
            f"--structure {name} is unknown; there are {', '.join(STRUCTURES)}"
        )
    if name == "fixed" and not edges:
        raise UsageError(
            "--structure fixed needs edges; name them with --edges, such as "
            "--edges 'extraversion -> wellness'"
        )
    if edges and name != "fixed":
        raise UsageError(f"--edges goes with --structure fixed, which is {name}")
    return name


def _pairs(option: str, text: str | None) -> dict[str, str]:
    """Return ``a=x,b=y`` as a mapping."""
    found: dict[str, str] = {}
    for part in (part.strip() for part in (text or "").split(",")):
        if not part:
            continue
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not (name and sign and value):
            raise UsageError(f"{option} has '{part}', which is not NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} names {name} twice; name it once")
        found[name] = value
    return found


def _scale(text: str | None) -> tuple[float, float]:
    if text is None:
        return 0.0, 1.0
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise UsageError(f"--scale {text} is not LOW,HIGH, such as 1,5")
    return low, high


def _interventions(texts: list[str] | tuple[str, ...]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for text in texts:
        name, value = assignment(text) if "=" in text else (text.strip(), None)
        if name in found:
            raise UsageError(f"--do names {name} twice; name it once")
        found[name] = value
    return found


def _progress(draws: int) -> Any:
    """Return a bar where there is someone to see it."""
    from tqdm import tqdm

    bar = tqdm(total=draws, desc="bootstrap", disable=None, leave=False)

    def step(done: int) -> None:
        bar.update(done - bar.n)
        if done == draws:
            bar.close()

    return step
