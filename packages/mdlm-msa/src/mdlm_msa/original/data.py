"""`MSADataset` and `MSAPreferenceDataset`: items as the original's trainers see them.

Training here reads batches of `data.source` and `preference.source`; these show one
canvas at a time. Letters: L tokens of a canvas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from mdlm_core.data.batch import Batch
from mdlm_msa import layout
from mdlm_msa.config import AlignmentsConfig
from mdlm_msa.data.source import MSASource, build
from mdlm_msa.preference.pairs import Pair, read_pairs

Item = dict[str, Tensor]


class MSADataset(Dataset[Item]):
    """Canvases of the first epoch of alignments.

    An item has ``input_ids``, ``position_ids`` (columns), ``block_position_ids`` (rows)
    and ``context_mask`` (true for what is given: query, prompt, separators), each
    ``(L,)``.
    """

    def __init__(
        self,
        path: Path | str = "",
        max_length: int = 2048,
        max_rows: int = 8,
        *,
        split: str = "train",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        """Read alignments.

        Args:
            path: a file, a folder, a glob; empty for synthetic families.
            max_length: tokens of a canvas.
            max_rows: rows of a canvas, the query included.
            split: "train" or "validation".
            seed: decides rows and order.
            settings: others of `AlignmentsConfig`.
        """
        settings = {"prompt_rows": -1, **settings}
        config = AlignmentsConfig(
            path=str(path), length=max_length, rows=max_rows, **settings
        )
        self.source: MSASource = build(config)
        self.split = split
        self.seed = seed

    def __len__(self) -> int:
        return self.source.size(self.split)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        batches = self.source.batches(
            self.split, size=1, seed=self.seed, start=index % len(self)
        )
        return as_item(next(batches))


class MSAPreferenceDataset(Dataset[Item]):
    """Pairs of alignments of one query.

    An item has what an item of `MSADataset` has, with the prefixes ``winner_`` and
    ``loser_``.
    """

    def __init__(self, path: Path | str, max_length: int = 0) -> None:
        """Read JSON lines of pairs.

        Args:
            path: the file.
            max_length: leave out pairs with more tokens; 0 keeps all.
        """
        self.pairs: list[Pair] = [
            pair
            for pair in read_pairs(path)
            if not max_length or pair.tokens <= max_length
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Item:
        winner, loser = self.pairs[index].canvases()
        return {
            f"{name}_{key}": value
            for name, canvas in (("winner", winner), ("loser", loser))
            for key, value in as_item(layout.batch([canvas])).items()
        }


def as_item(batch: Batch) -> Item:
    """Return a batch of one canvas as the original's tensors."""
    assert batch.positions is not None
    size = int((~batch.pad[0]).sum())
    return {
        "input_ids": batch.tokens[0, :size],
        "position_ids": batch.positions[0, :size, 0],
        "block_position_ids": batch.positions[0, :size, 1],
        "context_mask": batch.frozen[0, :size],
    }
