"""What an evaluation found, as tables in Markdown, as JSON and as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any

from mdlm_core.reports import html_facts, html_note, html_page, html_table, write_files

from .metrics.tables import markdown

NOTES = {
    "summary": "Means over the five traits. Flips: a trait of the persona is set to "
    "the mirrored value and the text written again under the same noise. Null: the "
    "same persona written anew. Net: flips less null. Undecided: readings of the texts "
    "behind r whose side the judge cannot say.",
    "alignment": "Correlation of the value that was asked for and what the judge "
    "reads in the text, with 95 % bootstrap intervals. The ceiling is the judge on "
    "held-out texts of the data, of known traits.",
    "flips": "Share of the texts that the judge reads on the other side after the "
    "trait was set, of those it read on the first. Off-target: other traits that "
    "change side. Lost: other traits of which the second text tells nothing. Edits: "
    "tokens that differ between the two texts. Intervals of 95 %, by bootstrap; those "
    "of the other columns are in the JSON.",
    "diversity": "Lower self-BLEU and higher distinct-n is more varied; beside the "
    "same numbers of held-out texts of the data, at the same N x W.",
    "disentanglement": "Beside a random linear map of the traits (all is there, "
    "nothing is apart), the same codes given to others (nothing is there), and a "
    "constant. The nodes of a persona hold its traits by construction; states are "
    "of texts that are read without a persona.",
    "bound": "elbo_ppl is the exponential of a bound on -log p per token.",
}

Card = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the report."""

    name: str
    """A key of `NOTES`."""
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(card: Card) -> list[Table]:
    """Return the tables of a card of `evaluate.evaluate`."""
    found = [_summary(card), _alignment(card)]
    found += [_flips(one) for one in card["guided"] if one["flips"]]
    if any(one["diversity"] for one in card["guided"]):
        found.append(_diversity(card))
    found += [
        _disentanglement(name, scores)
        for name, scores in card["disentanglement"].items()
    ]
    found.append(_bound(card))
    return found


def text(card: Card) -> str:
    """Return all tables in Markdown, the first of each kind with what it says."""
    head = (
        f"{card['run']}, {card['checkpoint']} ({card['weights']}), texts of "
        f"{card['length']} tokens; judge: {card['judge']}"
    )
    parts, told = [head], set()
    for table in tables(card):
        parts.append(f"## {table.title}")
        if table.name not in told:
            parts.append(fill(NOTES[table.name], 88))
            told.add(table.name)
        parts.append(markdown(table.head, table.rows))
    return "\n\n".join([*parts, f"Measured in {card['seconds']:.0f} s."])


def page(card: Card) -> str:
    """Return the report as one HTML page that needs no other file."""
    facts = ("checkpoint", "step", "weights", "data", "judge", "length")
    parts = [html_facts({name: card[name] for name in facts})]
    for table in tables(card):
        parts += [
            f"<h2>{escape(table.title)}</h2>",
            html_note(NOTES[table.name]),
            html_table(table.head, table.rows, words=1),
        ]
    parts.append(
        html_note(
            "Numbers are of a fitted model and its texts. They are no assessment of "
            "any person."
        )
    )
    return html_page(f"Evaluation of {card['run']}", parts)


