"""GSM8K: word problems of primary school (Cobbe et al., arXiv 2110.14168).

The files have `question` and `answer`, and an answer ends with ``#### N``. Without a
path the data set ``openai/gsm8k`` is read with `datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mdlm_core.errors import ConfigError, DataError
from mdlm_llada.extract import numbers
from mdlm_llada.registry import BaseTaskSpec, Example, Settings, Verdict

from .files import count, find, id_of, instructed, rows_of, text_of

_FILES = ("{split}.jsonl", "gsm8k*{split}.jsonl", "{split}.jsonl.gz")
_EXTRACTIONS = ("auto", "strict", "flexible")
_STYLES = ("plain", "lm-eval")


class GSM8K(BaseTaskSpec):
    """Word problems; strict and flexible reading as lm-evaluation-harness has it.

    ``cfg["extraction"]`` is strict, flexible, or auto: strict where the text has
    ``####``, and flexible where it does not. ``cfg["annotations"]`` keeps the notes of
    the calculator in the answers to learn from. ``cfg["style"]`` is plain, the question
    alone, or lm-eval, ``Question: ...`` and ``Answer:``.
    """

    name = "gsm8k"
    summary = "Word problems of primary school; files of the user's, or the hub."
    settings = ("extraction", "annotations", "style")
    stop = ("Question:",)
    instructions = (
        "Solve the problem step by step. End with a line of #### and the result."
    )

    def build_dataset(self, split: str, cfg: Settings) -> Sequence[Example]:
        """Return the problems of a split."""
        style = _choice(cfg, "style", _STYLES)
        examples = []
        for index, where, row in self._rows(split, cfg):
            question = text_of(row, where, "question")
            answer = text_of(row, where, "answer")
            if numbers.strict(answer) is None:
                raise DataError(f"{where}: the answer does not end with '#### N'")
            if style == "lm-eval":
                question = f"Question: {question}\nAnswer:"
            learned = answer
            if not cfg.get("annotations", False):
                learned = numbers.without_annotations(answer)
            prompt = instructed(question, cfg, self.instructions)
            examples.append(Example(id_of(row, index), prompt, learned, answer))
        return examples

    def _rows(
        self, split: str, cfg: Settings
    ) -> Iterator[tuple[int, str, dict[str, Any]]]:
        limit = count(split, cfg)
        if cfg.get("path"):
            yield from rows_of(find(str(cfg["path"]), split, _FILES, self.name), limit)
            return
        for index, row in enumerate(_from_hub(split)):
            if limit and index >= limit:
                return
            yield index, f"openai/gsm8k, {split}, row {index}", dict(row)

    def postprocess(self, pred: str, cfg: Settings) -> str | None:
        """Return the number of a solution, or None."""
        how = _choice(cfg, "extraction", _EXTRACTIONS)
        found = numbers.strict(pred) if how != "flexible" else None
        if found is None and how != "strict":
            found = numbers.flexible(pred)
        return None if found is None else numbers.comparable(found)

    def expected(self, gold: str, cfg: Settings) -> str | None:
        """Return the number of a worked answer, or of a number alone."""
        expected = numbers.comparable(gold.strip())
        if not any(letter.isdecimal() for letter in expected):
            raise DataError(
                f"the gold of task 'gsm8k' is a number, or an answer that ends with "
                f"'#### N'; got {gold!r:.80}"
            )
        return expected

    def judge(self, prediction: str, gold: str, cfg: Settings) -> Verdict:
        """Compare numbers; both readings are counted beside the chosen one."""
        expected = self.expected(gold, cfg)
        read = {"strict": numbers.strict, "flexible": numbers.flexible}
        right = {}
        for name, reader in read.items():
            number = reader(prediction)
            same = number is not None and numbers.comparable(number) == expected
            right[f"exact_match_{name}"] = float(same)
        found = self.postprocess(prediction, cfg)
        how = "strict" if numbers.strict(prediction) is not None else "flexible"
        chosen = _choice(cfg, "extraction", _EXTRACTIONS)
        how = how if chosen == "auto" else chosen
        return Verdict(found, expected, found == expected, right, how)


def _choice(cfg: Settings, key: str, allowed: tuple[str, ...]) -> str:
    value = cfg.get(key, allowed[0])
    if value not in allowed:
        raise ConfigError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}")
    return str(value)


def _from_hub(split: str) -> Any:
    from mdlm_core.data.hub import quiet, require

    datasets = require("datasets", "task 'gsm8k' without a path")
    try:
        with quiet():
            return datasets.load_dataset("openai/gsm8k", "main", split=split)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"the data set 'openai/gsm8k' cannot be loaded: {reason}; give the folder "
            f"of its train.jsonl and test.jsonl as the path"
        ) from error
