"""Settings of labelled text. Light: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import at_least, require

Format = Literal["auto", "csv", "tsv", "jsonl", "json-per-class", "folders", "hub"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledTextConfig:
    """Texts with labels: a file, a folder, a data set of the hub, or Python's own."""

    path: str = ""
    """A file, a folder, a glob, or a name on the hub; empty for docstrings of the
    standard library, labelled by what they are about."""
    format: Format = "auto"
    """auto goes by the name; .gz is read too. json-per-class is one file for each
    class, such as train_class_0.json; folders, one folder for each class."""
    text: str = "text"
    """The column that holds the text; + joins several, such as title+text."""
    label: str = "label"
    """The column that holds the label."""
    subset: str = ""
    """The configuration of a data set of the hub, if it has several."""
    split: str = "train"
    """The split of a data set of the hub."""
    validation: str = ""
    """Where held-out texts are; empty takes `holdout` of the training texts."""
    holdout: float = 0.1
    """The share of each class held out, chosen by `seed`."""
    rows: int = 0
    """Use only that many texts, the same share of each class; 0 means all."""
    seed: int = 0
    """Decides which texts are used and which are held out."""
    labels: tuple[str, ...] = ()
    """The classes in order; empty takes those that are found, sorted. A finished run
    has them here."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """Other names for labels, such as {"0": "negative"}."""
    clean: Literal["none", "html"] = "none"
    """html takes out tags and turns entities into characters."""
    duplicates: Literal["keep", "drop"] = "drop"
    """What happens to training texts that are also held out, or stand twice."""
    tokenizer: str = "words:20000"
    """words:<n> for the n most frequent words in lower case, byte, bpe:<n>, or the name
    or folder of a Hugging Face tokenizer."""
    min_count: int = 2
    """How often a word must occur to be known, for words:<n>."""
    length: int = 256
    """Tokens in a row, L; a longer text becomes several rows, its windows."""
    unlabelled: str = ""
    """Texts without labels, to learn the null class from."""
    unlabelled_share: float = 0.5
    """Their share of a batch; 1 means that no text has its label, those of `path`
    included."""

    def __post_init__(self) -> None:
        at_least(1, "data", self, "length", "min_count")
        at_least(0, "data", self, "rows")
        require(
            0 < self.holdout < 1,
            f"data.holdout is {self.holdout}; it must be in (0, 1)",
        )
        require(
            0 < self.unlabelled_share <= 1,
            f"data.unlabelled_share is {self.unlabelled_share}; it must be in (0, 1]",
        )
        twice = [name for name in self.labels if self.labels.count(name) > 1]
        require(not twice, f"data.labels has '{(twice or [''])[0]}' twice")
