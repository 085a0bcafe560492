"""HumanEval: complete a function, judged by running its tests (arXiv 2107.03374).

The file has `task_id`, `prompt`, `canonical_solution`, `test` and `entry_point`. A
prediction is a continuation of the prompt, or a text with the whole function in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mdlm_core.errors import DataError
from mdlm_llada.extract.code import fenced
from mdlm_llada.extract.stops import cut
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, require_path, rows_of, text_of

_FILES = ("{split}.jsonl", "[Hh]uman[Ee]val*.jsonl", "[Hh]uman[Ee]val*.jsonl.gz")
_FENCE = "```"
_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a continuation ends. A text with the whole function goes on behind them."""


class HumanEval(BaseTaskSpec):
    """Functions to complete; ``cfg["timeout"]`` is the seconds for one program."""

    name = "humaneval"
    summary = "Functions to complete, judged by running tests; files of the user's."
    runs_code = True
    settings = ()
    instructions = "Complete the function. Answer with the code alone."

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the functions of a file."""
        path = find(require_path(self.name, cfg), split, _FILES, self.name)
        return [
            Example(
                id=id_of(row, index, "task_id"),
                prompt=instructed(
                    text_of(row, where, "prompt"), cfg, self.instructions
                ),
                answer=str(row.get("canonical_solution", "")),
                gold=_gold(row, where),
            )
            for index, where, row in rows_of(path, count(split, cfg))
        ]

    def gold_of(self, row: Mapping[str, Any]) -> str | None:
        """Return prompt, test and entry point of a row as JSON."""
        if {"prompt", "test", "entry_point"} <= set(row):
            return _gold(row, f"the row of '{row.get('task_id', '?')}'")
        return super().gold_of(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the code: a fenced block, or the text up to a stop."""
        code = fenced(pred)
        if code is None:
            code = cut(pred, (*_STOPS, _FENCE))
        return code if code.strip() else None

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Run the function's tests; right is what runs to its end."""
        from mdlm_llada.sandbox import run_program

        self.require_code(cfg)
        item = parse_gold(gold, "humaneval", ("prompt", "test", "entry_point"))
        for key, value in item.items():
            if not isinstance(value, str):
                raise DataError(
                    f"the gold of task 'humaneval' holds texts; '{key}' is "
                    f"{value!r:.80}"
                )
        entry, prompt = item["entry_point"], item["prompt"]
        head = f"def {entry}("
        block = fenced(prediction, head)
        text = block if block is not None else prediction.partition(_FENCE)[0]
        if _is_whole(text, head):  # only what stands above it is needed
            code = text
            program = f"{prompt.partition(head)[0]}\n{code}"
        else:
            code = self.postprocess(prediction, cfg) or ""
            program = prompt + code
        check = f"\n{item['test']}\ncheck({entry})\n"
        if not code.strip():
            return Verdict(None, entry, False, how="no code")
        outcome = run_program(program + check, timeout=float(cfg.get("timeout", 5.0)))
        how = f"{outcome.status} {outcome.detail}".strip()
        return Verdict(code, entry, outcome.passed, how=how)


def _is_whole(code: str, head: str) -> bool:
    """Return whether code has the whole function, and does not begin inside it.

    A continuation of the prompt begins with an indented line; it may write the function
    again after that.
    """
    lines = (line for line in code.splitlines() if line.strip())
    first = next((line for line in lines if not line.startswith("#")), "")
    begins = re.search(rf"^{re.escape(head)}", code, re.MULTILINE)
    return begins is not None and not first[:1].isspace()


def _gold(row: Mapping[str, Any], where: str) -> str:
    keys = ("prompt", "test", "entry_point")
    return json.dumps({key: text_of(row, where, key) for key in keys})


def parse_gold(gold: str, task: str, keys: Sequence[str]) -> dict[str, Any]:
    """Return the object that the gold of a task with programs is.

    Raises:
        DataError: if it is no such object.
    """
    try:
        item = json.loads(gold)
    except json.JSONDecodeError:
        item = None
    if not isinstance(item, dict) or not set(keys) <= set(item):
        raise DataError(
            f"the gold of task '{task}' is a JSON object with {', '.join(keys)}, such "
            f"as infer writes; got {gold!r:.80}"
        )
    return item
