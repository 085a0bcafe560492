"""A classifier of bags of words behind the face, and texts to try it on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from mdlm_classify.data.document import Document, of_ids
from mdlm_classify.face import GenerativeClassifier
from mdlm_classify.predictor import LikelihoodModel
from mdlm_classify.scoring.scores import Scores


@dataclass(kw_only=True)
class Bag(LikelihoodModel):
    """Multinomial naive Bayes with add-one smoothing; words never seen do not count."""

    index: dict[str, int]
    law: torch.Tensor

    def documents(self, texts, *, gaps=False):
        return [
            of_ids(
                [self.index[word] for word in text.split() if word in self.index],
                length=64,
                mask_id=len(self.index),
            )
            for text in texts
        ]

    def score_documents(self, documents, *, null=False, progress=None):
        rows = [self._row(document) for document in documents]
        found = torch.stack(rows)
        return Scores(
            log_likelihood=found,
            se=torch.zeros_like(found),
            draws=torch.ones_like(found, dtype=torch.int64),
            tokens=torch.tensor([document.tokens for document in documents]),
            evaluations=torch.zeros(len(found), dtype=torch.int64),
            kept=torch.ones_like(found, dtype=torch.bool),
            exact=True,
        )

    def _row(self, document: Document) -> torch.Tensor:
        ids = [i for window in document.windows for i in window]
        return self.law[:, ids].sum(1)

    def to(self, device):
        return self


class BagClassifier(GenerativeClassifier):
    """The smallest classifier by likelihood. `turned` reverses the model's columns."""

    def __init__(
        self,
        *,
        prior="empirical",
        calibrate=False,
        validation_fraction=0.0,
        turned=False,
        random_state=0,
    ):
        self.prior = prior
        self.calibrate = calibrate
        self.validation_fraction = validation_fraction
        self.turned = turned
        self.random_state = random_state

    def _learn(self, train, held_out, names, unlabelled):
        names = names[::-1] if self.turned else names
        words = sorted({word for text in train.texts for word in text.split()})
        index = {word: number for number, word in enumerate(words)}
        counts = np.ones((len(names), len(words)))
        for text, label in zip(train.texts, train.labels, strict=True):
            for word, count in Counter(text.split()).items():
                counts[names.index(label), index[word]] += count
        law = torch.from_numpy(counts / counts.sum(1, keepdims=True)).log()
        zero = torch.zeros(len(names), dtype=torch.float64)
        self.model_ = Bag(labels=names, log_prior=zero, index=index, law=law)
        self.model_.log_prior = self._log_prior(self.prior)
        self.held_out_ = held_out


def _words(line: str) -> list[str]:
    return line.split()


TOPICS = {
    "food": _words("bread soup apple salt cook plate oven taste sweet spoon"),
    "ships": _words("sail mast port wave anchor deck rope tide crew hull"),
    "stars": _words("orbit moon lens comet dust sky night sun light dark"),
}


def texts(count: int = 60, *, seed: int = 0, words: int = 8, classes: int = 3):
    """Return texts and topics: mostly words of the topic, and some of all."""
    rng = np.random.default_rng(seed)
    names = list(TOPICS)[:classes]
    everything = [word for name in names for word in TOPICS[name]]
    found, labels = [], []
    for number in range(count):
        name = names[number % classes]
        length = int(rng.integers(3, words + 3))
        own = rng.random(length) < 0.6
        found.append(
            " ".join(
                str(rng.choice(TOPICS[name] if mine else everything)) for mine in own
            )
        )
        labels.append(name)
    return found, labels
