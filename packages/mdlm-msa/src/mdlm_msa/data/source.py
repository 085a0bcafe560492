"""Batches of canvases of alignments, in an order that depends on the seed alone.

Letters: B canvases of a batch, E canvases of an epoch, F families, L tokens.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256

import numpy as np
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import check_request, share, shuffled
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alignment import Alignment
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.layout import batch as on_canvas
from mdlm_msa.tokenizer import AlignmentTokenizer

from .canvases import Chooser, Plan, Shapes, measured, notes_of, plan, tokens
from .division import Divided, divide, rules_of
from .family import Family, Rows
from .learned import NAMED, query_hash
from .synthetic import synthetic_families

_LOG = logging.getLogger(__name__)
_LEAST = 64
"""Canvases of an epoch, at least, if the settings do not say."""
_ALIKE = 8
"""Batches that are sorted by size together."""


class MSASource:
    """Canvases of rows of families; a `protocols.DataSource`.

    A canvas is the query, some homologues that are given, and some that are restored:
    see `layout`. How many there are, which, in which order, and which columns if the
    query is too long, is drawn anew in every epoch from (seed, epoch, number of the
    canvas), so that it depends neither on processes nor on a resume. Alignments are
    held in memory, one byte for each residue.
    """

    families: dict[str, Family]
    """By name, filtered, with the numbers of their training and held-out rows."""

    def __init__(self, divided: Divided, config: AlignmentsConfig) -> None:
        """Take over families that were filtered and divided."""
        self.tokenizer = AlignmentTokenizer()
        self.length = config.length
        self.families = divided.families
        self._config = config
        self._divided = divided
        homes = list(self.families.values())
        self._chooser = Chooser(homes, config)
        self._shapes = Shapes(homes, [len(home.train_rows) for home in homes], config)
        self._chance = self._chooser.chance()
        self._measured = list(measured(homes, config))
        rows = sum(len(home.train_rows) for home in homes)
        enough = rows / self._shapes.mean(self._chance)
        self._epoch = config.epoch or max(_LEAST, round(enough))

    @classmethod
    def from_alignments(
        cls,
        alignments: Iterable[Alignment],
        config: AlignmentsConfig,
        contacts: Mapping[str, Rows] | None = None,
    ) -> MSASource:
        """Filter and divide alignments; see `division.divide`.

        The first process says which held-out families are related to others, and if
        rows are held out since there is one family alone.
        """
        divided = divide(alignments, config, contacts)
        if os.environ.get("RANK", "0") == "0":
            if divided.related:
                _LOG.warning("%s", _related_line(divided.related))
            if divided.alone:
                name, rows = divided.alone
                _LOG.warning(
                    "'%s' is the only family, so that %d of its rows are held out "
                    "instead of a family; --family also gives each of its columns a "
                    "prior of its own",
                    name,
                    rows,
                )
        return cls(divided, config)

    def size(self, split: str) -> int:
        """Return the canvases of an epoch, or those that are measured."""
        check_request(split, 1, 0, 0, 1)
        return self._epoch if split == "train" else len(self._measured)

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield this process's canvases of global batch `start`, `start + 1`, ...

        A batch of "train" has canvases of about the same size; families come in
        proportion to their chance, see `AlignmentsConfig.weighting`. "validation" is in
        order and does not depend on `seed`.

        Raises:
            DataError: at once, if an epoch does not fill one batch.
        """
        check_request(split, size, start, rank, world)
        if split == "validation":
            return self._in_order(size, start, rank, world)
        if self._epoch < size:
            raise DataError(
                f"an epoch has {self._epoch} canvases, and a batch takes {size}; "
                f"raise data.epoch or lower train.batch_size"
            )
        return self._shuffled(size, seed, start, rank, world)

    def _in_order(
        self, size: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        chooser = self._chooser
        for first in range(start * size, len(self._measured), size):
            whole = np.arange(first, min(first + size, len(self._measured)))
            mine = share(whole, rank, world)
            found = [self._measured[i] for i in mine] or [self._measured[first]]
            batch = on_canvas(
                [chooser.canvas(placed) for placed, _ in found],
                torch.from_numpy(mine if len(mine) else whole[:1]),
                width=max(tokens(*self._measured[i]) for i in whole),
            )
            yield batch.select(slice(0, len(mine)))

    def _shuffled(
        self, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        steps = self._epoch // size
        epoch, index = divmod(start, steps)
        while True:
            noise = Noise(seed).child("msa", "epoch", epoch)
            planned = plan(self._shapes, self._chance, self._epoch, noise)
            order = shuffled(self._epoch, seed, epoch)[: steps * size]
            for rows in by_size(planned.size, order, size, seed, epoch)[index:]:
                mine = share(rows, rank, world)
                yield self._train_batch(planned, rows, mine, noise, epoch)
            epoch, index = epoch + 1, 0

    def _train_batch(
        self, planned: Plan, rows: Rows, mine: Rows, noise: Noise, epoch: int
    ) -> Batch:
        canvases = []
        for i in mine.tolist():
            family = int(planned.family[i])
            width = int(self._shapes.width[family])
            placed = self._chooser.place(
                family,
                width,
                int(planned.homologues[i]),
                int(planned.given[i]),
                noise.child("canvas", i),
            )
            canvases.append(self._chooser.canvas(placed))
        return on_canvas(
            canvases,
            torch.from_numpy(mine),
            epoch,
            width=int(planned.size[rows].max()),
        )

    def card(self) -> dict[str, object]:
        """Return what identifies the data, and what was left out of it."""
        done, config = self._divided, self._config
        rules = rules_of(config)
        return {
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "length": self.length,
            "families": len(self.families),
            "synthetic": not config.path,
            "held_out_families": [n for n, f in self.families.items() if f.whole],
            "filter": {name: getattr(rules, name) for name in rules.__slots__},
            "skipped_families": dict(done.skipped),
            "dropped_rows": notes_of(done.dropped),
            "rows_like_held_out_ones": done.too_close,
            "related_to_training": {
                held: {"family": name, "words": round(part, 3)}
                for held, (name, part) in done.related.items()
            },
            "training_queries": self._queries(),
            "notes": notes_of(done.notes),
            "splits": {
                "train": self._split_card("train_rows", self._epoch),
                "validation": self._split_card("held_out_rows", len(self._measured)),
            },
        }

    def _queries(self) -> dict[str, str] | None:
        """Return hashes of the queries that are learned from; None if too many."""
        homes = [home for home in self.families.values() if not home.whole]
        if len(homes) > NAMED:
            return None
        return {home.name: query_hash(home.alignment) for home in homes}

    def _split_card(self, which: str, canvases: int) -> dict[str, object]:
        digest, rows, residues, families = sha256(), 0, 0, 0
        for family in self.families.values():
            numbers = getattr(family, which)
            if not len(numbers):
                continue
            part = family.alignment.rows[np.concatenate([[0], numbers])]
            digest.update(repr((family.name, part.shape)).encode())
            digest.update(part.tobytes())
            families += 1
            rows += len(numbers)
            residues += int(family.alignment.is_residue[numbers].sum())
        return {
            "families": families,
            "rows": rows,
            "residues": residues,
            "canvases": canvases,
            "sha256": digest.hexdigest(),
        }


def by_size(sizes: Rows, order: Rows, size: int, seed: int, epoch: int) -> list[Rows]:
    """Return batches of `size` canvases of about the same size, in a drawn order.

    Canvases are sorted within 8 batches at a time, so that what stands together in a
    batch is another choice in every epoch.
    """
    found = []
    for first in range(0, len(order), _ALIKE * size):
        part = order[first : first + _ALIKE * size]
        part = part[np.argsort(sizes[part], kind="stable")]
        found += [part[i : i + size] for i in range(0, len(part), size)]
    noise = Noise(seed).child("msa", "batches").integer()
    return [found[i] for i in shuffled(len(found), noise, epoch)]


def _related_line(related: Mapping[str, tuple[str, float]]) -> str:
    """Say which held-out families resemble one that is learned from."""
    name, (other, part) = max(related.items(), key=lambda item: item[1][1])
    several = len(related) > 1
    return (
        f"{len(related)} famil{'ies' if several else 'y'} held out whole "
        f"resemble{'' if several else 's'} one that is learned from: '{name}' shares "
        f"{part:.0%} of the five-letter words of its query with '{other}'"
        f"{', and so on' if several else ''}; hold both out (data.hold_out), or "
        f"numbers on it are too good"
    )


def build(config: AlignmentsConfig) -> MSASource:
    """Return the data source that the settings describe.

    Raises:
        DataError: if a file cannot be read, or nothing is left to learn from or to
            measure on.
    """
    if not config.path:
        noise = Noise(config.seed).child("msa", "synthetic")
        made = synthetic_families(config.families, noise)
        return MSASource.from_alignments(
            (family.alignment for family in made),
            config,
            {
                family.name: family.contacts
                for family in made
                if family.contacts is not None
            },
        )
    from mdlm_msa.formats.reading import read_alignments

    found = read_alignments(
        config.path,
        format=config.format,
        max_rows=config.max_rows,
        seed=config.seed,
    )
    return MSASource.from_alignments(found, config)
