"""``mdlm msa prefer``: make pairs of alignments of which one is better."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdlm_core.cli.options import Device, Imports, Json, Out
from mdlm_core.errors import UsageError
from mdlm_msa.config.data import FILTERS

if TYPE_CHECKING:
    from mdlm_msa.preference.making import Candidates, Making, Write
    from mdlm_msa.preference.pairs import Pair

_LENGTH = 1024
_BATCH = 4
"""Pairs of a batch of the preset msa/align."""


def prefer(
    families: Annotated[
        list[str] | None,
        typer.Argument(metavar="FAMILIES", help="Alignments: files, folders or globs."),
    ] = None,
    out: Out = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="RUN",
            help="Compare alignments that this model writes; default: random subsets "
            "of the homologues.",
        ),
    ] = None,
    reward: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What is better: profile, pairs, conservation, pssm."
        ),
    ] = "profile",
    rows: Annotated[
        int, typer.Option(metavar="N", help="Rows of an alignment, at most.")
    ] = 16,
    candidates: Annotated[
        int, typer.Option(metavar="K", help="Alignments of a query.")
    ] = 10,
    per_query: Annotated[
        int, typer.Option("--per-query", metavar="N", help="Pairs of a query, at most.")
    ] = 4,
    prompt: Annotated[
        int,
        typer.Option(
            metavar="P", help="Homologues that all alignments of a query are given."
        ),
    ] = 0,
    min_difference: Annotated[
        float,
        typer.Option(metavar="D", help="Leave out pairs whose scores differ by less."),
    ] = 0.0,
    length: Annotated[
        int,
        typer.Option(
            metavar="L",
            help="Tokens of a canvas, at most; default: as the model was trained, or "
            "1024.",
        ),
    ] = 0,
    mix: Annotated[
        bool,
        typer.Option("--mix", help="Let natural and written alignments meet."),
    ] = False,
    row_filter: Annotated[
        str, typer.Option("--filter", metavar="NAME", help="default, msagpt or none.")
    ] = "default",
    steps: Annotated[
        int, typer.Option(metavar="T", help="Reverse steps of the model.")
    ] = 64,
    sampler: Annotated[
        str, typer.Option(metavar="NAME", help="Sampler of the model.")
    ] = "ddpm",
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Temperature of the model.")
    ] = 1.0,
    write: Annotated[
        Path | None,
        typer.Option(
            "--candidates-out",
            metavar="DIR",
            help="Also write the alignments as a3m files and a table of their scores, "
            "to be scored by another program.",
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Make pairs of the alignments in this table (candidates.csv) by "
            "--score-column, instead of FAMILIES.",
        ),
    ] = None,
    score_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of scores; higher is better."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Decides every draw.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --out.")
    ] = False,
    imports: Imports = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write pairs of alignments of one query, the better one and the worse one.

    Half of a family's homologues are put aside, and alignments of the query are scored
    by how like these they are; rows that repeat the query or each other cost, so that
    copies of the query do not win. The result is for 'mdlm msa align'. To score by
    something else, such as the confidence of a folding program: --candidates-out DIR,
    add a column to DIR/candidates.csv, then --scores DIR/candidates.csv
    --score-column NAME.
    """
    _check(families, out, model, mix, row_filter, write, scores, score_column, force)
    from mdlm_msa.preference.making import Making, paired
    from mdlm_msa.preference.pairs import write_pairs
    from mdlm_msa.preference.rewards import find

    find(reward)
    making = Making(
        reward=reward,
        rows=_at_least(1, "--rows", rows),
        candidates=_at_least(2, "--candidates", candidates),
        per_query=_at_least(1, "--per-query", per_query),
        prompt=_at_least(0, "--prompt", prompt),
        min_difference=min_difference,
        length=_at_least(0, "--length", length) or _LENGTH,
        mix=mix,
        seed=seed,
    )
    skipped: list[str] = []
    if scores is not None:
        from mdlm_msa.preference.candidate_files import read_candidates

        groups = read_candidates(scores, score_column or "")
    else:
        loaded = None
        if model is not None:
            making, loaded = _load(model, making, length, device, imports)
        settings = {"steps": steps, "sampler": sampler, "temperature": temperature}
        with _progress(model is not None) as done:
            writer = None if loaded is None else _writer(loaded, making, settings, done)
            groups = _groups(families or [], making, row_filter, writer, skipped)
    for line in skipped:
        _say(f"left out: {line}")
    if write is not None:
        from mdlm_msa.preference.candidate_files import write_candidates

        _say(f"wrote {write_candidates(groups, write)} alignments to '{write}'")
    pairs = [pair for group in groups for pair in paired(group, making)]
    if out is not None:
        if not pairs:
            raise UsageError(_no_pair(len(groups), len(skipped), making))
        write_pairs(pairs, out, force=force)
    differences = [pair.score_difference or 0.0 for pair in pairs]
    card = {
        "pairs": len(pairs),
        "queries": len({pair.query.tobytes() for pair in pairs}),
        "left_out": skipped,
        "reward": score_column or reward,
        "mean_difference": sum(differences) / len(pairs) if pairs else None,
        "out": None if out is None else str(out),
    }
    print(json.dumps(card, indent=2) if as_json else _text(card, _learned(pairs)))


