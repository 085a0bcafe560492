"""Answers to prompts, and how they are shown while they are written."""

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig
from mdlm_llada.generate import check_lengths, generate
from mdlm_llada.streaming import TextStreamer

from .decode_toy import Bytes, model

SETTINGS = DecodeConfig(steps=16, block=8)
PROMPTS = ["one", "a much longer prompt than that", "", "two", "drei vier"]


class Recorder:
    """Remembers what a streamer is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[int]]] = []

    def put(self, value: Tensor) -> None:
        assert value.dim() == 1
        self.told.append(("put", value.tolist()))

    def put_draft(self, value: Tensor) -> None:
        assert value.dim() == 1
        self.told.append(("draft", value.tolist()))

    def end(self) -> None:
        self.told.append(("end", []))

    def kept(self) -> list[int]:
        """Return all that stays, after the prompt."""
        puts = [ids for what, ids in self.told if what == "put"]
        return [id_ for ids in puts[1:] for id_ in ids]


@pytest.mark.parametrize(
    "more", [{}, {"temperature": 1.0}, {"threshold": 0.3}, {"cache": "approx-dual"}]
)
def test_batches_of_any_size_give_the_same_answers(more: dict[str, Any]) -> None:
    bot = Bytes()
    many = generate(
        bot, PROMPTS, answer_length=16, settings=replace(SETTINGS, **more), seed=3
    )
    few = replace(SETTINGS, batch_size=2, **more)
    assert generate(bot, PROMPTS, answer_length=16, settings=few, seed=3) == many
    for number, (prompt, answer) in enumerate(zip(PROMPTS, many, strict=True)):
        alone = generate(
            bot, [prompt], answer_length=16, settings=few, seed=3, numbers=[number]
        )
        assert alone == [answer]
        assert answer.prompt == [*prompt.encode(), 10]
        assert bot.tokenizer.decode(answer.ids) == answer.text


def test_ids_are_taken_as_they_are() -> None:
    bot = Bytes()
    asked = generate(bot, ["one"], answer_length=16, settings=SETTINGS)
    given = generate(bot, [[*b"one\n"]], answer_length=16, settings=SETTINGS)
    assert asked == given
    with pytest.raises(UsageError, match="prompt 0 holds the id 258"):
        generate(bot, [[258]], answer_length=16, settings=SETTINGS)


def test_tokens_per_forward_counts_the_answer_with_its_end() -> None:
    bot = Bytes()
    whole = generate(bot, ["one"], answer_length=16, settings=SETTINGS)[0]
    assert (whole.nfe, whole.tokens_per_forward) == (16, 1.0)
    with torch.no_grad():  # a model that says the end wherever it is asked
        bot.backbone.head.weight[256] = 50 * bot.backbone.head.weight[whole.ids[0]]
    ended = generate(bot, ["one"], answer_length=16, settings=SETTINGS)[0]
    assert (ended.ids, ended.nfe) == ([], 8)
    assert ended.tokens_per_forward == 1 / 8


@pytest.mark.parametrize(
    ("length", "settings", "message"),
    [
        (20, {}, r"gen_length is 20, .* block of 8 tokens; set gen_length=16"),
        (0, {}, r"gen_length is 0, .* set gen_length=8"),
        (24, {}, r"steps is 16, .* the 3 blocks of gen_length=24; set steps=18"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    length: int, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_lengths(length, replace(SETTINGS, **settings))
    with pytest.raises(UsageError, match=message):
        generate(Bytes(), ["one"], answer_length=length, settings=SETTINGS)


def test_steps_are_not_shared_where_they_are_not_read() -> None:
    check_lengths(24, replace(SETTINGS, threshold=0.5))


def test_a_streamer_is_told_the_prompt_drafts_and_what_stays() -> None:
    bot, told = Bytes(), Recorder()
    answer = generate(bot, ["one"], answer_length=16, settings=SETTINGS, streamer=told)[
        0
    ]
    kinds = [what for what, _ in told.told]
    assert told.told[0] == ("put", [*b"one\n"])
    assert kinds.count("put") == 3  # the prompt and two blocks
    assert kinds.count("end") == 1
    assert kinds[-1] == "end"
    assert told.kept() == answer.ids
    drafts = [ids for what, ids in told.told if what == "draft"]
    assert len(drafts) >= 14
    assert all(len(ids) <= 8 and 257 not in ids for ids in drafts)
    with pytest.raises(UsageError, match="one answer, but there are 2 prompts"):
        generate(bot, ["a", "b"], answer_length=16, settings=SETTINGS, streamer=told)


def test_streaming_changes_no_answer() -> None:
    bot = Bytes()
    settings = replace(SETTINGS, temperature=1.0)
    quiet = generate(bot, ["one"], answer_length=16, settings=settings)
    told = Recorder()
    assert quiet == generate(
        bot, ["one"], answer_length=16, settings=settings, streamer=told
    )


@pytest.mark.parametrize("stop", [True, False])
def test_what_follows_the_end_is_not_streamed(stop: bool) -> None:
    bot, told = Bytes(), Recorder()
    plain = generate(bot, ["one"], answer_length=16, settings=SETTINGS)[0]
    end = next(id_ for id_ in plain.ids if id_ != plain.ids[0])
    settings = replace(SETTINGS, eos_ids=(end,), stop=stop)
    generate(bot, ["one"], answer_length=16, settings=settings, streamer=told)
    assert told.kept() == plain.ids[: plain.ids.index(end)]
    kinds = [what for what, _ in told.told]
    assert "draft" not in kinds[len(kinds) - kinds[::-1].index("put") :]


def test_block_diffusion_models_answer() -> None:
    trunk = model("llada2", block_size=8, vocabulary=258, mask=257)
    bot = Bytes(backbone=trunk)
    told = Recorder()
    many = generate(bot, PROMPTS, answer_length=16, settings=SETTINGS)
    alone = generate(
        bot, PROMPTS[:1], answer_length=16, settings=SETTINGS, streamer=told
    )
    assert alone == many[:1]
    assert told.kept() == alone[0].ids


def test_text_appears_as_its_characters_are_complete() -> None:
    shown = io.StringIO()
    streamer = TextStreamer(Bytes().tokenizer, file=shown)
    streamer.put(torch.tensor([1, 2]))
    first, second = "né".encode()[:2], "né".encode()[2:]
    streamer.put(torch.tensor([*first]))
    assert shown.getvalue() == "n"
    streamer.put_draft(torch.tensor([65]))
    streamer.put(torch.tensor([*second]))
    streamer.end()
    assert shown.getvalue() == "né\n"
    streamer.put(torch.tensor([1]))  # the next prompt
    streamer.put(torch.tensor([66]))
    streamer.end()
    assert shown.getvalue() == "né\nB\n"


def test_drafts_are_taken_back_on_a_terminal() -> None:
    shown = io.StringIO()
    streamer = TextStreamer(Bytes().tokenizer, file=shown, drafts=True)
    streamer.put(torch.tensor([1]))
    streamer.put_draft(torch.tensor([65, 66]))
    streamer.put(torch.tensor([67]))
    streamer.end()
    assert shown.getvalue() == "\0337\033[33mAB\033[0m\0338\033[JC\n"


def test_the_streamer_of_transformers_can_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    streamers = pytest.importorskip("transformers.generation.streamers")
    if not hasattr(streamers, "TextDiffusionStreamer"):
        pytest.skip("this transformers has no TextDiffusionStreamer")
    bot = Bytes()

    class Wrapped:
        """A tokenizer as that streamer calls it."""

        def decode(self, ids: Any, **_: object) -> str:
            return bytes(int(i) % 26 + 97 for i in ids).decode()

    streamer = streamers.TextDiffusionStreamer(Wrapped(), skip_prompt=True)
    answer = generate(
        bot, ["one"], answer_length=16, settings=SETTINGS, streamer=streamer
    )[0]
    shown = capsys.readouterr().out
    assert shown.count("\033[33m") >= 14  # drafts
    assert shown.count("\0338\033[J") == shown.count("\0337")  # each taken back
    import re

    left = re.sub("\0337.*?\0338\033\\[J", "", shown, flags=re.DOTALL)
    assert left.strip() == Wrapped().decode(answer.ids)
