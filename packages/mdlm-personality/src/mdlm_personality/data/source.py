"""Batches of texts with what is known about their authors.

Letters: B rows in this process's part of a batch, L length, R rows of a split, M
persons, K columns: the five traits, then the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from mdlm_core.data.batch import Batch
from mdlm_core.data.source import check_request, share, shuffled
from mdlm_core.data.split import SPLITS
from mdlm_core.data.tokenizers import build_tokenizer, utf8
from mdlm_core.errors import DataError
from mdlm_core.protocols import Tokenizer
from mdlm_personality.config import PersonaCorpusConfig, PersonaTextConfig
from mdlm_personality.traits import TRAITS

from .rows import Rows
from .split import divide
from .texts import PersonaTexts, Places, Values

Config = PersonaCorpusConfig | PersonaTextConfig


class PersonaSource:
    """Windows of authors' texts, with their values; a `protocols.DataSource`.

    The texts of a person follow each other, each with the end of document after it,
    and are cut into rows of `length`; the last row of a person is padded. A person is
    an author, or several if the author's texts have different values.
    ``condition["traits"]`` is ``(B, K)`` float32, 0 where nothing is known, and
    ``condition["known"]`` is ``(B, K)`` bool. In a table without texts a row is one
    end token that is frozen.
    """

    def __init__(
        self,
        splits: Mapping[str, PersonaTexts],
        tokenizer: Tokenizer,
        *,
        length: int,
        card: Mapping[str, object] | None = None,
    ) -> None:
        """Encode and cut texts that were divided.

        Args:
            splits: "train" and "validation", with the same columns.
            tokenizer: what encodes them.
            length: L.
            card: more entries for the card.
        """
        self.tokenizer = tokenizer
        self.length = length
        self.columns = splits["train"].columns
        self.labels = self.columns[len(TRAITS) :]
        self.label_tiers = dict(splits["train"].tiers)
        self._texts = dict(splits)
        self._extra = dict(card or {})
        untold = not any(map(any, (texts.texts for texts in splits.values())))
        self._rows = {
            split: Rows.cut(texts, tokenizer, length, untold)
            for split, texts in splits.items()
        }

    @classmethod
    def from_texts(
        cls,
        texts: PersonaTexts,
        config: Config,
        *,
        tokenizer: Tokenizer | None = None,
        card: Mapping[str, object] | None = None,
    ) -> PersonaSource:
        """Divide and encode texts.

        Args:
            texts: all texts.
            config: length, tokenizer and the share of the authors held out.
            tokenizer: one that is there already; None builds ``config.tokenizer`` from
                the training texts.
            card: more entries for the card.

        Raises:
            DataError: if a split is empty.
        """
        splits = divide(texts, config.holdout)
        if tokenizer is None:
            tokenizer = _tokenizer(config.tokenizer, splits["train"].texts)
        more = {"holdout": config.holdout, **(card or {})}
        return cls(splits, tokenizer, length=config.length, card=more)

    def size(self, split: str) -> int:
        """Return the rows R of `split`."""
        check_request(split, 1, 0, 0, 1)
        return len(self._rows[split])

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the batches in which each training row comes once."""
        return len(self._rows["train"]) // batch_size

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield this process's rows of global batch `start`, `start + 1`, ...

        "train" has ``R // size`` global batches in an epoch, in an order decided by
        (seed, epoch); "validation" is in order, and its last batch may be short.

        Raises:
            DataError: at once, if the training rows do not fill one batch.
        """
        check_request(split, size, start, rank, world)
        if split == "validation":
            return self._in_order(size, start, rank, world)
        if not self.steps_per_epoch(size):
            raise DataError(
                f"the training split has {len(self._rows['train'])} rows of "
                f"{self.length} tokens, and train.batch_size={size} asks for more in "
                "one batch; lower train.batch_size or data.length, or give more text"
            )
        return self._shuffled(size, seed, start, rank, world)

    def _in_order(
        self, size: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        rows = np.arange(len(self._rows["validation"]))
        for first in range(start * size, len(rows), size):
            part = share(rows[first : first + size], rank, world)
            yield self._batch("validation", part)

    def _shuffled(
        self, size: int, seed: int, start: int, rank: int, world: int
    ) -> Iterator[Batch]:
        steps = self.steps_per_epoch(size)
        epoch, index = divmod(start, steps)
        while True:
            order = shuffled(len(self._rows["train"]), seed, epoch)
            for first in range(index * size, steps * size, size):
                part = share(order[first : first + size], rank, world)
                yield self._batch("train", part, epoch)
            epoch, index = epoch + 1, 0

    def _batch(self, split: str, rows: Places, epoch: int = 0) -> Batch:
        of = self._rows[split]
        tokens = torch.from_numpy(of.tokens[rows].astype(np.int64))
        pad = np.arange(of.tokens.shape[1]) >= of.sizes[rows, None]
        values = of.values[of.owner[rows]]  # (B, K)
        known = ~np.isnan(values)
        traits = np.where(known, values, 0).astype(np.float32)
        return Batch.of(
            tokens,
            frozen=torch.ones_like(tokens, dtype=torch.bool) if of.untold else None,
            pad=torch.from_numpy(pad),
            sample_id=torch.from_numpy(rows.astype(np.int64)),
            condition={
                "traits": torch.from_numpy(traits),
                "known": torch.from_numpy(known),
            },
            epoch=epoch,
        )

    def rows(self, split: str, places: Sequence[int] | Places) -> Batch:
        """Return rows of `split` by their places, which are their `sample_id`."""
        check_request(split, 1, 0, 0, 1)
        return self._batch(split, np.asarray(places, dtype=np.int64))

    def owners(self, split: str) -> Places:
        """Return whose each row of `split` is ``(R,)``: places in `table`."""
        check_request(split, 1, 0, 0, 1)
        return self._rows[split].owner.copy()

    def texts(self, split: str) -> PersonaTexts:
        """Return the texts of `split` as they were read."""
        check_request(split, 1, 0, 0, 1)
        return self._texts[split]

    def windows(self, split: str) -> PersonaTexts:
        """Return the rows of `split` as texts, which may begin and end inside a word.

        What is measured on texts of the length of a row, such as generated ones, is
        compared with these.
        """
        check_request(split, 1, 0, 0, 1)
        of, texts = self._rows[split], self._texts[split]
        names, _, _ = texts.persons()
        return PersonaTexts(
            tuple(
                self.tokenizer.decode(row[:size].tolist())
                for row, size in zip(of.tokens, of.sizes.tolist(), strict=True)
            ),
            tuple(names[place] for place in of.owner.tolist()),
            of.values[of.owner],
            self.columns,
            self.label_tiers,
        )

    def statistics(self) -> tuple[Values, Values]:
        """Return mean and standard deviation of each column, each ``(K,)`` float64.

        Over the training persons of whom it is known, each counted once. The deviation
        is at least 1e-6. A trait that the data does not tell of anybody has those of
        the uniform law, 1/2 and 1/sqrt(12).

        Raises:
            DataError: if a label is not known of anybody.
        """
        values = self._rows["train"].values
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        for name, number in zip(self.labels, count[len(TRAITS) :], strict=True):
            if not number:
                raise DataError(
                    f"{name} is not known of any of the {len(values)} persons that are "
                    "learned from; leave it out of data.labels"
                )
        total = np.maximum(count, 1)
        mean = np.where(known, values, 0).sum(axis=0) / total
        squares = np.where(known, values - mean, 0) ** 2
        std = np.maximum(np.sqrt(squares.sum(axis=0) / total), 1e-6)
        return np.where(count, mean, 0.5), np.where(count, std, 12**-0.5)

    def table(self, split: str) -> Values:
        """Return the values of the persons of `split` ``(M, K)``; NaN is not known."""
        check_request(split, 1, 0, 0, 1)
        return self._rows[split].values.copy()

    def completed(self, config: Any) -> Any:
        """Return the settings; the data adds nothing to them."""
        return config

    def card(self) -> dict[str, object]:
        """Return what identifies the data.

        `bytes_per_token` is the UTF-8 bytes of a split's text over its tokens, end
        tokens included.
        """
        return {
            **self._extra,
            "tokenizer": {
                "name": self.tokenizer.name,
                "vocab_size": self.tokenizer.vocab_size,
                "fingerprint": self.tokenizer.fingerprint(),
            },
            "length": self.length,
            "columns": list(self.columns),
            "label_tiers": self.label_tiers,
            "splits": {split: self._split_card(split) for split in SPLITS},
        }

    def _split_card(self, split: str) -> dict[str, object]:
        texts, rows = self._texts[split], self._rows[split]
        content, size = sha256(), 0
        for author, text in zip(texts.authors, texts.texts, strict=True):
            raw = utf8(text)
            size += len(raw)
            content.update(sha256(author.encode("utf-8", "surrogatepass")).digest())
            content.update(sha256(raw).digest())
        content.update(texts.values.tobytes())
        tokens = int(rows.sizes.sum())
        known = (~np.isnan(rows.values)).mean(axis=0)
        return {
            "authors": len(set(texts.authors)),
            "persons": len(rows.values),
            "documents": len(texts),
            "rows": len(rows),
            "tokens": tokens,
            "bytes": size,
            "bytes_per_token": size / tokens,
            "known": dict(zip(self.columns, known.round(4).tolist(), strict=True)),
            "sha256": content.hexdigest(),
        }


def _tokenizer(name: str, texts: tuple[str, ...]) -> Tokenizer:
    """Return the tokenizer; a table without texts has nothing to learn one from."""
    return build_tokenizer(name if any(texts) else "byte", texts)


def build_corpus(config: PersonaCorpusConfig) -> PersonaSource:
    """Return the data source of the invented persons."""
    from .corpus import persona_corpus

    card = {"name": "persona-corpus", "seed": config.seed, "effect": config.effect}
    return PersonaSource.from_texts(persona_corpus(config), config, card=card)


def read_texts(config: PersonaTextConfig) -> PersonaTexts:
    """Return the texts of a file, not yet divided; see `formats.read` for errors."""
    from .formats import read

    return read(config)[0]


def build(config: PersonaTextConfig) -> PersonaSource:
    """Return the data source of a file of texts with traits."""
    from .formats import read

    texts, card = read(config)
    return PersonaSource.from_texts(texts, config, card=card)
