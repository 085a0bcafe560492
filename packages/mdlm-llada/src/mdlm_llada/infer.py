"""A model's answers to the examples of a task, one JSON object a line.

A file can be continued: beside it stands FILE.meta.json, which says how it was made,
and only answers made in the same way are added.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import nn

from mdlm_core.cache import write_atomic
from mdlm_core.errors import DataError, UsageError

from .config import DecodeConfig
from .extract.stops import cut
from .generate import Answer, Answering, check_decoding, generate
from .registry import BaseTaskSpec, Example
from .template import prompt_ids

_NAMED = 6


@dataclass(frozen=True, slots=True)
class Done:
    """What an inference came to."""

    rows: int
    """Lines of the file."""
    answered: int
    """Those that were answered now."""
    nfe: float
    """Mean forward passes of those, 0 if there are none."""
    tokens_per_forward: float
    """Their mean tokens per forward pass."""


def infer(
    model: Answering,
    task: BaseTaskSpec,
    examples: Sequence[Example],
    out: Path,
    *,
    answer_length: int,
    settings: DecodeConfig,
    seed: int,
    made: Mapping[str, object],
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Done:
    """Answer the examples that the file has not, and write them to it.

    A line is ``{"task", "prompt", "gold_raw", "prediction", "meta": {"index", ...}}``.
    Prompts of like length are answered together; in the end the lines are put in the
    order of the examples. The answer to an example depends on the seed and on its
    index, not on the batch or on what was there before.

    Args:
        model: answers.
        task: whose examples they are; knows at which strings an answer ends.
        examples: what is asked.
        out: the file.
        answer_length: G.
        settings: how to decode.
        seed: decides every draw.
        made: what identifies model, data and settings, in terms of JSON.
        force: whether a file that was made otherwise is replaced.
        say: is told how far it is, at the start and after every batch.

    Raises:
        UsageError: if the file was made otherwise, or the lengths do not fit.
        DataError: if a line of the file is broken.
    """
    check_decoding(model, answer_length, settings)
    if out.is_dir():
        raise UsageError(f"'{out}' is a folder; name a file in it")
    record = {**made, "rows": len(examples), "weights": weights_of(model)}
    record = json.loads(json.dumps(record))
    rows = {} if force else _resumed(out, record)
    todo = [index for index in range(len(examples)) if index not in rows]
    ids = {
        index: prompt_ids(model.tokenizer, examples[index].prompt, model.template)
        for index in todo
    }
    todo.sort(key=lambda index: len(ids[index]))
    answers: list[Answer] = []
    say(f"{len(rows)} of {len(examples)} answered")
    begun = False
    for first in range(0, len(todo), settings.batch_size):
        group = todo[first : first + settings.batch_size]
        found = generate(
            model,
            [ids[index] for index in group],
            answer_length=answer_length,
            settings=settings,
            seed=seed,
            numbers=group,
        )
        if not begun:  # what is refused, or stopped before, has written nothing
            _begin(out, record, rows)
            begun = True
        with out.open("a", encoding="utf-8", newline="\n") as file:
            for index, answer in zip(group, found, strict=True):
                rows[index] = _line(task, index, examples[index], answer)
                file.write(rows[index] + "\n")
        answers += found
        say(f"{len(rows)} of {len(examples)} answered")
    _begin(out, record, {index: rows[index] for index in sorted(rows)})
    count = max(1, len(answers))
    return Done(
        rows=len(rows),
        answered=len(answers),
        nfe=sum(answer.nfe for answer in answers) / count,
        tokens_per_forward=sum(a.tokens_per_forward for a in answers) / count,
    )


def _begin(out: Path, record: Mapping[str, object], rows: Mapping[int, str]) -> None:
    """Write the lines that there are, and then how they were made."""
    write_atomic(out, "".join(line + "\n" for line in rows.values()).encode())
    write_atomic(meta_path(out), (json.dumps(record, indent=1) + "\n").encode())


def meta_path(out: Path) -> Path:
    """Return where it is said how the file `out` was made."""
    return out.with_name(out.name + ".meta.json")


def weights_of(model: Answering) -> str:
    """Return a hash of some numbers of every tensor of the model."""
    found = sha256()
    backbone = model.backbone
    if isinstance(backbone, nn.Module):
        for name, tensor in backbone.state_dict().items():
            some = tensor.flatten()[:64].float().cpu()
            found.update(f"{name} {tuple(tensor.shape)}".encode())
            found.update(some.numpy().tobytes())
    return found.hexdigest()[:16]


def _line(task: BaseTaskSpec, index: int, example: Example, answer: Answer) -> str:
    meta = {"index": index, "id": example.id, "nfe": answer.nfe}
    row = {
        "task": task.name,
        "prompt": example.prompt,
        "gold_raw": example.gold,
        "prediction": cut(answer.text, task.stop),
        "meta": {**meta, "tokens_per_forward": round(answer.tokens_per_forward, 4)},
    }
    return json.dumps(row, ensure_ascii=False)


def _resumed(out: Path, record: dict[str, Any]) -> dict[int, str]:
    """Return the lines that `out` has by index, if it was made as `record` says.

    A last line that was not written to its end is left out. An empty file is as none.
    """
    if not out.exists() or not out.read_bytes().strip():
        return {}
    again = "choose another file, or replace it with --force"
    try:
        before = json.loads(meta_path(out).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"'{out}' exists, but there is no '{meta_path(out).name}' that says how it "
            f"was made; {again}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"'{meta_path(out)}' cannot be read: {error}") from None
    if changed := differences(before, record):
        more = len(changed) - _NAMED
        others = f"; and {more} more" if more > 0 else ""
        raise UsageError(
            f"'{out}' was made otherwise: {'; '.join(changed[:_NAMED])}{others}; "
            f"{again}"
        )
    rows: dict[int, str] = {}
    lines = out.read_bytes().split(b"\n")
    for number, raw in enumerate(lines[:-1], start=1):  # the last one has no end
        where = f"'{out}:{number}'"
        way = f"remove that line, which is then answered anew, or {again}"
        try:
            line = raw.decode()
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where} is no JSON: {error}; {way}") from None
        try:
            index = row["meta"]["index"]
        except (KeyError, TypeError):
            raise DataError(f"{where} is no answer with meta.index; {way}") from None
        if not isinstance(index, int) or not 0 <= index < record["rows"]:
            raise DataError(
                f"{where}: meta.index is {index!r}; it must be from 0 to "
                f"{record['rows'] - 1}; {way}"
            )
        if index in rows:
            raise DataError(f"{where}: index {index} stands twice; {way}")
        rows[index] = line
    return rows


def differences(before: object, now: object, key: str = "") -> list[str]:
    """Return ``key was A and is B`` for what differs, with dots in the keys inside."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [
            text
            for name in sorted({*before, *now})
            for text in differences(
                before.get(name), now.get(name), f"{key}.{name}" if key else name
            )
        ]
    return [] if before == now else [f"{key} was {before!r:.80} and is {now!r:.80}"]
