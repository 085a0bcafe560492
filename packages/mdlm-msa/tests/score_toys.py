"""Toy denoisers whose laws can be written down."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.train.checkpoint import MODEL, write_checkpoint
from mdlm_core.train.folder import RunFolder, write_config
from mdlm_core.train.state import collect, named_tensors
from mdlm_msa.alphabet import ID_OF_STATE, MASK, VOCAB_SIZE


class ColumnLaws(nn.Module):
    """A law for each column, whatever else is visible."""

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self, laws: np.ndarray) -> None:
        """Take laws ``(L, 21)`` over the states."""
        super().__init__()
        table = torch.full((len(laws) + 1, VOCAB_SIZE), -50.0)
        table[1:, torch.from_numpy(ID_OF_STATE).long()] = (
            torch.from_numpy(laws).log().float()
        )
        self.table = nn.Parameter(table)

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        return self.table[batch.positions[..., 0]]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


class JointLaw(nn.Module):
    """The exact posterior of a joint law of the columns of the last row.

    The row's letters are those of the ids `letters`; other rows do not matter.
    """

    vocab_size, mask_id, time_conditioned = VOCAB_SIZE, MASK, False

    def __init__(self, joint: np.ndarray, letters: tuple[int, ...]) -> None:
        """Take a joint law with one axis a column, each of ``len(letters)``."""
        super().__init__()
        self.joint, self.letters = joint, letters
        self.weight = nn.Parameter(torch.zeros(1))

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        out = torch.full((*batch.tokens.shape, VOCAB_SIZE), -50.0)
        columns, last = self.joint.ndim, int(batch.positions[..., 1].max()) - 1
        inside = (batch.positions[..., 1] == last) & (batch.positions[..., 0] > 0)
        for b, places in enumerate(inside):
            row = batch.tokens[b][places].tolist()
            for column in range(columns):
                total = self.conditional(row, column)
                where = places.nonzero()[column, 0]
                for letter, mass in zip(self.letters, total, strict=True):
                    out[b, where, letter] = float(np.log(mass))
        return out

    def conditional(self, row: list[int], column: int) -> np.ndarray:
        """Return the law of a column given the visible letters of the others."""
        total = np.zeros(len(self.letters))
        for choice in product(range(len(self.letters)), repeat=self.joint.ndim):
            fits = all(
                i == column or row[i] == MASK or row[i] == self.letters[c]
                for i, c in enumerate(choice)
            )
            if fits:
                total[choice[column]] += self.joint[choice]
        return total / total.sum()

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def random_laws(columns: int, seed: int = 0) -> np.ndarray:
    """Return laws ``(L, 21)`` of which each gives the gap a share."""
    return np.random.default_rng(seed).dirichlet(np.full(21, 0.5), columns) + 1e-4


def write_run(folder: Path, *, length: int = 256) -> Path:
    """Write a run of a new tiny model, which is a profile, without training it."""
    catalog = load_catalog()
    config = resolve(catalog, plugin="msa", tiny=True).config
    source = catalog.build("dataset", config.data)
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    with global_seed(Noise(0)):
        module = task.build(source)
    folder.mkdir()
    place = RunFolder(folder)
    source.tokenizer.save(place.tokenizer)
    place.data.write_text(json.dumps({}), encoding="utf-8")
    tensors = {MODEL: collect(named_tensors(module))}
    write_checkpoint(place.checkpoints, 1, tensors, {"score": None, "length": length})
    write_config(place, config, catalog)
    return folder
