"""Settings of texts with traits. Light: imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.schema import at_least, require

TIERS = ("personality", "beliefs", "intentions", "actions")
"""From causes to effects."""
CORPUS_LABELS: Mapping[str, str] = {
    "optimism": "beliefs",
    "trust": "beliefs",
    "outings": "intentions",
    "exercise": "actions",
    "helping": "actions",
}
"""What is observed of invented persons besides their traits."""
Format = Literal["auto", "csv", "jsonl", "essays", "pandora", "mypersonality"]


def check_labels(section: str, labels: Mapping[str, str]) -> None:
    """Raise a ConfigError unless every label has a tier."""
    for name, tier in labels.items():
        require(
            tier in TIERS,
            f"{section}.labels gives '{name}' the tier '{tier}'; a tier is one of "
            f"{', '.join(TIERS)}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _RowsConfig:
    tokenizer: str = "bpe:1024"
    """byte, bpe:<n>, or the name or folder of a Hugging Face tokenizer."""
    length: int = 64
    """Tokens in a row, L; an author's texts follow each other and are cut there."""
    holdout: float = 0.1
    """The share of the authors held out, chosen by a hash of the author."""

    def __post_init__(self) -> None:
        at_least(1, "data", self, "length")
        require(
            0 < self.holdout < 1,
            f"data.holdout is {self.holdout}; it must be in (0, 1)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonaCorpusConfig(_RowsConfig):
    """Invented persons whose traits decide their words by a known amount."""

    authors: int = 2000
    """Persons."""
    sentences: int = 40
    """Sentences of each."""
    effect: float = 8.0
    """Change of the log-odds of a trait's word from the lowest score to the highest."""
    labels: bool = True
    """Whether the beliefs, intentions and actions of the persons are told too."""
    missing: float = 0.0
    """Share of the traits and labels that are not told."""
    seed: int = 0
    """Decides persons and texts."""

    @property
    def label_tiers(self) -> Mapping[str, str]:
        """What else is observed, and the tier of each."""
        return CORPUS_LABELS if self.labels else {}

    def __post_init__(self) -> None:
        _RowsConfig.__post_init__(self)
        at_least(2, "data", self, "authors")
        at_least(1, "data", self, "sentences")
        require(
            0 <= self.missing < 1,
            f"data.missing is {self.missing}; it must be in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonaTextConfig(_RowsConfig):
    """Texts of people with traits: csv, jsonl, Essays, PANDORA, myPersonality."""

    path: str = ""
    """A file, or the folder of PANDORA's two files."""
    format: Format = "auto"
    """auto goes by the name and the columns; .gz is read too."""
    text: str = "text"
    """The column that holds the text; a table without texts is for stages 1 and 2."""
    author: str = "author"
    """The column of the author; without it every text has an author of its own, and
    texts with the same five traits share one."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The column of each trait, where it is not called as the trait."""
    scale: tuple[float, float] | None = None
    """The lowest and the highest score in the file; None goes by the format, or is
    0 and 1."""
    missing: tuple[str, ...] = ("", "-1", "nan", "NA")
    """What stands for a score that is not known."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Further columns that are observed, and the tier of each."""
    max_rows: int = 0
    """Use only that many texts; 0 means all."""

    @property
    def label_tiers(self) -> Mapping[str, str]:
        """What else is observed, and the tier of each."""
        return self.labels

    def __post_init__(self) -> None:
        _RowsConfig.__post_init__(self)
        at_least(0, "data", self, "max_rows")
        check_labels("data", self.labels)
        if self.scale is not None:
            low, high = self.scale
            require(
                low < high,
                f"data.scale is {low:g} to {high:g}; the second must be the greater",
            )
