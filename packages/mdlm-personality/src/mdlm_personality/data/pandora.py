"""PANDORA (Gjurkovic et al., 2021): profiles of authors, and their comments.

Its authors give it on request; nothing of it is here. Letters: K columns.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mdlm_core.errors import DataError
from mdlm_personality.config import PersonaTextConfig
from mdlm_personality.traits import TRAITS

from .columns import plan
from .formats import PERCENTILES
from .split import same_author
from .tables import csv_table
from .texts import PersonaTexts

PROFILES = "author_profiles.csv"
COMMENTS = "all_comments_since_2015.csv"
_GONE = ("", "[deleted]", "[removed]")


def read_folder(folder: Path, config: PersonaTextConfig) -> PersonaTexts:
    """Return the comments of the authors of whom a trait is known.

    The comments are read line by line; those of other authors are passed over.

    Raises:
        DataError: if a file or a column is missing, a cell is wrong, an author stands
            twice, or there is no comment of an author with a trait.
    """
    profiles = _profiles(_file(folder, PROFILES), config)
    path = _file(folder, COMMENTS)
    names, rows = csv_table(path)
    column = "body" if config.text == "text" else config.text
    for name in ("author", column):
        if name not in names:
            raise DataError(
                f"'{path}', line 1, has no column '{name}'; its columns are "
                f"{', '.join(names)}"
            )
    texts: list[str] = []
    authors: list[str] = []
    for _, row in rows:
        if config.max_rows and len(texts) == config.max_rows:
            break
        author, text = same_author(str(row["author"])), str(row[column])
        if author in profiles and text.strip() not in _GONE:
            texts.append(text)
            authors.append(author)
    if not texts:
        raise DataError(
            f"'{path}' holds no comment of the {len(profiles)} authors of '{PROFILES}' "
            "of whom a trait is known"
        )
    return PersonaTexts(
        tuple(texts),
        tuple(authors),
        np.array([profiles[author] for author in authors]),
        (*TRAITS, *config.labels),
        dict(config.labels),
    )


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz", folder / f"{name}.xz"):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"the folder '{folder}' has no file {name}, nor {name}.gz; PANDORA is the two "
        f"files {PROFILES} and {COMMENTS}; for a table of your own name the file"
    )


def _profiles(path: Path, config: PersonaTextConfig) -> dict[str, list[float]]:
    """Return the K values of each author of whom a trait is known.

    The names are those of `same_author`: no two of them differ in case alone.
    """
    names, rows = csv_table(path)
    todo = plan(
        config,
        [*names, config.text],  # the texts are in the other file
        f"'{path}', line 1,",
        author="author",
        scale=PERCENTILES,
    )
    found: dict[str, list[float]] = {}
    seen: set[str] = set()
    assert todo.author is not None
    for line, row in rows:
        where, author = f"'{path}', line {line}", same_author(str(row[todo.author]))
        if author in seen:
            raise DataError(f"{where}: the author '{author}' stands there twice")
        seen.add(author)
        values = todo.values(row, where)
        if not all(math.isnan(value) for value in values[: len(TRAITS)]):
            found[author] = values
    if not found:
        raise DataError(f"'{path}' knows no trait of any of its {len(seen)} authors")
    return found
