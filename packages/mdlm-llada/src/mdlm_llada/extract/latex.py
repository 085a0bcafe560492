r"""Answers in LaTeX: found in a solution, and written in one way.

The rules of writing are those of appendix D of Lewkowycz et al. (2022, arXiv
2206.14858), with the corrections of lm-evaluation-harness 0.4.13: units are taken away
as whole words first, names of commands are left alone, and commas only between groups
of three digits.
"""

from __future__ import annotations

import re

from .boxed import last_boxed

_FINAL = re.compile(
    r"Final Answer: The final answer is(.*?)\. I hope it is correct\.", re.DOTALL
)
_SAID = re.compile(r"answer is:?\s*\$?([^\n$]+?)\$?\s*\.?\s*(?:\n|$)", re.IGNORECASE)


def _words(text: str) -> list[str]:
    return text.split()


_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    (r"\$", ""),
    (r"\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (r",\text{and}", ","),
    (r"\text{and}", ","),
    (r"\text{m}", r"\text{}"),
)
_REMOVED = (
    *_words("square ways integers dollars mph inches ft hours km units"),
    r"\ldots",
    *_words("sue points feet minutes digits cents degrees cm gm pounds meters meals"),
    *_words("edges students childrentickets multiples"),
    r"\text{s}",
    r"\text{.}",
    "\\text{\ns}",
    r"\text{}^2",
    r"\text{}^3",
    "\\text{\n}",
    r"\text{}",
    r"\mathrm{th}",
    r"^\circ",
    r"^{\circ}",
    r"\;",
    r",\!",
    "{,}",
    '"',
    r"\dots",
)
"""Words of units, and marks that say nothing, in the order they are taken away."""
_COMMAND = re.compile(r"(\\[a-zA-Z]+)")
_WORD = re.compile(
    rf"(?<!\\)\b(?:{'|'.join(word for word in _REMOVED if word.isalpha())})\b"
)
_REWRITTEN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(.*?)(\$)(.*?)(\$)(.*)", r"$\3$"),
        (r"(\\text\{)(.*?)(\})", r"\2"),
        (r"(\\textbf\{)(.*?)(\})", r"\2"),
        (r"(\\overline\{)(.*?)(\})", r"\2"),
        (r"(\\boxed\{)(.*)(\})", r"\2"),
        (r"(frac)([^{])(.)", r"frac{\2}{\3}"),
        (r"(sqrt)(\[[^\]]*\])(\w)", r"\1\2{\3}"),
        (r"(sqrt)(?!\[)([^{])", r"sqrt{\2}"),
    )
)
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+")


def find_answer(solution: str) -> tuple[str, str] | None:
    """Return the answer of a solution and where it was found, None if nowhere.

    A box counts first, then the closing phrase of the four-shot prompt ("Final Answer:
    The final answer is X. I hope it is correct."), then "the answer is X".
    """
    boxed = last_boxed(solution)
    if boxed is not None:
        return boxed, "boxed"
    phrases = _FINAL.findall(solution)
    if phrases:
        return phrases[-1].strip(), "final answer"
    said = _SAID.findall(solution)
    return (said[-1].strip(), "answer is") if said else None


def normalise(answer: str) -> str:
    """Return an answer in the one way of writing that answers are compared in."""
    answer = answer.rpartition("=")[2]
    answer = _WORD.sub("", answer)
    for old, new in _REPLACED:
        answer = answer.replace(old, new)
    for word in _REMOVED:
        answer = _without(answer, word)
    for pattern, replacement in _REWRITTEN:
        answer = pattern.sub(replacement, answer)
    answer = answer.replace("$", "")
    if _THOUSANDS.fullmatch(answer):
        answer = answer.replace(",", "")
    return answer


def _without(answer: str, word: str) -> str:
    """Take `word` away; letters only outside the names of commands."""
    if not word.isalpha():
        return answer.replace(word, "")
    parts = _COMMAND.split(answer)
    parts[::2] = [part.replace(word, "") for part in parts[::2]]
    return "".join(parts)
