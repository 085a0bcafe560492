"""Files of answers: what a line holds, how a file is continued, the commands."""

import io
import json
import os
import signal
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
from mdlm_llada.cli.progress import Progress
from mdlm_llada.config import DecodeConfig
from mdlm_llada.generate import generate
from mdlm_llada.infer import differences, infer, meta_path
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
        ("{", r":2' is no JSON: .*; remove that line, which is then answered anew"),
        ("{}", r":2' is no answer with meta\.index; remove that line"),
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
    out.write_text("\n".join([first, *rest]) + "\n")  # the way out
    assert answer(out).answered == 1


def test_a_broken_last_line_is_named(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    answer(out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:-1]) + b'{"task": "\xff\n')
    with pytest.raises(DataError, match=r":7' is no JSON: .*; remove that line"):
        answer(out)


def test_what_differs_is_named_with_dots(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    made = {"model": "toy", "sampler": {"steps": 64, "block": 8}}
    answer(out, made=made)
    other = {**made, "sampler": {"steps": 32, "block": 8}}
    with pytest.raises(UsageError) as caught:
        answer(out, made=other)
    assert "otherwise: sampler.steps was 64 and is 32; choose" in str(caught.value)
    many = {"sampler": dict.fromkeys("abcdefghi", 1)}
    found = differences(many, {"sampler": {}, "x": 2})
    assert found[0] == "sampler.a was 1 and is None"
    assert len(found) == 10
    with pytest.raises(UsageError, match=r"sampler\.d was None.*; and 6 more; choose"):
        answer(out, made=many)


def test_a_refused_inference_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "answers.jsonl"
    with pytest.raises(UsageError, match=r"sampler\.eos_ids holds 9999"):
        answer(out, settings=replace(SETTINGS, eos_ids=(9999,)))
    with monkeypatch.context() as patch:
        patch.setattr("mdlm_llada.infer.generate", refuse)
        with pytest.raises(UsageError, match="later"):
            answer(out)
    assert not out.parent.exists()
    out.parent.mkdir()
    out.write_bytes(b"")
    meta_path(out).write_text('{"model": "another"}')
    assert answer(out).answered == 7
    before = out.read_bytes(), meta_path(out).read_bytes()
    with pytest.raises(UsageError):
        answer(out, settings=replace(SETTINGS, eos_ids=(9999,)), force=True)
    assert (out.read_bytes(), meta_path(out).read_bytes()) == before


def refuse(*_: Any, **__: Any) -> Any:
    raise UsageError("later")


def test_others_may_read_the_answers(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        out = tmp_path / "answers.jsonl"
        answer(out)
    finally:
        os.umask(before)
    for path in (out, meta_path(out)):
        assert path.stat().st_mode & 0o777 == 0o644
    assert len(list(tmp_path.iterdir())) == 2


def test_progress_is_said_once_a_second() -> None:
    for paced, expected in ((True, ["0", "2", "4"]), (False, list("01234"))):
        told: list[str] = []
        times = iter([0.0, 0.9, 1.0, 1.9, 2.1])
        progress = Progress(told.append, paced=paced, clock=lambda t=times: next(t))
        for text in "01234":
            progress(text)
        assert told == expected
    progress = Progress(told.append, paced=True, clock=lambda: 0.0)
    progress("first")
    progress("second")
    assert (told[-1], progress.last) == ("first", "second")


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


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_infer_that_is_stopped_says_how_to_go_on(
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: signal.Signals,
) -> None:
    out = tmp_path / "predictions.jsonl"
    given = ["infer", "--task", "addition", "--out", out, "--model", checkpoint]
    given = [str(part) for part in (*given, *SHORT, "--rows", 4, "--batch-size", 1)]
    calls: list[int] = []

    def stopped(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), which)
        return generate(*arguments, **named)

    before = signal.getsignal(signal.SIGTERM)
    # A job in the background of a script is started with Ctrl-C ignored.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr("mdlm_llada.infer.generate", stopped)
        result = CliRunner().invoke(app, given)
    signal.signal(signal.SIGINT, interrupt)
    assert result.exit_code == 128 + which
    assert "2 of 4 answered; the same command goes on" in result.stderr
    assert signal.getsignal(signal.SIGTERM) is before
    assert "2 of them now" in command(*given)


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
        errors=shown,
    )
    chat.run()
    return chat, shown.getvalue()


def test_errors_of_piped_lines_go_to_standard_error(checkpoint: Path) -> None:
    given = [str(part) for part in ("chat", checkpoint, *SHORT)]
    result = CliRunner().invoke(app, given, input="/set treshold=1\nHi\n")
    assert result.exit_code == 2
    assert "treshold" in result.stderr
    assert result.stdout == command("generate", *given[1:], "--prompt", "Hi")


def test_a_chat_checks_its_settings_first(checkpoint: Path) -> None:
    bad = ("--set", "sampler.eos_ids=[999999]")
    with pytest.raises(UsageError, match=r"sampler\.eos_ids holds 999999"):
        command("chat", checkpoint, *SHORT, *bad, text="")
    chat, shown = conversation("/set eos_ids=[999999]")
    assert chat.settings == SETTINGS
    assert "eos_ids holds 999999" in shown


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
