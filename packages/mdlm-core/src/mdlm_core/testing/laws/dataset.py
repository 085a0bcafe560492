"""Laws about data sources. Letters: B batch, L length, V vocabulary."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import load_tokenizer
from mdlm_core.protocols import DataSource
from mdlm_core.testing.law import hold, same

_SEED = 3


def _size(source: DataSource) -> int:
    """Return the rows of a global batch: even, and no more than there are."""
    rows = source.size("train")
    return 4 if rows is None else max(2, min(4, rows // 2 * 2))


def _train(source: DataSource, count: int, **more: Any) -> list[Batch]:
    """Return the first `count` training batches."""
    settings = {"size": _size(source), "seed": _SEED, **more}
    return list(islice(source.batches("train", **settings), count))


def _same(found: Batch, expected: Batch, what: str) -> None:
    """Hold that two batches are the same rows."""
    for name in ("tokens", "frozen", "pad", "sample_id"):
        same(getattr(found, name), getattr(expected, name), f"{what}: {name}")
    hold(found.epoch == expected.epoch, f"{what}: epoch {found.epoch}")


def batches_are_batches(source: DataSource) -> None:
    """Batches are (B, L or fewer) with the types of `Batch`; padding is frozen."""
    for batch in _train(source, 2):
        hold(isinstance(batch, Batch), f"got a {type(batch).__name__}")
        found = tuple(batch.tokens.shape)
        shape = (_size(source), found[-1])
        hold(found == shape, f"tokens are {found}")
        hold(0 < found[1] <= source.length, f"tokens are {found}, L {source.length}")
        hold(batch.tokens.dtype == torch.int64, f"tokens are {batch.tokens.dtype}")
        hold(batch.sample_id.shape == shape[:1], "sample_id is not (B,)")
        for name in ("frozen", "pad"):
            tensor = getattr(batch, name)
            right = tensor.shape == shape and tensor.dtype == torch.bool
            hold(right, f"{name} is {tuple(tensor.shape)} {tensor.dtype}")
        hold(not (batch.pad & ~batch.frozen).any(), "padding is not frozen")
        hold(batch.free.any(), "no position is free, so that nothing can be learned")
        for name, value in batch.condition.items():
            right = value.shape[:1] == shape[:1]
            hold(right, f"condition '{name}' is {tuple(value.shape)}")


def tokens_are_in_the_vocabulary(source: DataSource) -> None:
    """Tokens are ids of the tokenizer, and never the mask."""
    tokenizer = source.tokenizer
    for batch in _train(source, 4):
        low, high = int(batch.tokens.min()), int(batch.tokens.max())
        inside = low >= 0 and high < tokenizer.vocab_size
        hold(inside, f"ids {low} to {high}; V is {tokenizer.vocab_size}")
        hold((batch.tokens != tokenizer.mask_id).all(), "the mask is among them")


def order_depends_on_the_seed_alone(source: DataSource) -> None:
    """The same seed gives the same batches, and another seed other ones."""
    first = _train(source, 3)
    for found, expected in zip(_train(source, 3), first, strict=True):
        _same(found, expected, "again")
    other = _train(source, 3, seed=_SEED + 1)
    pairs = zip(other, first, strict=True)
    hold(
        any(not torch.equal(a.sample_id, b.sample_id) for a, b in pairs),
        "another seed gives the same order",
    )


def any_batch_can_be_the_first(source: DataSource) -> None:
    """Starting at batch k gives what comes after k batches, which a resume needs."""
    rows = source.size("train")
    later = 2 if rows is None else rows // _size(source) + 1  # in the second epoch
    later = min(later, 50)
    expected = _train(source, later + 1)[-1]
    _same(_train(source, 1, start=later)[0], expected, f"started at {later}")


def processes_share_a_batch(source: DataSource) -> None:
    """The parts of two processes, put together, are the batch of one process."""
    whole = _train(source, 2)
    parts = [_train(source, 2, rank=rank, world=2) for rank in (0, 1)]
    for index, batch in enumerate(whole):
        for name in ("tokens", "sample_id"):
            found = torch.cat([getattr(part[index], name) for part in parts])
            same(found, getattr(batch, name), f"{name} of batch {index}")


def an_epoch_has_each_row_once(source: DataSource) -> None:
    """Within an epoch no row comes twice, and the next epoch has another order."""
    rows = source.size("train")
    if rows is None or rows > 20_000:
        return
    count = rows // _size(source)
    ids = [b.sample_id for b in _train(source, 2 * count)]
    first, second = torch.cat(ids[:count]), torch.cat(ids[count:])
    hold(len(set(first.tolist())) == len(first), "a sample_id comes twice in an epoch")
    if count > 2:
        hold(not torch.equal(first, second), "both epochs have the same order")


def validation_ends(source: DataSource) -> None:
    """Held-out data has as many rows as it says, the same ones each time."""
    sweeps = [
        list(islice(source.batches("validation", size=4, seed=seed), 500))
        for seed in (0, 1)
    ]
    hold(sweeps[0], "there is no held-out batch")
    for found, expected in zip(*sweeps, strict=True):
        _same(found, expected, "another seed")
    rows, said = sum(map(len, sweeps[0])), source.size("validation")
    if said is not None and said <= 2000:
        hold(rows == said, f"{rows} rows came, size says {said}")


def card_can_be_written(source: DataSource) -> None:
    """The card is JSON, names the tokenizer, and is the same each time."""
    card = source.card()
    hold("tokenizer" in card, f"no tokenizer in {sorted(card)}")
    hold(json.loads(json.dumps(card)) == json.loads(json.dumps(source.card())), "moved")


def text_comes_back(source: DataSource) -> None:
    """Decoding, encoding and decoding again gives the same text, without a mask."""
    tokenizer = source.tokenizer
    for row in _train(source, 1)[0].tokens.tolist():
        text = tokenizer.decode(row)
        ids = tokenizer.encode(text)
        hold(tokenizer.mask_id not in ids, "encode made a mask")
        again = tokenizer.decode(ids)
        hold(again == text, f"{text[:60]!r} became {again[:60]!r}")


def tokenizer_survives_saving(source: DataSource) -> None:
    """A saved tokenizer is loaded by `load_tokenizer`, and gives the same ids."""
    tokenizer = source.tokenizer
    text = tokenizer.decode(_train(source, 1)[0].tokens[0].tolist())
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        other = load_tokenizer(Path(folder))
    hold(other.fingerprint() == tokenizer.fingerprint(), "another fingerprint")
    for name in ("vocab_size", "mask_id", "eod_id", "pad_id"):
        hold(getattr(other, name) == getattr(tokenizer, name), f"another {name}")
    hold(other.encode(text) == tokenizer.encode(text), "other ids for the same text")
