"""Decoded answers to held-out prompts, and how they are judged."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise
from mdlm_llada.canvas import answer_canvas
from mdlm_llada.sft import score
from mdlm_llada.sft.answers import answer, longest_answer, prompts_of
from mdlm_llada.sft.held_out import held_out
from mdlm_llada.sft.score import score_answers
from mdlm_llada.template import answer_ids

from .sft_run import config


@pytest.fixture(scope="module")
def source():
    return load_catalog().build("dataset", config().data)


class Knows(nn.Module):
    """Writes the answers of the held-out prompts, some wrong, and ends after them."""

    time_conditioned = False

    def __init__(self, source, wrong=()):
        super().__init__()
        tokenizer = source.tokenizer
        self.vocab_size, self.mask_id = tokenizer.vocab_size, tokenizer.mask_id
        self.nothing = nn.Parameter(torch.zeros(1))
        self.ends = tokenizer.eod_id
        self.asked = []
        rows = list(held_out(source, 0))
        self.known = {}
        for batch in rows:
            for prompt in prompts_of(batch):
                place = len(self.known)
                example = source.examples("validation")[place]
                text = "nonsense" if place in wrong else example.answer
                ids = answer_ids(tokenizer, text, source.template)
                self.known[tuple(prompt)] = ids

    def hidden(self, batch, t=None):
        self.asked.append(batch)
        states = torch.full(batch.tokens.shape, self.ends)
        for row, ids in enumerate(batch.tokens.tolist()):
            for prompt, reply in self.known.items():
                if tuple(ids[: len(prompt)]) == prompt:
                    end = min(len(prompt) + len(reply), batch.length)
                    found = torch.tensor(reply[: end - len(prompt)])
                    states[row, len(prompt) : end] = found
        return states[..., None].float()

    def logits(self, hidden):
        one_hot = nn.functional.one_hot(hidden[:, 0].long(), self.vocab_size)
        return 30.0 * one_hot.float()


@pytest.mark.parametrize("sampler", ["llada", "semi-ar"])
def test_a_model_that_knows_the_answers_is_right(source, sampler):
    """Also with a sampler of core, which knows nothing of ends of text."""
    run = config(sampler__name=sampler)
    catalog = load_catalog()
    model = Knows(source, wrong=(2, 7, 11))
    found = score_answers(
        lambda rows, length: answer(
            model, rows, source, run, catalog, length=length, noise=Noise(0)
        ),
        source,
        "addition",
        count=0,
    )
    assert found["accuracy"] == pytest.approx(9 / 12)
    # Wilson's interval by hand, for 9 of 12.
    assert found["accuracy_low"] == pytest.approx(0.4677, abs=1e-4)
    assert found["accuracy_high"] == pytest.approx(0.9111, abs=1e-4)
    assert found["nfe"] > 1


def test_prompts_are_never_changed_and_answers_are_not_seen(source):
    model, run = Knows(source), config()
    [rows] = held_out(source, 5)
    answers = answer(
        model, rows, source, run, load_catalog(), length=20, noise=Noise(0)
    )
    prompts = prompts_of(rows)
    assert [item.prompt for item in answers] == prompts
    first = model.asked[0]
    for row, prompt in enumerate(prompts):
        assert first.tokens[row, : len(prompt)].tolist() == prompt
        end = len(prompt) + 24  # 20 in blocks of 8
        assert (first.tokens[row, len(prompt) : end] == model.mask_id).all()
        assert first.pad[row, end:].all()
    last = source.tokenizer.decode(answers[-1].ids)
    assert last == source.examples("validation")[10].answer[: len(last)]


def test_an_answer_ends_before_the_first_end_and_takes_no_step_after_it(source):
    model = Knows(source)
    [rows] = held_out(source, 0)
    answers = answer(
        model, rows, source, config(), load_catalog(), length=80, noise=Noise(0)
    )
    for item, example in zip(answers, source.examples("validation"), strict=True):
        assert item.ids == source.tokenizer.encode(example.answer)
        assert item.nfe == len(item.ids) // 8 + 1  # of ten blocks, a step in each


def test_the_canvas_has_a_prompt_masks_and_padding():
    found = answer_canvas(
        [[5, 6], [7], []],
        3,
        sample_id=torch.arange(3),
        mask_id=9,
        pad_id=0,
    )
    assert found.tokens.tolist() == [
        [5, 6, 9, 9, 9],
        [7, 9, 9, 9, 0],
        [9, 9, 9, 0, 0],
    ]
    assert found.free.sum(1).tolist() == [3, 3, 3]
    assert found.pad.sum(1).tolist() == [0, 1, 2]
    assert not found.frozen[2, :3].any()


def test_a_prompt_is_what_stands_frozen_at_the_beginning():
    tokens = torch.arange(12).view(2, 6)
    frozen = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]).bool()
    pad = torch.tensor([[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]]).bool()
    rows = Batch.of(tokens, frozen=frozen, pad=pad)
    assert prompts_of(rows) == [[0, 1], []]
    assert longest_answer([rows]) == 5


def test_every_process_answers_its_own_share(source, monkeypatch):
    asked, shares = [], []

    def decode(rows, length):
        asked.append(rows.sample_id.tolist())
        return answer(
            model, rows, source, config(), load_catalog(), length=length, noise=Noise(0)
        )

    monkeypatch.setattr("mdlm_llada.sft.held_out.ROWS_AT_ONCE", 5)
    model = Knows(source, wrong=(0, 6))
    alone = score_answers(decode, source, "addition", count=0)
    assert [place for part in asked for place in part] == list(range(12))
    assert alone["accuracy"] == pytest.approx(10 / 12)
    asked.clear()
    for rank in (0, 1):
        state = SimpleNamespace(num_processes=2, process_index=rank)
        monkeypatch.setattr(score, "PartialState", lambda state=state: state)
        monkeypatch.setattr(score, "gather", lambda mine: shares.append(mine) or mine)
        score_answers(decode, source, "addition", count=0)
    assert [len(ids) for ids in asked] == [5, 2, 5]
    together = [shares[0][0], shares[1][0], shares[0][1]]
    monkeypatch.setattr(score, "gather", lambda mine: together)
    assert score_answers(decode, source, "addition", count=0) == alone
