"""Any prompts and answers: JSON lines of `prompt` and `answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mdlm_core.errors import ConfigError
from mdlm_llada.extract import numbers
from mdlm_llada.registry import BaseTaskSpec, Example, Settings

from .files import count, find, id_of, instructed, require_path, rows_of, text_of

_FILES = ("{split}.jsonl", "{split}.jsonl.gz")
_EXTRACTIONS = ("text", "number")
_SHARED = {"id", "index", "gold", "gold_raw", "meta"}


class JsonLines(BaseTaskSpec):
    """Prompts and answers from files of one's own.

    ``cfg["prompt"]`` and ``cfg["answer"]`` name the fields, ``cfg["extraction"]`` is
    text, all of the answer without white space at its ends and whatever the case, or
    number, the last number of both.
    """

    name = "jsonl"
    summary = "JSON lines of prompt and answer; files of the user's."
    settings = ("prompt", "answer", "extraction")

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the rows of a file."""
        asked, answered = cfg.get("prompt", "prompt"), cfg.get("answer", "answer")
        path = find(require_path(self.name, cfg), split, _FILES, self.name)
        examples = []
        for index, where, row in rows_of(path, count(split, cfg)):
            answer = text_of(row, where, answered)
            gold = row.get("gold", row.get("gold_raw"))
            known: dict[str, Any] = {
                key: value
                for key, value in row.items()
                if key not in {asked, answered, *_SHARED}
            }
            prompt = instructed(text_of(row, where, asked), cfg, self.instructions)
            examples.append(
                Example(
                    id=id_of(row, index),
                    prompt=prompt,
                    answer=answer,
                    gold=answer if gold is None else str(gold),
                    meta=known,
                )
            )
        return examples

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return what of a text is compared."""
        how = cfg.get("extraction", "text")
        if how not in _EXTRACTIONS:
            allowed = " or ".join(_EXTRACTIONS)
            raise ConfigError(f"extraction is {how!r}; it must be {allowed}")
        if how == "number":
            found = numbers.flexible(pred)
            return None if found is None else numbers.comparable(found)
        return " ".join(pred.split()).casefold() or None
