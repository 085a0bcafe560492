"""Batches of prompts and answers: layout, ends, lengths, what is held out."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from mdlm_core.data.source import shuffled
from mdlm_core.data.tokenizers import ByteTokenizer
from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.config import RowsConfig
from mdlm_llada.data.examples import divide
from mdlm_llada.data.rows import Fit, Gathered, Row
from mdlm_llada.data.sources import RowSource
from mdlm_llada.registry import Example

EOD = 256


def toy(rows=24, prompts=True):
    """Return rows of different lengths, each of which says its number."""
    return [
        Row([i] * 3 + [100 + j for j in range(1 + i % 7)], 3 if prompts else 0)
        for i in range(rows)
    ]


def source(rows=None, held=None, **settings):
    config = RowsConfig(**{"max_length": 32, **settings})
    splits = {}
    for split, given in (("train", rows or toy()), ("validation", held or toy(5))):
        gathered = Gathered(config)
        for row in given:
            gathered.add(row)
        splits[split] = gathered.rows()
    return RowSource(ByteTokenizer(), splits, config)


def train(made, count, **more):
    return list(islice(made.batches("train", **{"size": 6, "seed": 1, **more}), count))


def test_a_row_is_prompt_answer_and_padding():
    rows = [Row([1, 2, 3, 4], 1), Row([5, 6], 0), Row([7, 8, 9], 2)]
    batch = next(source(held=rows).batches("validation", size=3, seed=0))
    assert batch.tokens.tolist() == [[1, 2, 3, 4], [5, 6, EOD, EOD], [7, 8, 9, EOD]]
    assert batch.free.int().tolist() == [[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert batch.pad.int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    assert batch.positions is None
    assert batch.documents is None


def test_the_sample_id_names_the_row_and_the_order_is_that_of_core():
    rows, made = toy(), source()
    for index, batch in enumerate(train(made, 8)):
        epoch, place = divmod(index, 4)
        order = shuffled(24, 1, epoch)[place * 6 : place * 6 + 6]
        assert batch.sample_id.tolist() == order.tolist()
        assert batch.epoch == epoch
        for i, tokens, pad in zip(order, batch.tokens, batch.pad, strict=True):
            assert tokens[~pad].tolist() == list(rows[i].ids)


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("eos_pad", ["none", "loss"])
def test_all_processes_have_the_width_of_the_longest_row(world, eos_pad):
    made = source(eos_pad=eos_pad)
    parts = [train(made, 9, rank=rank, world=world) for rank in range(world)]
    for index, whole in enumerate(train(made, 9)):
        longest = max(len(toy()[i].ids) for i in whole.sample_id)
        assert whole.length == longest
        for name in ("tokens", "frozen", "pad"):
            together = torch.cat([getattr(part[index], name) for part in parts])
            assert torch.equal(together, getattr(whole, name))


def test_a_short_last_batch_leaves_processes_without_rows_but_with_a_batch():
    made = source()
    parts = [
        list(made.batches("validation", size=4, seed=0, rank=rank, world=4))
        for rank in range(4)
    ]
    assert [[len(batch) for batch in part] for part in parts] == [
        [1, 0],
        [1, 0],
        [1, 0],
        [1, 1],
    ]
    assert {part[1].length for part in parts} == {len(toy()[4].ids)}


def test_ends_up_to_the_longest_row_are_learned_in_training_alone():
    made = source(eos_pad="loss")
    for batch in train(made, 4):
        assert not batch.pad.any()
        for i, tokens, free in zip(
            batch.sample_id, batch.tokens, batch.free, strict=True
        ):
            size = len(toy()[i].ids)
            assert (tokens[size:] == EOD).all()
            assert free.int().tolist() == [0] * 3 + [1] * (batch.length - 3)
    plain, ends = (
        next(one.batches("validation", size=5, seed=0)) for one in (source(), made)
    )
    assert torch.equal(plain.pad, ends.pad)
    assert torch.equal(plain.tokens, ends.tokens)


def test_a_number_of_ends_is_learned_behind_each_row_in_both_splits():
    made = source(eos_pad="loss_k", eos_count=3, max_length=11)
    batches = [*train(made, 4), *made.batches("validation", size=5, seed=0)]
    for batch in batches:
        for i, tokens, pad in zip(
            batch.sample_id, batch.tokens, batch.pad, strict=True
        ):
            ids = list(toy()[i].ids)
            assert tokens[~pad].tolist() == (ids + [EOD] * 3)[:11]


def test_answers_are_filled_up_to_one_length_in_both_splits():
    made = source(eos_pad="fixed", answer_length=5, max_length=10)
    batches = [*train(made, 4), *made.batches("validation", size=5, seed=0)]
    for batch in batches:
        for i, tokens, pad in zip(
            batch.sample_id, batch.tokens, batch.pad, strict=True
        ):
            row = toy()[i]
            size = max(len(row.ids), min(row.prompt_length + 5, 10))
            ends = [EOD] * (size - len(row.ids))
            assert tokens[~pad].tolist() == [*row.ids, *ends]


def test_a_length_of_answers_is_needed_where_it_is_used_alone():
    with pytest.raises(ConfigError, match=r"data\.answer_length is 0; say how long"):
        RowsConfig(eos_pad="fixed")
    for eos_pad in ("none", "loss", "loss_k"):
        unused, plain = (
            source(eos_pad=eos_pad, answer_length=length) for length in (17, 0)
        )
        assert unused.card() == plain.card()
        for one, other in zip(train(unused, 4), train(plain, 4), strict=True):
            assert torch.equal(one.tokens, other.tokens)
            assert torch.equal(one.pad, other.pad)


def test_some_batches_are_cut_to_a_uniform_length():
    rows = [Row([1] * 20, 0) for _ in range(40)]
    made = source(rows, random_length=0.25)
    batches = train(made, 1000, size=1, start=7)
    cut = np.array([b.length for b in batches if b.length < 20])
    # a length of 20 is drawn, too: the chance to be shorter is 0.25 * 19 / 20
    assert abs(len(cut) / 1000 - 0.2375) < 4 * (0.2375 * 0.7625 / 1000) ** 0.5
    counts = np.bincount(cut, minlength=20)[1:]
    assert set(cut.tolist()) == set(range(1, 20))
    expected = len(cut) / 19
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-square, 18: 0.0004
    assert not any(batch.pad.any() for batch in batches)


def test_a_cut_depends_on_seed_and_number_alone():
    rows = [Row([1] * (10 + i % 9), 0) for i in range(40)]
    made = source(rows, random_length=0.5)
    whole = train(made, 50)
    lengths = [batch.length for batch in whole]
    assert len(set(lengths)) > 5
    assert lengths[20:] == [batch.length for batch in train(made, 30, start=20)]
    for rank in (0, 1):
        part = train(made, 50, rank=rank, world=2)
        assert lengths == [batch.length for batch in part]
    assert lengths != [batch.length for batch in train(made, 50, seed=2)]
    for batch in whole:
        assert batch.free.any(1).all()


def test_cutting_rows_with_prompts_is_refused():
    with pytest.raises(ConfigError, match=r"random_length is 0.01.*prompts"):
        source(random_length=0.01)
    source(toy(prompts=False), toy(prompts=False), random_length=0.01)


def test_long_rows_are_dropped_cut_or_refused():
    rows = [Row(range(5), 2), Row(range(8), 2, "row 1"), Row(range(9), 6)]
    drop = Fit(6, "drop")
    assert [drop(row) for row in rows] == [rows[0], None, None]
    assert (drop.kept, drop.dropped, drop.truncated, drop.longest) == (1, 2, 0, 9)
    assert (drop.tokens, drop.learned) == (5, 3)
    cut = Fit(6, "truncate")
    found = [cut(row) for row in rows]
    assert found[0] is rows[0]
    assert list(found[1].ids) == [0, 1, 2, 3, 4, 5]
    assert found[1].prompt_length == 2
    assert found[2] is None  # its prompt fills the row
    assert (cut.kept, cut.dropped, cut.truncated) == (2, 1, 1)
    with pytest.raises(DataError, match=r"row 1 has 8 tokens, and data.max_length is"):
        Fit(6, "error")(rows[1])
    left = Fit(6, "drop")
    assert left(rows[1]) is left(rows[2]) is None
    with pytest.raises(DataError, match=r"all 2 have more than 6 .* longest 9"):
        left.check("the file")


def test_what_is_held_out_does_not_move():
    examples = [Example(str(i), f"what is {i}?", f"{i}", "") for i in range(2000)]
    train_, held = divide(examples, 0.8)
    assert abs(len(held) - 400) < 4 * (2000 * 0.16) ** 0.5
    fewer = divide(examples[::-3], 0.8)
    assert {e.id for e in fewer[1]} == {e.id for e in examples[::-3]} & {
        e.id for e in held
    }
    again = [replace(e, id="again") for e in examples]
    assert [e.prompt for e in divide(again, 0.8)[1]] == [e.prompt for e in held]
    assert divide(examples, 1.0) == (examples, [])
    assert {e.id for e in train_}.isdisjoint({e.id for e in held})


def test_the_card_tells_rows_apart():
    def digest(rows):
        return source(rows).card()["splits"]["train"]["sha256"]

    rows = toy()
    assert digest(rows) == digest(toy())
    other_prompt = [replace(rows[0], prompt_length=2), *rows[1:]]
    moved = [
        Row(rows[0].ids[:-1], 3),
        Row([rows[0].ids[-1], *rows[1].ids], 3),
        *rows[2:],
    ]
    for changed in (other_prompt, moved, rows[::-1]):
        assert digest(changed) != digest(rows)
    card = source().card()
    assert json.loads(json.dumps(card)) == card
    assert card["splits"]["train"]["prompt_tokens"] == 72
    assert card["splits"]["train"]["answer_tokens"] == sum(
        len(row.ids) - 3 for row in toy()
    )


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match=r"24 rows, and train.batch_size=25"):
        source().batches("train", size=25, seed=0)
    config = RowsConfig()
    empty = Gathered(config).rows()
    with pytest.raises(DataError, match="no rows"):
        RowSource(ByteTokenizer(), {"train": empty, "validation": empty}, config)
