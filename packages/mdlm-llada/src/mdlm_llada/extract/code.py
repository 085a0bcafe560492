"""Python in a text: inside a fence."""

from __future__ import annotations

import re

_TAGGED = re.compile(r"```[ \t]*(?:python3?|py)[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.S)
_BARE = re.compile(r"\A\s*```[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.S)


def fenced(text: str, wanted: str = "") -> str | None:
    """Return the code of a fenced block; None if the text opens no fence.

    Args:
        text: what a model wrote. A fence that only closes does not count: a model that
            goes on with a fence of the prompt writes one.
        wanted: take the last block that contains this, if there is one, and the first
            block otherwise.
    """
    blocks = _TAGGED.findall(text) or _BARE.findall(text)
    with_it = [block for block in blocks if wanted and wanted in block]
    if with_it:
        return str(with_it[-1])
    return str(blocks[0]) if blocks else None
