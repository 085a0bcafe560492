"""ARC: questions of school science with choices (Clark et al., arXiv 1803.05457).

A row has `question`, `choices` and `answerKey`, as on the hub or as AI2 writes it. The
choices are listed, and a text answers by the label of one. For likelihoods of the
choices' texts, `meta` has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.extract.boxed import last_boxed
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, require_path, rows_of

_FILES = ("{split}.jsonl", "*[-_]{split}.jsonl")
_LABEL = r"\(?([A-Ea-e]|[1-5])\)?"
_SAID = re.compile(rf"answer\s*(?:is|:)\s*:?\s*\**\s*{_LABEL}(?![A-Za-z0-9])", re.I)
_ALONE = re.compile(rf"^\s*\**{_LABEL}(?:[.:)]|\**\s*$)", re.M)
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)


class Arc(BaseTaskSpec):
    """Questions with choices; ``cfg["style"]`` is choices (listed) or question."""

    name = "arc"
    summary = "School science with choices; files of the user's."
    settings = ("style",)
    instructions = "Answer with the letter of the right choice."

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the questions of a file."""
        style = cfg.get("style", "choices")
        if style not in ("choices", "question"):
            raise ConfigError(f"style is {style!r}; it must be choices or question")
        path = find(require_path(self.name, cfg), split, _FILES, self.name)
        examples = []
        for index, where, row in rows_of(path, count(split, cfg)):
            question, choices, right = _read(row, where)
            lines = [f"Question: {question}"]
            if style == "choices":
                lines += [f"{label}. {text}" for label, text in choices.items()]
            prompt = instructed("\n".join([*lines, "Answer:"]), cfg, self.instructions)
            examples.append(
                Example(
                    id=id_of(row, index),
                    prompt=prompt,
                    answer=right if style == "choices" else choices[right],
                    gold=json.dumps({"answer": right, "choices": choices}),
                    meta={"choices": choices},
                )
            )
        return examples

    def gold_of(self, row: Mapping[str, Any]) -> str | None:
        """Return the right label and the choices of a row as JSON."""
        if "answerKey" in row:
            _, choices, right = _read(row, f"the row '{row.get('id', '?')}'")
            return json.dumps({"answer": right, "choices": choices})
        return super().gold_of(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return a label: tagged, boxed, said to be the answer, or alone in a line."""
        tagged = _TAG.findall(pred)
        inside = tagged[-1] if tagged else last_boxed(pred)
        if inside is not None:
            found = re.fullmatch(rf"\s*{_LABEL}\.?\s*", inside)
            return found.group(1).upper() if found else None
        said = _SAID.findall(pred)
        alone = _ALONE.findall(pred)
        label = said[-1] if said else alone[0] if alone else None
        return label.upper() if label else None

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the right label."""
        return _parse(gold)[0]

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Compare labels; the text of a choice stands for its label."""
        right, choices = _parse(gold)
        said = prediction.strip().rstrip(".").casefold()
        for label, text in choices.items():
            if said == str(text).strip().rstrip(".").casefold():
                return Verdict(label, right, label == right, how="text")
        found = self.postprocess(prediction, cfg)
        return Verdict(found, right, found == right, how="label")


def _parse(gold: str) -> tuple[str, dict[str, str]]:
    try:
        item = json.loads(gold)
    except json.JSONDecodeError:
        item = None
    if isinstance(item, dict) and "answer" in item:
        return str(item["answer"]).upper(), dict(item.get("choices", {}))
    return gold.strip().upper(), {}


def _read(row: Mapping[str, Any], where: str) -> tuple[str, dict[str, str], str]:
    question, choices = row.get("question"), row.get("choices")
    if isinstance(question, Mapping):  # as AI2 writes it
        choices, question = question.get("choices"), question.get("stem")
    try:
        if isinstance(choices, Mapping):
            labels, texts = choices["label"], choices["text"]
        else:
            labels = [choice["label"] for choice in choices or ()]
            texts = [choice["text"] for choice in choices or ()]
        named = {str(k): str(v) for k, v in zip(labels, texts, strict=True)}
    except (KeyError, TypeError, ValueError):
        named = {}
    right = str(row.get("answerKey"))
    if not isinstance(question, str) or right not in named:
        raise DataError(
            f"{where} is no question of ARC; it needs 'question', 'choices' with label "
            f"and text, and 'answerKey', which is one of the labels"
        )
    return question, named, right
