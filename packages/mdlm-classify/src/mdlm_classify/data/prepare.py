"""From texts as they were read to rows: what is dropped, divided and encoded.

Letters: N texts, L length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

import numpy as np

from mdlm_classify.config import LabelledTextConfig
from mdlm_classify.tokenizer import train_words
from mdlm_core.data.tokenizers import build_tokenizer
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import Tokenizer

from .duplicates import overlap, signatures
from .labels import classes_of, codes_of
from .rows import Rows, encode_all
from .split import holdout, subset
from .texts import LabelledTexts, read_texts


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a source needs."""

    tokenizer: Tokenizer
    labels: tuple[str, ...]
    splits: Mapping[str, Rows]
    """"train" and "validation"."""
    unlabelled: Rows
    card: Mapping[str, object]
    dropped: str = ""
    """Which texts with labels are not learned from, in words; empty if none."""


def read(
    config: LabelledTextConfig,
) -> tuple[LabelledTexts, LabelledTexts | None, tuple[str, ...], dict[str, object]]:
    """Return training, held-out and unlabelled texts, and an entry for the card."""
    if not config.path:
        from .docstrings import library_topics

        train = library_topics()
        card: dict[str, object] = {"name": "docstrings by topic"}
    else:
        train = _read(config, config.path)
        card = {"name": "labelled-text", "path": config.path}
    held_out = None
    if config.validation:
        held_out = _read(config, config.validation, split="validation")
        card["validation"] = config.validation
    texts: tuple[str, ...] = ()
    if config.unlabelled:
        found = read_texts(
            config.unlabelled,
            text=config.text,
            subset=config.subset,
            split=config.split,
            labelled=False,
            clean=config.clean,
        )
        texts = found.texts
        card["unlabelled_path"] = config.unlabelled
    return train, held_out, texts, card


def _read(
    config: LabelledTextConfig, path: str, split: str | None = None
) -> LabelledTexts:
    return read_texts(
        path,
        format=config.format if path == config.path else "auto",
        text=config.text,
        label=config.label,
        subset=config.subset,
        split=split or config.split,
        clean=config.clean,
        label_map=config.label_map,
    )


def prepare(
    train: LabelledTexts,
    held_out: LabelledTexts | None,
    config: LabelledTextConfig,
    unlabelled: Sequence[str],
    tokenizer: Tokenizer | None,
    card: Mapping[str, object],
) -> Prepared:
    """Drop, divide and encode texts; see `LabelledSource.from_texts`."""
    read = len(train)
    train, held_out, dropped = divide(train, held_out, config)
    labels = classes_of(train.labels or (), config.labels)
    unlabelled, of_unlabelled = fresh_unlabelled(unlabelled, held_out, config)
    tokenizer = tokenizer or tokenizer_of(config, train, held_out, unlabelled)
    splits: dict[str, Rows] = {}
    facts: dict[str, dict[str, object]] = {}
    for name, texts in (("train", train), ("validation", held_out)):
        splits[name], facts[name] = split_of(
            texts, labels, tokenizer, config.length, drop_empty=name == "train"
        )
    if config.unlabelled_share == 1:  # no text has its label
        unlabelled, _ = fresh_unlabelled([*unlabelled, *train.texts], held_out, config)
    rows = Rows.cut(
        encode_all(tokenizer, unlabelled),
        np.full(len(unlabelled), -1, dtype=np.int64),
        config.length,
    )
    _check(splits["train"], labels, facts)
    return Prepared(
        tokenizer,
        labels,
        splits,
        rows,
        {
            **card,
            "tokenizer": {
                "name": tokenizer.name,
                "vocab_size": tokenizer.vocab_size,
                "fingerprint": tokenizer.fingerprint(),
            },
            "length": config.length,
            "labels": list(labels),
            "duplicates": {"policy": config.duplicates, **dropped},
            "splits": facts,
            "unlabelled": {
                "texts": rows.texts,
                "rows": len(rows),
                "share": config.unlabelled_share if len(rows) else 0.0,
                **of_unlabelled,
            },
        },
        dropped_text(
            read,
            name=config.path,
            empty=cast("int", facts["train"]["empty_texts"]),
            found=dropped,
            policy=config.duplicates,
        ),
    )


def dropped_text(
    read: int, *, name: str, empty: int, found: Mapping[str, int], policy: str
) -> str:
    """Return a line on the texts that are not learned from; empty if there are none.

    Args:
        read: training texts, before any was dropped.
        name: where they stand; may be empty.
        empty: how many hold no token.
        found: of `Overlap.card`.
        policy: what became of those: "drop" or "keep".
    """
    parts = [f"{empty:,} empty"] if empty else []
    if policy == "drop":
        if repeated := found["repeated"]:
            parts.append(f"{repeated:,} repeated")
        if other := found["contradictory"]:
            parts.append(f"{other:,} of them with another label")
        if held := found["also_held_out"]:
            parts.append(f"{held:,} also held out")
    if not parts:
        return ""
    return f"{read:,} texts{f' of {name}' if name else ''}: {', '.join(parts)}: dropped"


