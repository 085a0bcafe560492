"""Check 3: text comes back from its tokens, and the mask stands nowhere in the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from mdlm_core.data.files import JsonlDocuments
from mdlm_core.data.python_docs import python_documents
from mdlm_core.protocols import Tokenizer

from .report import Finding, failed, passed, warned
from .subject import Subject

_TEXTS = 200
_ROWS = 256
_PIECES = 8


def tokens(subject: Subject) -> Iterator[Finding]:
    """Encode and decode real text; look for the mask in the data."""
    source = subject.data
    tokenizer = source.tokenizer
    if subject.stands_in and tokenizer.name != subject.phase.tokenizer:
        yield failed(
            f"the tokenizer {subject.phase.tokenizer} of the phase cannot be had here",
            "install mdlm-core[hf] and fetch it once with a network, or set a folder "
            "that holds it: --set data.tokenizer=FOLDER",
        )
    yield _round_trip(tokenizer, _texts(subject))
    yield from _ids(subject)
    yield from _vocabulary(subject)


def _texts(subject: Subject) -> list[str]:
    if subject.stands_in or not subject.phase.dataset.cache_file.is_file():
        texts: Iterable[str] = python_documents()
    else:
        texts = JsonlDocuments([subject.phase.dataset.cache_file])
    return [text[:2000] for text in islice(texts, _TEXTS)]


def _round_trip(tokenizer: Tokenizer, texts: list[str]) -> Finding:
    """Return what becomes of text that is encoded and decoded again."""
    different, spaces, size = 0, 0, 0
    example = ""
    for text in texts:
        ids = tokenizer.encode(text)
        size += len(ids)
        if tokenizer.mask_id in ids:
            return failed(
                f"'{tokenizer.name}' writes the mask id {tokenizer.mask_id} for text",
                "give the mask an id of its own",
            )
        again = tokenizer.decode(ids)
        if again != text:
            different += 1
            spaces += again.split() == text.split()
            example = example or _where(text, again)
    told = f"{len(texts)} texts of the data, {size:,} tokens, with '{tokenizer.name}'"
    if not different:
        return passed(f"{told}: decoding gives the text back")
    if spaces == different:
        return warned(
            f"{told}: in {different} the spaces differ after decoding, {example}",
            "bits per byte are those of the text as it was",
        )
    return failed(
        f"{told}: {different} differ after decoding, {example}",
        "take a tokenizer that loses nothing, such as byte; perplexities of a lossy "
        "one describe another text",
    )


def _where(text: str, again: str) -> str:
    pairs = enumerate(zip(text, again, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(text), len(again)))
    near = slice(max(at - 5, 0), at + 10)
    return f"such as {text[near]!r} and {again[near]!r}"


def _ids(subject: Subject) -> Iterator[Finding]:
    """Look at the ids of rows of both splits."""
    source = subject.data
    mask, size = source.tokenizer.mask_id, source.tokenizer.vocab_size
    seen = masks = outside = 0
    for split in ("train", "validation"):
        rows = min(source.size(split) or _ROWS, _ROWS)
        pieces = source.batches(split, size=rows, seed=0)
        for batch in islice(pieces, 1 if split == "train" else _PIECES):
            ids = batch.tokens[batch.free]
            seen += len(ids)
            masks += int((ids == mask).sum())
            outside += int(((ids < 0) | (ids >= size)).sum())
    if masks:
        yield failed(
            f"the mask id {mask} stands {masks} times in {seen:,} tokens of the data",
            "a masked token would be learned as text; give the mask an id of its own",
        )
    if outside:
        yield failed(
            f"{outside} of {seen:,} ids of the data are not in 0 to {size - 1}",
            "the data were made with another tokenizer; prepare them again",
        )
    if not masks and not outside:
        yield passed(
            f"the mask id {mask} is in none of {seen:,} tokens, and all ids are in "
            f"0 to {size - 1}"
        )


def _vocabulary(subject: Subject) -> Iterator[Finding]:
    """Compare the tokenizer's vocabulary with that of the model."""
    config = subject.config(subject.variants[0])
    tokenizer = subject.data.tokenizer
    backbone = subject.module(config).backbone
    facts = [
        ("ids", getattr(backbone, "vocab_size", None), tokenizer.vocab_size),
        ("the mask id", getattr(backbone, "mask_id", None), tokenizer.mask_id),
    ]
    if isinstance(head := getattr(backbone, "head", None), torch.nn.Linear):
        facts.append(("rows of the head", head.out_features, tokenizer.vocab_size))
    wrong = [
        f"{what}: {model} in the model, {data} in the tokenizer"
        for what, model, data in facts
        if model != data
    ]
    if wrong:
        yield failed("; ".join(wrong), "build the model for the data's tokenizer")
    else:
        yield passed(
            f"{tokenizer.vocab_size} ids, mask {tokenizer.mask_id}, in the model as in "
            "the tokenizer"
        )
