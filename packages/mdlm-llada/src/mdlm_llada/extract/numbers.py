"""Numbers in a text, read as lm-evaluation-harness reads them for GSM8K (version 3).

Strict is the first ``#### N``; flexible is the last thing that looks like a number.
Both are compared after the same things are taken away.
"""

from __future__ import annotations

import re

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = tuple(re.compile(p) for p in (",", r"\$", r"(?s).*#### ", r"\.$"))
_INTEGER = re.compile(r"[-+]?\d[\d,]*")
_ANNOTATION = re.compile(r"<<[^<>]*>>")


def strict(text: str) -> str | None:
    """Return the number behind the first ``#### ``, as it is written."""
    found = _STRICT.search(text)
    return found.group(1) if found else None


def flexible(text: str) -> str | None:
    """Return the last number of a text, as it is written."""
    found = list(_FLEXIBLE.finditer(text))
    return (found[-1].group(1) or found[-1].group(2)).strip() if found else None


def comparable(number: str) -> str:
    """Return a number without commas, dollar signs and a last full stop."""
    for pattern in _IGNORED:
        number = pattern.sub("", number)
    return number.lower()


def last_integer(text: str) -> str | None:
    """Return the last whole number of a text in plain digits, None if there is none."""
    found = _INTEGER.findall(text)
    return str(int(found[-1].replace(",", ""))) if found else None


def without_annotations(text: str) -> str:
    """Return GSM8K's solution without the calculator's notes, ``<<48/2=24>>``."""
    return _ANNOTATION.sub("", text)
