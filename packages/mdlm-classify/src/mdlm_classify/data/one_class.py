"""Texts of one class alone, for a model that knows no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mdlm_classify.config import LabelledTextConfig
from mdlm_core.errors import DataError
from mdlm_core.protocols import Tokenizer

from .prepare import Prepared, split_of, tokenizer_of
from .rows import Rows
from .source import LabelledSource
from .split import holdout
from .texts import LabelledTexts

LABEL = "text"
"""What the class is called."""


def one_class(
    texts: Sequence[str],
    config: LabelledTextConfig,
    *,
    tokenizer: Tokenizer | None = None,
) -> LabelledSource:
    """Return the source of texts of one class; some are held out.

    Args:
        texts: the texts; one that stands twice is taken once, unless
            ``config.duplicates`` is "keep".
        config: how they are divided and encoded.
        tokenizer: one that is there already; None builds ``config.tokenizer``.

    Raises:
        DataError: if there are fewer than two different texts, or all are empty.
    """
    if config.duplicates == "drop":
        texts = list(dict.fromkeys(texts))
    if len(texts) < 2:
        raise DataError(
            f"there {'is one text' if len(texts) else 'are no texts'} of the class, "
            f"and one is learned from and one held out; give two different ones at "
            f"least"
        )
    all_texts = LabelledTexts.of(texts, [LABEL] * len(texts))
    learned, held = holdout(all_texts.labels or (), config.holdout, config.seed)
    train, held_out = all_texts.select(learned), all_texts.select(held)
    tokenizer = tokenizer or tokenizer_of(config, train, held_out, ())
    splits, facts = {}, {}
    for name, part in (("train", train), ("validation", held_out)):
        splits[name], facts[name] = split_of(
            part, (LABEL,), tokenizer, config.length, drop_empty=name == "train"
        )
        if not len(splits[name]):
            raise DataError(
                f"all {len(part)} texts of the part '{name}' are empty; give some with "
                f"words"
            )
    card = {
        "name": "texts of one class",
        "tokenizer": {
            "name": tokenizer.name,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint(),
        },
        "length": config.length,
        "labels": [LABEL],
        "splits": facts,
    }
    empty = Rows.cut([], np.zeros(0, dtype=np.int64), config.length)
    return LabelledSource(Prepared(tokenizer, (LABEL,), splits, empty, card), config)
