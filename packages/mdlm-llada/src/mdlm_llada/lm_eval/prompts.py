"""Prompts of the harness as ids, with special tokens that no text can contain.

The harness hands prompts over as text, also those with a chat template. In ours a
special token stands between two characters of the private use area of Unicode, so that
a question that contains ``<|eot_id|>`` stays a question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mdlm_core.errors import UsageError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.template import ROLES
from mdlm_llada.tokenizer import special_ids

_OPEN, _CLOSE = "\ue000", "\ue001"
_TOKEN = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


def _special(token: str) -> str:
    return f"{_OPEN}{token}{_CLOSE}"


def render(
    turns: Sequence[Mapping[str, str]], template: str, *, begun: bool = False
) -> str:
    """Return a conversation as the text that `encode` knows.

    Args:
        turns: roles and contents.
        template: as `resolve_template` returns it.
        begun: whether the last turn is the beginning of the answer.

    Raises:
        UsageError: if a turn has no such role, or contains what marks special tokens.
    """
    for index, turn in enumerate(turns):
        if turn.get("role") not in ROLES:
            raise UsageError(
                f"turn {index} of a conversation has the role {turn.get('role')!r}; "
                f"it must be one of {', '.join(ROLES)}"
            )
        if _TOKEN.search(turn["content"]):
            raise UsageError(
                f"turn {index} of a conversation holds the characters U+E000 and "
                f"U+E001 around a text, which mark special tokens here; remove them"
            )
    if template != "llada":
        texts = [turn["content"] for turn in turns]
        end = "\n" if template == "plain" and not begun else ""
        return "\n".join(texts) + end
    parts = [_special("<|startoftext|>")]
    rest = list(turns) if begun else [*turns, {"role": "assistant", "content": ""}]
    for index, turn in enumerate(rest):
        last = index == len(rest) - 1
        content = turn["content"].lstrip() if last else turn["content"].strip()
        parts += [_special("<|start_header_id|>"), turn["role"]]
        parts += [_special("<|end_header_id|>"), "\n\n", content]
        parts += [] if last else [_special("<|eot_id|>")]
    return "".join(parts)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of a text; what `render` marked becomes special tokens."""
    known = special_ids(tokenizer)
    ids: list[int] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.group(1) in known:
            ids += _plain(tokenizer, text[end : match.start()])
            ids.append(known[match.group(1)])
            end = match.end()
    return ids + _plain(tokenizer, text[end:])


def _plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text) if text else []


def encode_pair(
    tokenizer: Tokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the ids of a context and of what continues it.

    As in the harness, spaces at the end of the context go to the continuation, and
    both are encoded together, because a token may begin with a space. The spaces that
    end a chat template stay where they are.
    """
    last = max((match.end() for match in _TOKEN.finditer(context)), default=0)
    head, tail = context[:last], context[last:]
    spaces = len(tail) - len(tail.rstrip())
    if spaces and not (head and not tail.strip()):
        continuation = tail[-spaces:] + continuation
        tail = tail[:-spaces]
    before = _plain(tokenizer, tail)
    whole = _plain(tokenizer, tail + continuation)
    start = encode(tokenizer, head)
    if len(whole) <= len(before) and continuation:  # one token across the border
        return start + before, _plain(tokenizer, continuation)
    return start + whole[: len(before)], whole[len(before) :]
