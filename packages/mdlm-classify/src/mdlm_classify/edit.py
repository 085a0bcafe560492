"""Change a text as little as needed until it is of another class.

The words that speak most against the class are hidden and written again under it, in
rounds, until the posterior of the class is high enough or enough words have changed.

Letters: L length, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import Sampler

from .attribution import explain
from .config.editing import EditSettings
from .nn.condition import LABEL
from .predictor import Predictor
from .sample import class_of, fill
from .words import Word, tail, words_of

_CLOSING = frozenset(".,!?;:)")


@dataclass(frozen=True, slots=True)
class Change:
    """A word that was replaced."""

    place: int
    """Its number in the text, from 0."""
    before: str
    after: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """A text, and what became of it."""

    target: str
    """The class that was wanted."""
    before: str
    after: str
    posterior_before: float
    """p(target | text), of what it was."""
    posterior_after: float
    """Of what it is: what the model says of this text, under masks of its own, with
    which nothing was chosen."""
    label_before: str
    label_after: str
    changes: tuple[Change, ...]
    words: int
    """Those that could have been changed; marks cannot."""
    rounds: int
    evaluations: int
    """Rows that went through the model, to write and to compare."""
    reached: bool
    """Whether `posterior_after` is at least the threshold."""


def edit(
    predictor: Predictor,
    text: str,
    target: str,
    *,
    settings: EditSettings | None = None,
    sampler: Sampler | None = None,
    config: SamplerConfig | None = None,
) -> Edit:
    """Return `text` with some words replaced, so that it is of the class `target`.

    Each round takes the text as it is now; hides the words whose contributions to the
    log-ratio of the target and the strongest other class are the most negative; writes
    `candidates` texts there under the target; and goes on with the one that has the
    highest posterior, if that is higher than before. Otherwise more words are hidden.
    Words become words and not marks, and the number of tokens stays the same. The masks
    with which candidates are compared are not those of the posterior that is reported.

    Args:
        predictor: the classifier.
        text: what is changed.
        target: the name of the class that is wanted.
        settings: how far the edit may go.
        sampler: ancestral if not given.
        config: temperature, top-k, top-p and steps of the sampler.

    Raises:
        DataError: if the text has no word.
        UnknownNameError: if there is no such class.
    """
    settings = settings or EditSettings()
    wanted = class_of(target, predictor.labels)
    work = _Work(predictor, text, wanted, settings, sampler, config)
    start = now = work.judge(text)
    rounds, hide = 0, settings.step
    while now.share < settings.threshold and rounds < work.most_rounds:
        rounds += 1
        better = work.round(rounds, hide)
        if better is None:
            break
        if better:
            hide = settings.step
            now = work.judge(work.text)
        elif hide >= 1:
            break
        else:
            hide = min(1.0, 2 * hide)
    return Edit(
        target=target,
        before=text,
        after=work.text,
        posterior_before=start.share,
        posterior_after=now.share,
        label_before=start.label,
        label_after=now.label,
        changes=work.changes(),
        words=len(work.places),
        rounds=rounds,
        evaluations=work.evaluations,
        reached=now.share >= settings.threshold,
    )


@dataclass(frozen=True, slots=True)
class _Judged:
    share: float
    label: str


class _Work:
    """A text on its way to another class."""

    def __init__(
        self,
        predictor: Predictor,
        text: str,
        wanted: int,
        settings: EditSettings,
        sampler: Sampler | None,
        config: SamplerConfig | None,
    ) -> None:
        self.predictor = predictor
        self.wanted = wanted
        self.settings = settings
        self.sampler = sampler
        self.config = config
        self.original_text = self.text = text
        self.ids = predictor.tokenizer.encode(text)
        self.original = words_of(predictor.tokenizer, self.ids, text)
        self.tail = tail(self.original, text)
        self.shown = [word.text for word in self.original]
        self.changed: set[int] = set()
        self.places = [
            place for place, word in enumerate(self.original) if _is_word(word.text)
        ]
        if not self.places:
            raise DataError("the text has no word that could be changed")
        self.allowed = max(1, round(settings.budget * len(self.places)))
        self.most_rounds = 4 * math.ceil(settings.budget / settings.step)
        self.evaluations = 0
        self.search = replace(
            predictor.scoring,
            rule="fixed",
            start_draws=min(predictor.scoring.start_draws, settings.draws),
            max_draws=settings.draws,
            seed=predictor.scoring.seed + 1,
        )

    def judge(self, text: str) -> _Judged:
        """Return what the classifier says of a text, as it does of any."""
        scores = self.predictor.scores([text])
        self.evaluations += int(scores.evaluations.sum())
        posterior = self.predictor.log_posterior(scores)[0]
        label = self.predictor.labels[int(posterior.argmax())]
        return _Judged(float(posterior[self.wanted].exp()), label)

    def round(self, number: int, hide: float) -> bool | None:
        """Try to do better, with that share of the words hidden.

        Returns:
            Whether the text is better now; None if no word may be changed any more.
        """
        against = explain(
            self.predictor,
            self.text,
            label=self.predictor.labels[self.wanted],
            scoring=self.search,
            ids=self.ids,
        )
        self.evaluations += against.evaluations
        values = [
            float(against.values[word.first : word.end].sum()) for word in self.original
        ]
        places = self._worst(values, hide)
        if not places:
            return None
        other = self.predictor.labels.index(against.other)
        rows = [
            row
            for row in self._write(places, other, number)
            if all(map(_is_word, (self._word(row, self.original[p]) for p in places)))
        ]
        if not rows:
            return False
        texts = [self._text(row, places) for row in rows]
        scores = self.predictor.score_documents(
            self.predictor.documents([self.text, *texts]), scoring=self.search
        )
        self.evaluations += int(scores.evaluations.sum())
        posterior = self.predictor.log_posterior(scores)[:, self.wanted]
        best = self._best(posterior, scores.log_likelihood[:, self.wanted])
        if best == 0:
            return False
        self._take(rows[best - 1], places, texts[best - 1])
        return True

    def _best(self, posterior: Tensor, log_likelihood: Tensor) -> int:
        """Return the row to go on with; 0 is the text as it is.

        Of those that reach the threshold it is the most natural one: that with the
        highest log p(text | target). All have the same number of tokens.
        """
        reached = posterior.exp() >= self.settings.threshold
        if bool(reached[1:].any()):
            return int(log_likelihood.masked_fill(~reached, -torch.inf).argmax())
        return int(posterior.argmax())

    def _worst(self, values: Sequence[float], hide: float) -> list[int]:
        """Return the words to hide: what speaks most against the class comes first.

        Words that have changed may change again, and cost nothing.
        """
        left = self.allowed - len(self.changed)
        most = max(1, round(hide * len(self.places)))
        chosen: list[int] = []
        for place in sorted(self.places, key=lambda place: values[place]):
            if len(chosen) == most:
                break
            if place in self.changed:
                chosen.append(place)
            elif left:
                left -= 1
                chosen.append(place)
        return chosen

    def _write(self, places: Sequence[int], other: int, number: int) -> list[list[int]]:
        """Return candidates: all ids, with the words at `places` written again."""
        length, mask_id = self.predictor.length, self.predictor.tokenizer.mask_id
        hidden = [
            i
            for place in places
            for i in range(self.original[place].first, self.original[place].end)
        ]
        ids = torch.tensor(self.ids)
        canvas = ids.index_fill(0, torch.tensor(hidden), mask_id)
        count = self.settings.candidates
        rows = [list(self.ids) for _ in range(count)]
        noise = Noise(self.settings.seed).child("edit", number)
        guidance = self.settings.guidance
        for window, start in enumerate(range(0, len(ids), length)):
            part = canvas[start : start + length]
            where = (part == mask_id).nonzero()[:, 0]
            if not len(where):
                continue
            filled = self._fill(part, count, other, guidance, noise.child(window))
            for row, written in zip(rows, filled[:, where].tolist(), strict=True):
                for place, token in zip(where.tolist(), written, strict=True):
                    row[start + place] = token
        return rows

    def _fill(
        self, part: Tensor, count: int, against: int, guidance: float, noise: Noise
    ) -> Tensor:
        """Return ``(count, L)``: the window with its masks filled in."""
        tokens = part.repeat(count, 1)
        batch = Batch.of(
            tokens,
            frozen=tokens != self.predictor.tokenizer.mask_id,
            condition={LABEL: torch.full((count,), self.wanted)},
        )
        tokens, nfe = fill(
            self.predictor.backbone,
            self.predictor.tokenizer,
            batch,
            schedule=self.predictor.schedule,
            noise=noise,
            guidance=guidance,
            against=against,
            sampler=self.sampler,
            config=self.config,
        )
        self.evaluations += int(nfe.sum())
        return tokens.cpu()

    def _text(self, row: Sequence[int], places: Sequence[int]) -> str:
        """Return the text of a candidate; words that are as they were look so."""
        shown = self._shown(row, places)
        text = ""
        for word, now in zip(self.original, shown, strict=True):
            text += _before(text, word, now) + now
        return text + self.tail

    def _shown(self, row: Sequence[int], places: Sequence[int]) -> list[str]:
        shown = list(self.shown)
        for place in places:
            word = self.original[place]
            shown[place] = self._word(row, word)
        return shown

    def _word(self, row: Sequence[int], word: Word) -> str:
        span = list(row[word.first : word.end])
        if span == self.predictor.tokenizer.encode(word.text):
            return word.text
        return self.predictor.tokenizer.decode(span).strip()

    def _take(self, row: Sequence[int], places: Sequence[int], text: str) -> None:
        self.shown = self._shown(row, places)
        self.text, self.ids = text, list(row)
        pairs = zip(self.original, self.shown, strict=True)
        self.changed = {
            place for place, (word, now) in enumerate(pairs) if word.text != now
        }

    def changes(self) -> tuple[Change, ...]:
        """Return what is different from the original."""
        return tuple(
            Change(place, self.original[place].text, self.shown[place])
            for place in sorted(self.changed)
        )


def _is_word(text: str) -> bool:
    """Return whether it is more than marks."""
    return any(character.isalnum() for character in text)


def _before(text: str, word: Word, now: str) -> str:
    """Return the blanks before a word, if it may be a new one."""
    if now == word.text:
        return word.before
    if now and now[0] in _CLOSING:
        return ""
    if not word.before and text and text[-1].isalnum() and now[:1].isalnum():
        return " "
    return word.before