def divide(
    train: LabelledTexts, held_out: LabelledTexts | None, config: LabelledTextConfig
) -> tuple[LabelledTexts, LabelledTexts, dict[str, int]]:
    """Return the texts that are learned from, those held out, and what was dropped."""
    read = len(train)
    train, dropped = _fresh(train, held_out, config)
    assert train.labels is not None
    chosen = subset(train.labels, config.rows or len(train), config.seed)
    train = train.select(chosen)
    if held_out is None:
        try:
            learned, held = holdout(train.labels or (), config.holdout, config.seed)
        except DataError as error:
            said = dropped_text(
                read, name=config.path, empty=0, found=dropped, policy=config.duplicates
            )
            raise DataError(f"{error}{f' ({said})' if said else ''}") from None
        train, held_out = train.select(learned), train.select(held)
    return train, held_out, dropped


def _fresh(
    train: LabelledTexts, held_out: LabelledTexts | None, config: LabelledTextConfig
) -> tuple[LabelledTexts, dict[str, int]]:
    """Return the training texts without repetitions, and what was found."""
    held = () if held_out is None else signatures(held_out.texts)
    found = overlap(signatures(train.texts), train.labels, held)
    if config.duplicates == "drop":
        train = train.select(found.fresh)
        if not len(train):
            raise DataError(
                "all training texts are among the held-out ones; data.path and "
                "data.validation may be the same file"
            )
    return train, found.card()


def fresh_unlabelled(
    texts: Sequence[str], held_out: LabelledTexts, config: LabelledTextConfig
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the texts without labels that are learned from, and what was found."""
    if not texts:
        return (), {}
    found = overlap(signatures(texts), None, signatures(held_out.texts))
    if config.duplicates == "drop":
        texts = [texts[i] for i in found.fresh]
    return tuple(texts), {
        "also_held_out": found.held_out,
        "repeated": found.repeated,
    }


def tokenizer_of(
    config: LabelledTextConfig,
    train: LabelledTexts,
    held_out: LabelledTexts,
    unlabelled: Sequence[str],
) -> Tokenizer:
    """Build the tokenizer from training texts alone, but for char's alphabet."""
    name = config.tokenizer
    known = [*train.texts, *unlabelled]
    if name.partition(":")[0] != "words":
        more = held_out.texts if name == "char" else ()
        return build_tokenizer(name, [*known, *more])
    size = name.removeprefix("words:")
    if not size.isascii() or not size.isdigit() or not int(size):
        raise ConfigError(
            f"data.tokenizer is '{name}'; write words:<n>, for example words:20000"
        )
    return train_words(known, int(size), config.min_count)


def split_of(
    texts: LabelledTexts,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    length: int,
    *,
    drop_empty: bool,
) -> tuple[Rows, dict[str, object]]:
    """Return the rows of a split, and what the card says about it.

    A text without a token teaches nothing, and is dropped where it is learned from.
    """
    codes = codes_of(texts.labels or (), labels, texts.origin)
    ids = encode_all(tokenizer, texts.texts)
    full = np.array([i for i, found in enumerate(ids) if found], dtype=np.int64)
    empty = len(ids) - len(full)
    if drop_empty:
        ids, codes, texts = [ids[i] for i in full], codes[full], texts.select(full)
    rows = Rows.cut(ids, codes, length)
    counts = np.bincount(codes, minlength=len(labels)).tolist()
    windows = np.bincount(rows.owner, minlength=rows.texts)
    return rows, {
        "texts": rows.texts,
        "empty_texts": empty,
        "rows": len(rows),
        "tokens": len(rows.ids),
        "texts_per_class": dict(zip(labels, counts, strict=True)),
        "texts_in_several_rows": int((windows > 1).sum()),
        "sha256": digest_of(texts),
    }


def digest_of(texts: LabelledTexts) -> str:
    """Return the SHA-256 of texts and their labels, in their order."""
    digest = sha256()
    for text, label in zip(texts.texts, texts.labels or (), strict=True):
        digest.update(sha256(f"{label}\0{text}".encode(errors="replace")).digest())
    return digest.hexdigest()


def _check(
    train: Rows, labels: Sequence[str], facts: Mapping[str, Mapping[str, object]]
) -> None:
    """Refuse training texts that leave a class with nothing."""
    left = np.bincount(train.codes, minlength=len(labels))
    if not left.all():
        raise DataError(
            f"all training texts of the class '{labels[int(np.argmin(left))]}' are "
            f"empty ({facts['train']['empty_texts']} texts hold no token)"
        )
    if not facts["validation"]["rows"]:
        raise DataError("the held-out texts are all empty; give some with words")
