"""From alignments to families: filters, and what is held out.

Families are held out whole, chosen by a hash of their names, so that the order of files
does not matter. Rows are held out within the other families; rows like
them are then not learned from. Letters: R rows, L columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

import numpy as np

from mdlm_core.errors import DataError, UnknownNameError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.config import FILTERS, AlignmentsConfig, RowFilter
from mdlm_msa.filtering import filter_rows, unfit_family
from mdlm_msa.identity import identity_pair, nearest_identity

from .family import Family, Rows
from .related import related_queries

APART = 0.9
"""id_pair above which a row is like a held-out one, or like the query; whatever the
filter keeps, so that numbers on held-out rows mean the same after every filter."""
HOLDOUT = 0.1
"""Share of families that are held out, or of the rows of one family alone, if the
settings do not say."""
_CHANGED = ("min_coverage", "min_identity", "max_identity", "max_gaps")


def rules_of(config: AlignmentsConfig) -> RowFilter:
    """Return the filter of the settings, with what they change of it."""
    changed = {
        name: value for name in _CHANGED if (value := getattr(config, name)) is not None
    }
    return replace(FILTERS[config.filter], **changed)


@dataclass(slots=True)
class Divided:
    """Families and what was done to get them."""

    families: dict[str, Family] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a family is left out, by its name."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Homologues that the filter dropped, by rule."""
    notes: Counter[str] = field(default_factory=Counter)
    """What the reader met."""
    too_close: int = 0
    """Homologues that are not learned from because a held-out row is like them."""
    related: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Families held out whole whose query is related to one that is learned from: that
    family, and the share of words; see `related_queries`."""
    alone: tuple[str, int] | None = None
    """The one family there is, and how many of its rows are held out, if it was left
    to us what is held out."""


def divide(
    found: Iterable[Alignment],
    config: AlignmentsConfig,
    contacts: Mapping[str, Rows] | None = None,
) -> Divided:
    """Filter alignments and decide what is held out.

    Args:
        found: alignments, the query first; read once.
        config: how.
        contacts: pairs of columns that are known to touch, by name of the family.

    Raises:
        DataError: if nothing is left to learn from, or nothing to measure on.
        UnknownNameError: if `config.hold_out` names a family that is not there.
    """
    rules = rules_of(config)
    done = Divided()
    for alignment in found:
        name = _fresh(alignment.name or "family", done)
        kept, report = filter_rows(_at_most(alignment, name, config).canonical(), rules)
        done.dropped.update(report.dropped)
        done.notes.update(kept.notes)
        reason = unfit_family(kept, rules)
        if reason:
            done.skipped[name] = reason
        else:
            kept = replace(kept, name=name, letters=None)
            known = (contacts or {}).get(name)
            done.families[name] = Family.of(kept, contacts=known)
    if not done.families:
        raise DataError(_nothing_left(done, config))
    alone = len(done.families) == 1 and config.holdout is None and not config.hold_out
    share = config.holdout_rows or (HOLDOUT if alone else 0.0)
    whole = set() if alone else _whole(done.families, config)
    for name, family in done.families.items():
        if name in whole:
            done.families[name] = replace(
                family, train_rows=_NONE, held_out_rows=family.train_rows
            )
        else:
            done.families[name], lost = hold_out_rows(
                family,
                share,
                APART,
                Noise(config.seed).child("msa", "held-out rows", name),
            )
            done.too_close += lost
    _check(done, config)
    if alone and not config.holdout_rows:
        (family,) = done.families.values()
        done.alone = family.name, len(family.held_out_rows)
    done.related = related_queries(done.families)
    return done


_NONE: Rows = np.zeros(0, np.int64)


def hold_out_rows(
    family: Family, share: float, max_identity: float, noise: Noise
) -> tuple[Family, int]:
    """Hold out a share of the homologues of a family.

    Rows that are like the query (id_pair above `max_identity`) are not held out, since
    the query is shown. Of the others, those that are like a held-out row are not
    learned from. A family of which nothing would be left to learn from holds out none.

    Returns:
        The family, and how many rows are neither learned from nor held out.
    """
    homologues = family.train_rows
    if not share or len(homologues) < 2:
        return family, 0
    states = family.alignment.states
    limit = min(max_identity, 1 - 1e-6)
    unlike = identity_pair(states[:1], states[homologues])[0] <= limit
    candidates = homologues[unlike]
    rng = np.random.default_rng(noise.integer())
    count = max(1, round(share * len(homologues)))
    held = np.sort(rng.permutation(candidates)[:count])
    rest = np.setdiff1d(homologues, held)
    apart = nearest_identity(states[rest], states[held]) <= limit
    train = rest[apart]
    if not len(held) or not len(train):
        return family, 0
    return (
        replace(family, train_rows=train, held_out_rows=held),
        len(rest) - len(train),
    )


def _fresh(name: str, done: Divided) -> str:
    """Return `name`, or with a number if it was there before."""
    taken = done.families.keys() | done.skipped.keys()
    number, found = 2, name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _at_most(alignment: Alignment, name: str, config: AlignmentsConfig) -> Alignment:
    """Return the alignment with a random choice of `config.max_rows` homologues."""
    if alignment.depth - 1 <= config.max_rows:
        return alignment
    noise = Noise(config.seed).child("msa", "max rows", name)
    rng = np.random.default_rng(noise.integer())
    chosen = rng.permutation(alignment.depth - 1)[: config.max_rows] + 1
    return alignment.select(np.concatenate([[0], np.sort(chosen)]))


def _whole(families: Mapping[str, Family], config: AlignmentsConfig) -> set[str]:
    """Return the families that are held out whole."""
    if config.hold_out:
        for name in config.hold_out:
            if name not in families:
                near = get_close_matches(name, families, 3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise UnknownNameError(
                    f"data.hold_out names the family '{name}', which is not among the "
                    f"{len(families)} that were read{hint}"
                )
        chosen = set(config.hold_out)
    elif share := HOLDOUT if config.holdout is None else config.holdout:
        count = max(1, round(share * len(families)))
        noise = Noise(config.seed).child("msa", "held-out families")
        ranked = sorted(families, key=lambda name: noise.child(name).integer())
        chosen = set(ranked[:count])
    else:
        return set()
    queries = {families[name].alignment.query for name in chosen}
    return {
        name
        for name, family in families.items()
        if name in chosen or family.alignment.query in queries
    }


def _check(done: Divided, config: AlignmentsConfig) -> None:
    families = done.families.values()
    if all(family.whole for family in families):
        names = _some(list(done.families))
        raise DataError(
            f"all families are held out ({names}), and none is left to learn from; "
            f"give more families, or hold out rows instead with --set data.holdout=0 "
            f"--set data.holdout_rows=0.1; with --family and one alignment, 'mdlm msa "
            f"train' does so and learns a model of it alone"
        )
    if not any(len(family.held_out_rows) for family in families):
        settings = f"data.holdout_rows={config.holdout_rows}"
        if config.holdout is not None:
            settings = f"data.holdout={config.holdout}, {settings}"
        raise DataError(
            f"nothing is held out of {_some(list(done.families))}, so that nothing "
            f"could be measured: {settings}; raise them with --set, or give more "
            f"homologues that are unlike the query and each other"
        )


def _nothing_left(done: Divided, config: AlignmentsConfig) -> str:
    if not done.skipped:
        return f"there is no alignment in {config.path or 'the data'}"
    reasons = "; ".join(
        f"{name}: {reason}" for name, reason in list(done.skipped.items())[:5]
    )
    rules = ", ".join(f"{count} by '{rule}'" for rule, count in done.dropped.items())
    return (
        f"the filter '{config.filter}' leaves no family of {len(done.skipped)} "
        f"({reasons}); it dropped {rules or 'no row'}; loosen it with "
        f"data.filter=none, data.min_coverage or data.min_identity"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
