"""What is known about a file of token ids: it stands beside it as FILE.meta.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from hashlib import file_digest
from pathlib import Path
from typing import Any

from mdlm_core.errors import DataError
from mdlm_core.protocols import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """What is known about a file of token ids."""

    tokenizer: str
    """Its name or folder."""
    fingerprint: str
    """Hash of everything that decides the ids."""
    vocab_size: int
    mask_id: int
    template: str
    """How prompts became text."""
    task: str
    rows: int
    sha256: str
    """Of the file."""

    @classmethod
    def read(cls, path: Path) -> Sidecar | None:
        """Return the sidecar of the file `path`, None if there is none.

        Raises:
            DataError: if it is damaged.
        """
        place = sidecar_path(path)
        if not place.is_file():
            return None
        try:
            content = json.loads(place.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"'{place}' cannot be read: {error}") from None
        if not isinstance(content, dict):
            raise DataError(f"'{place}' holds no object; {_again(path)}")
        found: dict[str, Any] = {}
        for item in fields(cls):
            value = content.get(item.name)
            wanted = int if item.type == "int" else str
            if type(value) is not wanted:
                kind = "a whole number" if wanted is int else "a text"
                state = f"is {value!r}, which is not {kind}"
                if value is None:
                    state = f"is missing; it should be {kind}"
                raise DataError(f"'{place}', '{item.name}' {state}; {_again(path)}")
            found[item.name] = value
        return cls(**found)

    def check_file(self, path: Path) -> None:
        """Refuse a file that is not the one this was written for.

        It comes after the lines have been read, whose errors say more.

        Raises:
            DataError: if its hash differs.
        """
        if hash_of(path) == self.sha256:
            return
        name = sidecar_path(path).name
        raise DataError(
            f"'{path}' is not the file that '{name}' was written for: its "
            f"SHA-256 differs; {_again(path)}, or remove '{name}' if the "
            "lines were changed on purpose"
        )

    def check(self, path: Path, tokenizer: Tokenizer) -> None:
        """Refuse a run whose tokenizer is not the one that made the ids.

        Raises:
            DataError: what to set.
        """
        if tokenizer.fingerprint() == self.fingerprint:
            return
        raise DataError(
            f"'{path}' was made with the tokenizer '{self.tokenizer}' (V "
            f"{self.vocab_size}, mask {self.mask_id}, fingerprint "
            f"{self.fingerprint[:12]}), and data.tokenizer is '{tokenizer.name}' (V "
            f"{tokenizer.vocab_size}, mask {tokenizer.mask_id}, fingerprint "
            f"{tokenizer.fingerprint()[:12]}); set data.tokenizer={self.tokenizer}, "
            f"and data.mask_token_id={self.mask_id} if it does not name its mask, or "
            f"{_again(path)}"
        )

    def to_json(self, **more: object) -> str:
        """Return the content of the file, with further entries."""
        return json.dumps({**asdict(self), **more}, indent=1) + "\n"


def sidecar_path(path: Path) -> Path:
    """Return where the sidecar of the file `path` is."""
    return path.with_name(path.name + ".meta.json")


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _again(path: Path) -> str:
    return f"write it again: mdlm llada preprocess --out {path} ..."
