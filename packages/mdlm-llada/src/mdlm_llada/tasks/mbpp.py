"""MBPP: short programs from a description, judged by asserts (arXiv 2108.07732).

The file has `task_id`, `text` (or `prompt`), `code`, `test_list` and perhaps
`test_setup_code`. In a folder with one file for all, mbpp.jsonl, a split is a range of
ids: 11 to 510 for the test, 511 to 600 for validation, 601 to 974 to learn from; the
examples of a prompt are 2, 3 and 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.extract.code import fenced
from mdlm_llada.extract.stops import cut
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, require_path, rows_of, text_of
from .humaneval import parse_gold

_FILES = ("{split}.jsonl", "mbpp_{split}.jsonl", "mbpp.jsonl")
_ONE_FILE = "mbpp.jsonl"
_RANGES = {
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
_SHOTS = (2, 3, 4)
_BEGIN = "[BEGIN]"
_FUNCTION = re.compile(r"^def \w+\(", re.MULTILINE)


class MBPP(BaseTaskSpec):
    """Short programs; ``cfg["shots"]``, up to 3, puts solved examples in front."""

    name = "mbpp"
    summary = "Short programs, judged by running asserts; files of the user's."
    runs_code = True
    settings = ("shots",)
    stop = ("[DONE]",)
    instructions = "Answer with the code alone."

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the programs of a split."""
        path = find(require_path(self.name, cfg), split, _FILES, self.name)
        shots = "".join(self._shots(path, cfg))
        limit = count(split, cfg)
        examples: list[Example] = []
        for index, where, row in self._rows(path, split, cfg):
            if limit and len(examples) >= limit:
                break
            code = text_of(row, where, "code").replace("\r\n", "\n")
            prompt = shots + _prompt(row, where)
            examples.append(
                Example(
                    id=id_of(row, index, "task_id"),
                    prompt=instructed(prompt, cfg, self.instructions),
                    answer=f"{code}\n[DONE]",
                    gold=_gold(row, where),
                )
            )
        return examples

    def _rows(
        self, path: Path, split: str, cfg: Settings
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        whole = Path(str(cfg["path"])).expanduser().is_file()
        for index, where, row in rows_of(path):
            if whole or path.name != _ONE_FILE:
                yield index, where, row
            elif split not in _RANGES:
                raise ConfigError(
                    f"task 'mbpp' has no split '{split}'; it has {', '.join(_RANGES)}"
                )
            elif _number(row, where) in _RANGES[split]:
                yield index, where, row

    def _shots(self, path: Path, cfg: Settings) -> Iterator[str]:
        wanted = cfg.get("shots", 0)
        if not isinstance(wanted, int) or not 0 <= wanted <= len(_SHOTS):
            raise ConfigError(f"shots is {wanted!r}; it must be from 0 to 3")
        if not wanted:
            return
        source = path if path.name == _ONE_FILE else path.parent / _ONE_FILE
        numbered = {
            _number(row, where): (where, row) for _, where, row in rows_of(source)
        }
        for number in _SHOTS[:wanted]:
            if number not in numbered:
                raise DataError(f"'{source}' has no task {number}, an example to show")
            where, row = numbered[number]
            code = text_of(row, where, "code").replace("\r\n", "\n")
            yield f"{_prompt(row, where)}{code}\n[DONE]\n\n"

    def gold_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the asserts of a row as JSON."""
        if "test_list" in row:
            return _gold(row, f"the row of task {row.get('task_id', '?')}")
        return super().gold_of(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the code: a fenced block, or the text up to [DONE].

        What stands before a [BEGIN] is left out, unless it is a function already: then
        the text goes on with another problem.
        """
        text = cut(pred, self.stop)
        before, mark, after = text.partition(_BEGIN)
        if mark:
            text = before if _FUNCTION.search(before) else after
        code = fenced(text)
        code = cut(text, ("```",)) if code is None else code
        return code if code.strip() else None

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Run the code and the asserts; right is what runs to its end."""
        from mdlm_llada.sandbox import run_program

        self.require_code(cfg)
        item = parse_gold(gold, "mbpp", ("test_list",))
        asserts = "\n".join(_tests(item, "the gold of task 'mbpp'"))
        code = self.postprocess(prediction, cfg)
        if code is None:
            return Verdict(None, asserts, False, how="no code")
        program = f"{code}\n{item.get('test_setup_code', '')}\n{asserts}\n"
        outcome = run_program(program, timeout=float(cfg.get("timeout", 5.0)))
        how = f"{outcome.status} {outcome.detail}".strip()
        return Verdict(code, asserts, outcome.passed, how=how)


def _number(row: Mapping[str, Any], where: str) -> int:
    try:
        return int(row["task_id"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{where} has no number as its 'task_id'") from None


def _tests(row: Mapping[str, Any], where: str) -> list[str]:
    tests = row.get("test_list")
    if not isinstance(tests, list) or not tests:
        raise DataError(f"{where}: 'test_list' must be a list of asserts")
    return [str(test) for test in tests]


def _prompt(row: Mapping[str, Any], where: str) -> str:
    tests = "\n".join(_tests(row, where)[:3])
    return (
        f"You are an expert Python programmer, and here is your task: "
        f"{text_of(row, where, 'text', 'prompt')} Your code should pass these tests:"
        f"\n\n{tests}\n[BEGIN]\n"
    )


def _gold(row: Mapping[str, Any], where: str) -> str:
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports", ()))
    return json.dumps({"test_list": _tests(row, where), "test_setup_code": setup})