def write(card: Card, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``.md`` and ``.html`` into a folder.

    Raises:
        UsageError: if the folder cannot be written.
    """
    files = {
        "evaluation.json": card,
        "evaluation.md": f"{text(card)}\n",
        "evaluation.html": page(card),
    }
    return write_files(folder, files)


def _summary(card: Card) -> Table:
    rows = []
    for one in card["guided"]:
        fit, flips = one["alignment"], one["flips"]
        samples = card["plan"]["samples"]
        rows.append(
            (
                f"{one['gamma']:g}",
                _number(_mean([each["r"]["value"] for each in fit])),
                _number(_mean([each["clear"]["value"] for each in fit])),
                _number(_mean([each["undecided"] / samples for each in fit])),
                *(
                    _number(_mean([each[name]["value"] for each in flips]))
                    for name in ("rate", "null", "net", "off_target", "edits")
                ),
                f"{one['nfe']:.0f}",
            )
        )
    head = ("gamma", "r", "accuracy (clear)", "undecided", "flips", "null", "net")
    return Table(
        "summary",
        "At each strength of guidance",
        (*head, "off-target", "edits", "NFE"),
        tuple(rows),
    )


def _alignment(card: Card) -> Table:
    columns = [("ceiling", card["ceiling"])]
    columns += [(f"gamma {one['gamma']:g}", one["alignment"]) for one in card["guided"]]
    rows = [
        (each["trait"], *(_interval(of[k]["r"]) for _, of in columns))
        for k, each in enumerate(card["ceiling"])
    ]
    rows.append(
        (
            "mean",
            *(_number(_mean([each["r"]["value"] for each in of])) for _, of in columns),
        )
    )
    return Table(
        "alignment",
        "Alignment r",
        ("trait", *(name for name, _ in columns)),
        tuple(rows),
    )


def _flips(one: Card) -> Table:
    names = ("rate", "null", "net", "off_target", "off_target_null", "lost", "edits")
    rows = [
        (
            each["trait"],
            *(
                _interval(each[name])
                if name in ("net", "off_target")
                else _number(each[name]["value"])
                for name in names
            ),
            str(each["rows"]),
        )
        for each in one["flips"]
    ]
    means = (
        _number(_mean([each[name]["value"] for each in one["flips"]])) for name in names
    )
    rows.append(("mean", *means, str(sum(each["rows"] for each in one["flips"]))))
    head = ("flips", "null", "net", "off-target", "its null", "lost", "edits", "texts")
    title = f"Flips at gamma {one['gamma']:g}"
    return Table("flips", title, ("trait", *head), tuple(rows))


def _diversity(card: Card) -> Table:
    groups = []
    for one in card["guided"]:
        if one["diversity"]:
            groups.append((f"gamma {one['gamma']:g}", one["diversity"]["written"]))
            groups.append(("held out", one["diversity"]["people"]))
    rows = [
        (
            name,
            f"{of['texts']} x {of['words']}",
            f"{of['self_bleu']:.3f}",
            *(_number(share, 3) for share in of["distinct"]),
        )
        for name, of in groups
    ]
    head = ("texts", "N x W", "self-BLEU-4", "distinct-1", "distinct-2", "distinct-3")
    return Table("diversity", "Diversity", head, tuple(rows))


def _disentanglement(name: str, scores: Card) -> Table:
    what = {"persona": "nodes of the persona", "text": "states of texts"}[name]
    rows = [
        (
            score,
            f"{one['value']:.3f}",
            f"{one['random']:.3f} ± {one['random_sd']:.3f}",
            f"{one['shuffled']:.3f} ± {one['shuffled_sd']:.3f}",
            f"{one['constant']:.3f}",
        )
        for score, one in scores.items()
    ]
    head = ("score", "value", "random map", "shuffled", "constant")
    return Table("disentanglement", f"Disentanglement of the {what}", head, tuple(rows))


def _bound(card: Card) -> Table:
    bound = card["bound"]
    chain = bound["ordered"]
    rows = [
        ("elbo_ppl, given the persona", _pm(bound["elbo_ppl"], bound["elbo_ppl_se"])),
        ("elbo_ppl, without", f"{bound['elbo_ppl_without_persona']:.3f}"),
        (f"ordered_ppl, {chain['rows']} rows", f"{chain['perplexity']:.3f}"),
        (f"  mixture of {chain['orders']} orders", f"{chain['mixed']:.3f}"),
    ]
    for one in card["guided"]:
        if one["generative"]:
            rows.append((f"gen_ppl, gamma {one['gamma']:g}", _gen(one["generative"])))
    if card.get("human_generative"):
        rows.append(("gen_ppl, people", _gen(card["human_generative"])))
    if card.get("reconstruction"):
        given = card["reconstruction"]
        rows.append(("reconstruction score of the encoder", f"{given['score']:.4f}"))
        rows.append(("  of a constant", f"{given['constant']:.4f}"))
    return Table("bound", "Held-out text", ("measure", "value"), tuple(rows))


def _gen(one: Card) -> str:
    return f"{one['perplexity']:.2f} (entropy {one['entropy']:.2f})"


def _pm(value: float, error: float) -> str:
    return f"{value:.3f} ± {error:.3f}"


def _interval(one: Card) -> str:
    if one["value"] is None:
        return "–"
    return f"{one['value']:.2f} ({_number(one['low'])} to {_number(one['high'])})"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
