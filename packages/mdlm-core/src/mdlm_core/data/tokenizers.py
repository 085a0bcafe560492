"""Text to ids and back: bytes and characters; subwords are in `bpe`, `pretrained`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from hashlib import sha256
from importlib import metadata
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdlm_core.cache import write_atomic
from mdlm_core.errors import ConfigError, DataError, PluginError
from mdlm_core.hooks import ENTRY_POINT_GROUP
from mdlm_core.protocols import Tokenizer
from mdlm_core.refs import Ref

DEFINITION = "mdlm_tokenizer.json"
"""The file of a saved tokenizer that says which kind it is."""


def decode_around_masks(
    ids: Sequence[int], mask_id: int, mask: str, decode: Callable[[list[int]], str]
) -> str:
    """Decode the runs between masks with `decode`; each mask shows as `mask`."""
    return "".join(
        mask * len(run) if masked else decode(run)
        for masked, run in (
            (masked, list(group))
            for masked, group in groupby(map(int, ids), lambda id_: id_ == mask_id)
        )
    )


def check_ids(ids: Sequence[int], tokenizer: Tokenizer) -> None:
    """Refuse ids that are not in the vocabulary."""
    bad = next((int(i) for i in ids if not 0 <= i < tokenizer.vocab_size), None)
    if bad is not None:
        raise DataError(
            f"id {bad} is not in the vocabulary of tokenizer '{tokenizer.name}', "
            f"which holds 0 to {tokenizer.vocab_size - 1}"
        )


def utf8(text: str) -> bytes:
    """Return `text` in UTF-8.

    Raises:
        DataError: if it holds half of a surrogate pair, which UTF-8 has no form for.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"character {error.start} of a text is U+{ord(text[error.start]):04X}, "
            "half of a surrogate pair, which UTF-8 cannot hold; remove it"
        ) from None


def save_definition(folder: Path, **definition: object) -> None:
    """Write the file that `load_tokenizer` reads first."""
    text = json.dumps(definition, ensure_ascii=False, indent=1)
    write_atomic(folder / DEFINITION, text.encode())


class ByteTokenizer:
    """UTF-8 bytes: ids 0 to 255, the end of document 256, the mask 257; V = 258."""

    name = "byte"
    vocab_size = 258
    eod_id = pad_id = 256
    mask_id = 257

    def encode(self, text: str) -> list[int]:
        """Return the bytes of `text`."""
        return list(utf8(text))

    def encode_array(self, text: str) -> NDArray[np.uint8]:
        """Return the bytes of `text` as an array, without a list in between."""
        return np.frombuffer(utf8(text), dtype=np.uint8)

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text; bytes that are no UTF-8 show as U+FFFD."""
        check_ids(ids, self)
        return decode_around_masks(
            ids,
            self.mask_id,
            mask,
            lambda run: bytes(i for i in run if i < 256).decode(errors="replace"),
        )

    def token_bytes(self) -> list[int]:
        """Return ``(V,)``: the bytes of text behind each id."""
        return [1] * 256 + [0, 0]

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs."""
        save_definition(folder, kind="byte", name=self.name)

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return sha256(b"byte").hexdigest()


