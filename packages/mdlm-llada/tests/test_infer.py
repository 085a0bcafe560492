"""Files of answers: what a line holds, how a file is continued, the commands."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mdlm_core.catalog import load_catalog
from mdlm_core.errors import DataError, UsageError
from mdlm_llada.chat import Chat
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.cli import app
from mdlm_llada.config import DecodeConfig
from mdlm_llada.generate import generate
from mdlm_llada.infer import infer, meta_path
from mdlm_llada.registry import get_task

from .decode_toy import Bytes

SETTINGS = DecodeConfig(steps=8, block=8, batch_size=3)
TASK = get_task("addition")
EXAMPLES = [  # the first one has the longest prompt
    replace(example, prompt=" " * (7 - number) + example.prompt)
    for number, example in enumerate(TASK.build_dataset("test", {"held_out": 7}))
]


def answer(out: Path, bot: Bytes | None = None, **more: Any) -> Any:
    given = {
        "answer_length": 8,
        "settings": SETTINGS,
        "seed": 1,
        "made": {"model": "toy", "steps": 8},
        **more,
    }
    return infer(bot or Bytes(), TASK, EXAMPLES, out, **given)


def test_a_line_holds_what_scoring_needs(tmp_path: Path) -> None:
    out = tmp_path / "new" / "answers.jsonl"
    done = answer(out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (done.rows, done.answered, done.nfe) == (7, 7, 8.0)
    assert [row["meta"]["index"] for row in rows] == list(range(7))
    expected = generate(
        Bytes(),
        [example.prompt for example in EXAMPLES],
        answer_length=8,
        settings=SETTINGS,
        seed=1,
    )
    for row, example, found in zip(rows, EXAMPLES, expected, strict=True):
        assert row["task"] == "addition"
        assert (row["prompt"], row["gold_raw"]) == (example.prompt, example.gold)
        assert row["prediction"] == found.text
        assert row["meta"]["id"] == example.id


@pytest.mark.parametrize("size", [0, 1, 200, 700])
def test_a_file_is_continued(tmp_path: Path, size: int) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    answer(whole)
    text = whole.read_bytes()
    part.write_bytes(text[:size])  # the last line is perhaps not complete
    meta_path(part).write_bytes(meta_path(whole).read_bytes())
    done = answer(part, settings=replace(SETTINGS, batch_size=1))
    assert done.answered == 7 - text[:size].count(b"\n")
    assert part.read_bytes() == text
    assert answer(part).answered == 0
    assert part.read_bytes() == text


def test_files_made_otherwise_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    answer(out)
    before = out.read_bytes()
    with pytest.raises(UsageError, match=r"made otherwise: steps was 8 and is 16"):
        answer(out, made={"model": "toy", "steps": 16})
    other = Bytes()
    other.backbone.head.weight *= 2
    with pytest.raises(UsageError, match="made otherwise: weights was"):
        answer(out, other)
    assert out.read_bytes() == before
    meta_path(out).unlink()
    with pytest.raises(UsageError, match=r"no 'answers\.jsonl\.meta\.json' that says"):
        answer(out)
    assert answer(out, other, force=True).answered == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r":2' is no answer with meta\.index"),
        ('{"meta": {"index": 7}}', r":2': meta\.index is 7; it must be from 0 to 6"),
        ('{"meta": {"index": 0}}', r":2': index 0 stands twice"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    out = tmp_path / "answers.jsonl"
    answer(out)
    first, _, *rest = out.read_text().splitlines()
    out.write_text("\n".join([first, line, *rest]) + "\n")
    with pytest.raises(DataError, match=message):
        answer(out)


# ---- commands ---------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


def command(*arguments: object, text: str | None = None) -> str:
    result = CliRunner().invoke(
        app, [str(part) for part in arguments], input=text, catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.stdout


SHORT = ("--gen_length", 16, "--block_length", 8, "--steps", 16, "--device", "cpu")


def test_infer_then_score(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "predictions.jsonl"
    given = ("--task", "llada_addition", "--out_file", out, "--model_name", checkpoint)
    assert "4 answers to addition" in command("infer", *given, *SHORT, "--rows", 4)
    assert "0 of them now" in command("infer", *given, *SHORT, "--rows", 4)
    told = json.loads(
        command("score", "--task", "addition", "--pred_jsonl", out, "--json")
    )
    assert told["total"] == 4
    with pytest.raises(UsageError, match=r"gen_length is 20, .*multiple of the block"):
        command("infer", *given, "--gen_length", 20, "--device", "cpu")


def test_generate_takes_prompts_from_options_and_lines(checkpoint: Path) -> None:
    given = ("generate", checkpoint, *SHORT, "--json", "--seed", 3)
    told = json.loads(command(*given, "--prompt", "Hi", "--prompt", "Who are you?"))
    lines = json.loads(command(*given, text="Hi\nWho are you?\n"))
    assert told["answers"] == lines["answers"]
    assert [row["nfe"] for row in told["answers"]] == [16, 16]
    text = told["answers"][0]["text"]
    printed = command(*given[:-3], "--seed", 3, "--prompt", "Hi")
    streamed = command(*given[:-3], "--seed", 3, "--prompt", "Hi", "--stream")
    assert printed == streamed == text + "\n"
    with pytest.raises(UsageError, match=r"--set train\.lr=1: here only the sampler"):
        command(*given, "--prompt", "Hi", "--set", "train.lr=1")


def test_chat_with_piped_lines(checkpoint: Path) -> None:
    told = command("chat", checkpoint, *SHORT, text="Hi\n/quit\nnever\n")
    expected = command("generate", checkpoint, *SHORT, "--prompt", "Hi")
    assert told == expected


DRAWN = replace(SETTINGS, temperature=1.0)


def conversation(
    *lines: str, bot: Any = None, settings: DecodeConfig = SETTINGS
) -> tuple[Chat, str]:
    shown = io.StringIO()
    chat = Chat(
        bot or Bytes(),
        load_catalog(),
        settings=settings,
        answer_length=8,
        lines=io.StringIO("".join(line + "\n" for line in lines)),
        file=shown,
    )
    chat.run()
    return chat, shown.getvalue()


def test_commands_of_a_chat() -> None:
    chat, shown = conversation(
        "/set threshold=0.5", "/length 16", "/help", "/settings", "/sett x", "/set x"
    )
    assert (chat.settings.threshold, chat.length) == (0.5, 16)
    assert chat.settings == replace(SETTINGS, threshold=0.5)
    assert "/again" in shown
    assert "threshold = 0.5" in shown
    assert "there is no command /sett; there are /help, /set" in shown
    assert "/set takes KEY=VALUE" in shown
    chat, shown = conversation("/set treshold=1", "/length 20", "/again", "/system Be")
    assert chat.settings == SETTINGS
    assert "treshold" in shown
    assert "gen_length is 20" in shown
    assert "nothing has been answered yet" in shown
    assert "no chat template" in shown


def test_a_chat_remembers_where_the_template_can_say_it(checkpoint: Path) -> None:
    from mdlm_llada.models import load_model

    plain, shown = conversation("one", "two", settings=DRAWN)
    alone = generate(
        Bytes(), ["two"], answer_length=8, settings=DRAWN, seed=1
    )  # the second answer has the second seed
    assert plain.turns[-1]["content"] == alone[0].text
    assert len(shown.splitlines()) >= 2
    bot = load_model(checkpoint)
    lines = ("/system Be kind", "one", "two", "/again")
    chat, _ = conversation(*lines, bot=bot, settings=DRAWN)
    roles = [turn["role"] for turn in chat.turns]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    expected = generate(bot, [chat.turns[:-1]], answer_length=8, settings=DRAWN, seed=2)
    assert chat.turns[-1]["content"] == expected[0].text
    forgotten, _ = conversation("/system Be kind", "one", "/new", bot=bot)
    assert [turn["role"] for turn in forgotten.turns] == ["system"]
