"""Prompts and answers as ids, the same way in training and in decoding.

What a person writes is encoded as text, so that it can never become a special token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.protocols import Tokenizer

from .tokenizer import Specials

TEMPLATES = ("llada", "plain", "none")
ROLES = ("system", "user", "assistant")

Message = Mapping[str, str]
"""``{"role": ..., "content": ...}``."""
Prompt = str | Sequence[Message]
"""What is asked: a text, or the turns of a conversation."""


def resolve_template(name: str, tokenizer: Tokenizer) -> str:
    """Return which template `name` means for `tokenizer`.

    - ``llada``: ``<|startoftext|>``, then every turn as ``<|start_header_id|>role
      <|end_header_id|>``, two line breaks, the text without spaces around it, and
      ``<|eot_id|>``; then the header of the answer.
    - ``plain``: the prompt and a line break.
    - ``none``: the prompt alone.
    - ``auto``: ``llada`` if the tokenizer has those tokens, ``plain`` if not.

    Raises:
        ConfigError: if `name` is unknown, or the tokenizer lacks a token of it.
    """
    headers = Specials.of(tokenizer).headers()
    if name == "auto":
        return "plain" if headers is None else "llada"
    if name not in TEMPLATES:
        raise ConfigError(
            f"the template is '{name}'; it must be auto, {', '.join(TEMPLATES)}"
        )
    if name == "llada" and headers is None:
        raise ConfigError(
            f"the template llada needs the special tokens <|startoftext|>, "
            f"<|start_header_id|>, <|end_header_id|> and <|eot_id|>, and the tokenizer "
            f"'{tokenizer.name}' has not all of them; use template=plain"
        )
    return name


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt, template: str) -> list[int]:
    """Return the ids of a prompt, up to where the answer begins.

    If the last turn is the assistant's, it is the beginning of the answer.

    Args:
        tokenizer: encodes the text.
        prompt: a text, which is one turn of the user; or turns.
        template: as `resolve_template` returns it.

    Raises:
        UsageError: if there is no turn, or a turn has no role or no content.
    """
    if template == "llada":
        return _llada(tokenizer, _turns(prompt))
    if template not in TEMPLATES:
        raise ConfigError(
            f"the template is '{template}'; resolve it first: one of "
            f"{', '.join(TEMPLATES)}"
        )
    text = _lines(prompt)
    return tokenizer.encode(text + "\n" if template == "plain" else text)


def _llada(tokenizer: Tokenizer, turns: Sequence[tuple[str, str]]) -> list[int]:
    headers = Specials.of(tokenizer).headers()
    if headers is None:
        raise ConfigError(
            f"the tokenizer '{tokenizer.name}' has no header tokens; use template=plain"
        )
    begin, start, end, turn_end = headers
    ids = [begin]
    if turns[-1][0] != "assistant":
        turns = [*turns, ("assistant", "")]
    for index, (role, content) in enumerate(turns):
        last = index == len(turns) - 1
        text = content.lstrip() if last else content.strip()
        ids += [start, *tokenizer.encode(role), end, *tokenizer.encode("\n\n" + text)]
        if not last:
            ids.append(turn_end)
    return ids


def _turns(prompt: Prompt) -> list[tuple[str, str]]:
    """Return role and content of every turn."""
    if isinstance(prompt, str):
        return [("user", prompt)]
    turns = []
    for index, message in enumerate(prompt):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise UsageError(
                f"turn {index} of a conversation is {dict(message)!r}; it needs "
                f"'content', a text, and 'role', one of {', '.join(ROLES)}"
            )
        turns.append((role, content))
    if not turns:
        raise UsageError("a conversation has no turn; give at least one of the user")
    return turns


def _lines(prompt: Prompt) -> str:
    """Return a prompt as one text, each turn on lines of its own."""
    return "\n".join(content for _, content in _turns(prompt))


def answer_ids(tokenizer: Tokenizer, answer: str, template: str) -> list[int]:
    """Return the ids of an answer and the one token that ends it.

    That is the end of a turn for ``llada``, and the end of text for the others.
    """
    return [*tokenizer.encode(answer), end_id(tokenizer, template)]


def end_id(tokenizer: Tokenizer, template: str) -> int:
    """Return the id that ends an answer."""
    specials = Specials.of(tokenizer)
    if template == "llada" and specials.turn_end is not None:
        return specials.turn_end
    return specials.end


def answer_text(tokenizer: Tokenizer, ids: Sequence[int], template: str) -> str:
    """Return the text of an answer, up to the first token that ends one.

    Any such token counts, whatever the template: a model knows several.
    """
    return tokenizer.decode(cut_answer(tokenizer, ids, template))


def cut_answer(tokenizer: Tokenizer, ids: Sequence[int], template: str) -> list[int]:
    """Return the ids before the first one that ends an answer."""
    ends = {*Specials.of(tokenizer).ends, end_id(tokenizer, template)}
    where = (place for place, id_ in enumerate(ids) if int(id_) in ends)
    return [int(id_) for id_ in ids[: next(where, len(ids))]]
