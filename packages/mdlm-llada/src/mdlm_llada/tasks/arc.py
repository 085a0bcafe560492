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
_SAYS = r"(?i:answer\s*(?:is|:))\s*:?\s*\**\s*"
_SAID = re.compile(
    rf"{_SAYS}(?:\(([A-Ea-e1-5])\)|([A-E1-5])(?![A-Za-z0-9]|\.\d)"
    rf"|([a-e])(?=[.,:;)*]|\s*$))",
    re.MULTILINE,
)
"""A small letter without brackets is a label only where a text may end."""
_REST = re.compile(rf"{_SAYS}(.*)")
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
        inside = _inside(pred)
        if inside is not None:
            found = re.fullmatch(rf"\s*{_LABEL}\.?\s*", inside)
            return found.group(1).upper() if found else None
        said = ["".join(groups) for groups in _SAID.findall(pred)]
        alone = _ALONE.findall(pred)
        label = said[-1] if said else alone[0] if alone else None
        return label.upper() if label else None

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the right label."""
        return _parse(gold)[0]

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Compare labels; the text of a choice stands for its label.

        That may be all of the prediction, or what it marks or says as the answer.
        """
        right, choices = _parse(gold)
        inside = _inside(prediction)
        rest = _REST.findall(prediction)[-1:] if inside is None else [inside]
        for said in map(_plain, (prediction, *rest)):
            for label, text in choices.items():
                if said == _plain(str(text)):
                    return Verdict(label, right, label == right, how="text")
        found = self.postprocess(prediction, cfg)
        return Verdict(found, right, found == right, how="label")


def _inside(text: str) -> str | None:
    """Return what a text marks as its answer; the last one."""
    tagged = _TAG.findall(text)
    return tagged[-1] if tagged else last_boxed(text)


def _plain(text: str) -> str:
    """Return a text as it is compared."""
    return text.lstrip("* \n").rstrip("*. \n").casefold()


def _parse(gold: str) -> tuple[str, dict[str, str]]:
    try:
        item = json.loads(gold)
    except json.JSONDecodeError:
        item = None
    choices = {}
    right = gold.strip()
    if isinstance(item, dict) and "answer" in item:
        right, choices = str(item["answer"]), item.get("choices", {})
    named = isinstance(choices, dict) and (not choices or right in choices)
    if not named or not re.fullmatch(_LABEL, right):
        raise DataError(
            f"the gold of task 'arc' is a label from A to E or 1 to 5, or a JSON "
            f"object with answer, which is one, and choices by label; got {gold!r:.80}"
        )
    return right.strip("()").upper(), choices


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
