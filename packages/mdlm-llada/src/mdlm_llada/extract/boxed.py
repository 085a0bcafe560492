r"""The last ``\boxed{...}`` of a text, with the braces inside it."""

from __future__ import annotations

import re

_START = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_UNBRACED = re.compile(r"\\boxed ([^$]*)")


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last ``\boxed{}``, or else ``\fbox{}``.

    Braces are balanced, ``\{`` and ``\}`` not counted. A box that is not closed is
    passed over for the one before it. ``\boxed 5`` without braces goes up to the next
    dollar sign.
    """
    for kind in ("boxed", "fbox"):
        starts = [m for m in _START.finditer(text) if m.group().startswith(f"\\{kind}")]
        for start in reversed(starts):
            inside = _inside(text, start.end())
            if inside is not None:
                return inside
        if kind == "boxed" and (bare := _UNBRACED.findall(text)):
            return str(bare[-1]).strip()
    return None


def _inside(text: str, start: int) -> str | None:
    """Return what is between the brace at `start` and the one that closes it."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i]
        i += 1
    return None