class CharTokenizer:
    """Characters: one id for each of `alphabet`, then the end of document, the mask."""

    name = "char"

    def __init__(self, alphabet: Iterable[str]) -> None:
        self.alphabet = "".join(sorted(set(alphabet)))
        self.eod_id = self.pad_id = len(self.alphabet)
        self.mask_id = self.eod_id + 1
        self.vocab_size = self.eod_id + 2
        self._id_of = {character: i for i, character in enumerate(self.alphabet)}

    def encode(self, text: str) -> list[int]:
        """Return one id per character.

        Raises:
            DataError: if a character is not in the alphabet.
        """
        try:
            return [self._id_of[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise DataError(
                f"character {character!r} (U+{ord(character):04X}) at offset "
                f"{text.index(character)} is not among the {len(self.alphabet)} "
                "characters that the char tokenizer was built from; remove it, or use "
                "the byte tokenizer, which knows every character"
            ) from None

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text of `ids`."""
        check_ids(ids, self)
        return decode_around_masks(
            ids,
            self.mask_id,
            mask,
            lambda run: "".join(self.alphabet[i] for i in run if i < self.eod_id),
        )

    def token_bytes(self) -> list[int]:
        """Return ``(V,)``: the bytes of text behind each id."""
        return [len(utf8(character)) for character in self.alphabet] + [0, 0]

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs."""
        save_definition(folder, kind="char", name="char", alphabet=self.alphabet)

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        return sha256(b"char:" + utf8(self.alphabet)).hexdigest()


def build_tokenizer(
    name: str, documents: Iterable[str] = (), cache: Path | None = None
) -> Tokenizer:
    """Return the tokenizer `name`, built from `documents` where it needs them.

    Args:
        name: ``byte``; ``char`` (the characters of `documents`); ``bpe:<n>`` (at most
            n ids in all, merges learned from `documents`); the folder of a saved
            tokenizer; or the name or folder of a Hugging Face tokenizer.
        documents: texts; an iterable that may be read more than once.
        cache: where learned merges are kept; the default is `cache_folder()`.

    Raises:
        ConfigError: if `name` cannot be understood.
        DataError: if the tokenizer cannot be built or loaded.
        MissingExtraError: if it needs the extra ``hf``.
    """
    if name == "byte":
        return ByteTokenizer()
    if name == "char":
        alphabet: set[str] = set()
        for document in documents:
            alphabet.update(document)
        if not alphabet:
            raise DataError("the char tokenizer has no text to take characters from")
        return CharTokenizer(alphabet)
    if name.startswith("bpe:"):
        from .bpe import train_bpe

        size = name.removeprefix("bpe:")
        if not size.isascii() or not size.isdigit():
            raise ConfigError(
                f"data.tokenizer is '{name}'; write bpe:<n>, for example bpe:4096"
            )
        return train_bpe(int(size), documents, cache)
    if not name.strip():
        raise ConfigError(
            "data.tokenizer is empty; write byte, char, bpe:<n>, or the name or folder "
            "of a Hugging Face tokenizer"
        )
    folder = Path(name).expanduser()
    if (folder / DEFINITION).is_file():
        return load_tokenizer(folder)
    near = get_close_matches(name.lower(), ["byte", "char", "bpe"], cutoff=0.75)
    if near and "/" not in name and not folder.exists():  # not worth asking the network
        raise ConfigError(
            f"data.tokenizer is '{name}'; did you mean '{near[0]}"
            f"{':<n>' * (near[0] == 'bpe')}'?"
        )
    from .pretrained import load_pretrained

    return load_pretrained(name)


def plugin_loader(target: str) -> Ref:
    """Return the reference `target` if it points into an installed plugin.

    A run folder may come from anywhere, so that it must not name any function.

    Raises:
        PluginError: if it is not a plugin's.
    """
    reference = Ref(target)
    package = reference.module.partition(".")[0]
    points = metadata.entry_points(group=ENTRY_POINT_GROUP)
    if package not in {point.module.partition(".")[0] for point in points}:
        raise PluginError(
            f"the tokenizer is read by '{target}', but no installed plugin has the "
            f"package '{package}'; try: pip install {package.replace('_', '-')}"
        )
    return reference


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Return the tokenizer that `save` wrote to `folder`, without the network.

    The file ``mdlm_tokenizer.json`` holds its `kind` and its `name`. A plugin's
    tokenizer has ``"package.module:function"`` as its kind; the function is called
    with the folder.

    Raises:
        DataError: if the folder holds none, or a damaged one.
        PluginError: if it is of a plugin that is not installed.
    """
    folder = Path(folder)
    path = folder / DEFINITION
    try:
        definition = json.loads(path.read_bytes())
        kind, name = definition["kind"], definition["name"]
        if kind == "byte":
            return ByteTokenizer()
        if kind == "char":
            return CharTokenizer(definition["alphabet"])
        if kind == "bpe":
            from .bpe import load_bpe

            return load_bpe(folder, name)
        if kind == "hugging-face":
            from .pretrained import load_saved

            return load_saved(
                folder, name, definition["fingerprint"], definition.get("mask_id")
            )
        if ":" in kind:
            tokenizer: Tokenizer = plugin_loader(kind).load()(folder)
            return tokenizer
    except FileNotFoundError:
        raise DataError(
            f"'{folder}' holds no saved tokenizer: there is no {DEFINITION}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"'{path}' cannot be read as a tokenizer: {error!r}") from error
    raise DataError(
        f"'{path}' is of the unknown kind '{kind}', perhaps of a newer core"
    )
