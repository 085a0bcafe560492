"""The batch: what it fills in, and that rows stay together."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mdlm_core.data.batch import Batch

TOKENS = torch.arange(12).reshape(3, 4)
PAD = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]], dtype=torch.bool)


def full():
    return Batch.of(
        TOKENS,
        frozen=TOKENS % 4 == 0,
        pad=PAD,
        sample_id=torch.tensor([7, 8, 9]),
        positions=TOKENS.unsqueeze(-1).expand(3, 4, 2),
        documents=TOKENS // 2,
        condition={"label": torch.tensor([1.0, 2.0, 3.0])},
        epoch=5,
    )


def test_what_is_not_given():
    batch = Batch.of(TOKENS)
    assert len(batch) == 3
    assert batch.length == 4
    assert not batch.pad.any()
    assert not batch.frozen.any()
    assert batch.free.all()
    assert batch.sample_id.tolist() == [0, 1, 2]
    assert batch.positions is None
    assert batch.documents is None
    assert dict(batch.condition) == {}
    assert batch.epoch == 0


def test_padding_is_frozen():
    assert torch.equal(Batch.of(TOKENS, pad=PAD).frozen, PAD)
    assert torch.equal(full().frozen, (TOKENS % 4 == 0) | PAD)
    assert torch.equal(full().free, ~full().frozen)


@pytest.mark.parametrize(
    "rows", [torch.tensor([2, 0]), slice(1, 3), torch.tensor([True, False, True])]
)
def test_rows_are_selected_everywhere(rows):
    batch, part = full(), full().select(rows)
    for field in dataclasses.fields(Batch):
        before, after = getattr(batch, field.name), getattr(part, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(after, before[rows]), field.name
    assert torch.equal(part.condition["label"], batch.condition["label"][rows])
    assert part.epoch == 5


def test_every_tensor_moves():
    moved = full().to("meta")
    tensors = [getattr(moved, field.name) for field in dataclasses.fields(Batch)]
    tensors += moved.condition.values()
    devices = {t.device.type for t in tensors if isinstance(t, torch.Tensor)}
    assert devices == {"meta"}


def test_another_canvas_keeps_the_rest():
    batch = full()
    other = batch.with_tokens(TOKENS + 1)
    assert torch.equal(other.tokens, TOKENS + 1)
    assert other.sample_id is batch.sample_id
    assert other.condition is batch.condition


def test_a_batch_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        full().epoch = 1


def test_rows_of_several_batches_are_joined_everywhere():
    first = full()
    joined = Batch.cat([first, first.select(slice(1, None))])
    picked = [*range(len(first)), *range(1, len(first))]
    for field in dataclasses.fields(Batch):
        before, after = getattr(first, field.name), getattr(joined, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(after, before[picked]), field.name
    assert torch.equal(joined.condition["label"], first.condition["label"][picked])
    assert joined.epoch == 5
    plain = Batch.of(TOKENS)
    assert Batch.cat([plain, plain]).positions is None