def _no_pair(queries: int, skipped: int, making: Making) -> str:
    """Return why there is no pair, and what can be done."""
    from mdlm_msa.preference.making import FEWEST

    if not queries:
        return (
            f"no query is left: {skipped} of {skipped} families were left out, for the "
            f"reasons above; give alignments with {FEWEST} homologues or more"
        )
    why = f" ({skipped} were left out, see above)" if skipped else ""
    way = (
        f"scores differ by less than --min-difference {making.min_difference:g}; lower "
        f"it, or raise --candidates"
        if making.min_difference > 0
        else "no score differs from another; raise --candidates or --rows"
    )
    return f"no pair is left of {queries} queries{why}: {way}, or give other families"


def _learned(pairs: Sequence[Pair]) -> int:
    """Return how many of the pairs 'mdlm msa align' would learn from."""
    from mdlm_msa.config import PairsConfig
    from mdlm_msa.preference.source import divide

    return len(divide(pairs, PairsConfig())["train"]) if len(pairs) > 1 else 0


def _text(card: dict[str, Any], learned: int) -> str:
    lines = [
        f"{card['pairs']} pairs of {card['queries']} queries by '{card['reward']}'"
        + (f", mean difference {card['mean_difference']:.3f}" if card["pairs"] else "")
    ]
    if card["out"] and learned < _BATCH:
        lines.append(
            f"too few for 'mdlm msa align': {learned} would be left to learn from, as "
            f"some are held out, and a batch takes {_BATCH}; give more families, or "
            f"raise --per-query and --candidates"
        )
    elif card["out"]:
        lines.append(
            f"next:\n  mdlm msa align --data {card['out']} --model RUN --out RUN2"
        )
    return "\n".join(lines)


def _check(
    families: list[str] | None,
    out: Path | None,
    model: Path | None,
    mix: bool,
    row_filter: str,
    write: Path | None,
    scores: Path | None,
    column: str | None,
    force: bool,
) -> None:
    """Refuse options that do not go together, before anything is read."""
    if out is None and write is None:
        raise UsageError("say where the pairs go: add --out FILE")
    if out is not None and out.exists() and not force:
        raise UsageError(f"--out '{out}' exists; choose another file, or add --force")
    if (scores is None) == (not families):
        raise UsageError(
            "give FAMILIES to draw alignments from, or --scores with the table of "
            "alignments that are there: one of the two"
        )
    if scores is not None and column is None:
        raise UsageError("--scores needs --score-column NAME: which column decides")
    if scores is None and column is not None:
        raise UsageError("--score-column is for --scores; give both")
    if scores is not None and (model is not None or write is not None):
        raise UsageError("--scores makes no alignments; leave out --model and others")
    if mix and model is None:
        raise UsageError("--mix is for --model: natural beside written alignments")
    if row_filter not in FILTERS:
        raise UsageError(
            f"--filter is '{row_filter}'; it must be one of {', '.join(FILTERS)}"
        )


def _at_least(low: int, option: str, value: int) -> int:
    if value < low:
        raise UsageError(f"{option} is {value}; it must be at least {low}")
    return value


def _load(
    model: Path,
    making: Making,
    length: int,
    device: str | None,
    imports: list[str] | None,
) -> tuple[Making, Any]:
    """Return the model, and how pairs are made with it."""
    from dataclasses import replace

    from mdlm_core.catalog import load_catalog
    from mdlm_core.train.runs import load_run

    run = load_run(
        model,
        device=device or "auto",
        catalog=load_catalog(*(imports or ())),
        say=_say,
    )
    return replace(making, length=length or run.source.length), run


def _writer(
    run: Any, making: Making, settings: dict[str, Any], done: Callable[[int], object]
) -> Write:
    from mdlm_msa.config import GenerationConfig
    from mdlm_msa.preference.written import writer

    config = GenerationConfig(**settings)
    return writer(run, config, length=making.length, done=done)


def _groups(
    families: list[str],
    making: Making,
    row_filter: str,
    write: Write | None,
    skipped: list[str],
) -> list[Candidates]:
    """Return the candidates of each family, and say which were left out."""
    from mdlm_core.errors import DataError
    from mdlm_msa.filtering import filter_rows, unfit_family
    from mdlm_msa.formats.reading import read_alignments
    from mdlm_msa.preference.making import make_candidates

    rules = FILTERS[row_filter]
    groups = []
    for path in families:
        for alignment in read_alignments(path):
            kept, _ = filter_rows(alignment.canonical(), rules)
            if why := unfit_family(kept, rules):
                skipped.append(f"'{kept.name}' has {why}")
                continue
            try:
                groups.append(make_candidates(kept, making, write))
            except DataError as error:
                skipped.append(str(error))
    return groups


@contextmanager
def _progress(shown: bool) -> Iterator[Callable[[int], object]]:
    """Count the alignments that are written, on a terminal."""
    from tqdm import tqdm

    quiet = not shown or not sys.stderr.isatty()
    with tqdm(unit=" alignments", disable=quiet, leave=False) as bar:
        yield bar.update


def _say(text: str) -> None:
    print(text, file=sys.stderr)
