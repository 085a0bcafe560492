"""Take a data set's budget of text, write it as a cache file, and measure it. Heavy.

Documents are taken whole and in order, up to the first that would pass the budget.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from mdlm_core.cache import write_atomic
from mdlm_core.data.files import JsonlDocuments
from mdlm_core.data.packing import encode_documents, pack
from mdlm_core.data.source import PackedSource
from mdlm_core.data.split import SPLITS, SplitFacts, is_held_out, survey
from mdlm_core.data.streaming import LEARN
from mdlm_core.data.tokenizers import CharTokenizer, build_tokenizer, utf8
from mdlm_core.errors import DataError, MissingExtraError
from mdlm_core.protocols import Tokenizer

from .records import FORMAT, DatasetConfig, PhaseConfig
from .sources import (
    NotHereError,
    Source,
    documents,
    file_facts,
    locate,
    open_source,
)

Tell = Callable[[str], None]
_AT_ONCE = 256  # documents encoded together
_EVERY = 50_000_000  # tokens between two messages


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cache file that is there and whole."""

    config: DatasetConfig
    """With the measurements."""
    action: str
    """``verified`` if it was there; else ``prepared``, or ``rebuilt``."""
    reason: str = ""
    """Why it was rebuilt."""


def prepare(
    config: DatasetConfig, *, force: bool = False, tell: Tell | None = None
) -> Prepared:
    """Make the cache file of a split, or verify the one that is there.

    Args:
        config: from `DatasetManager.get_config`.
        force: whether to make it again whatever is there.
        tell: called with lines for a user.

    Raises:
        DataError: if the text cannot be had, holds nothing, or cannot be written.
        MissingExtraError: if it needs the extra ``hf``.
    """
    tell = tell or (lambda line: None)
    config = config.fresh()
    flaw = "it is made again as asked" if force else find_flaw(config)
    if flaw == "":
        return Prepared(config, "verified")
    there = config.cache_file.exists()
    if there and flaw is not None:
        tell(f"{config.label}: {flaw}; '{config.cache_file}' is built again")
    try:
        _write(config, tell)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"dataset '{config.label}': '{config.cache_file}' cannot be written: "
            f"{reason}; free some space, or set MDLM_CACHE to another folder"
        ) from error
    config = config.fresh()
    if config.manifest is None:
        raise DataError(
            f"dataset '{config.label}': '{config.cache_file}' changed while it was "
            "written; start again"
        )
    if there and flaw is not None:
        return Prepared(config, "rebuilt", flaw)
    return Prepared(config, "prepared")


def find_flaw(config: DatasetConfig) -> str | None:
    """Return what is wrong with a cache file: nothing is ``""``, None is no file.

    The content is compared with its hash, and, where the source is files that are
    here, these with theirs.
    """
    if not config.cache_file.exists():
        return None
    if config.manifest is None:
        return "its manifest is missing or does not fit"
    (facts,) = file_facts([config.cache_file])
    if facts["sha256"] != config.manifest.get("sha256"):
        return "it is damaged: its content does not have the hash of its manifest"
    if config.manifest.get("recipe") != config.recipe():
        return "it was made in another way"
    noted = config.manifest.get("source_files")
    with suppress(DataError, MissingExtraError):
        if noted and (files := _source_files(config)) and file_facts(files) != noted:
            return "its source has changed"
    return ""


def _source_files(config: DatasetConfig) -> tuple[Path, ...]:
    """Return the files of the source that are here; never asks the network."""
    if config.kind == "builtin" or locate(config) is None:
        return ()
    return open_source(config).files


def prepare_phase(
    phase: PhaseConfig, *, force: bool = False, tell: Tell | None = None
) -> PhaseConfig:
    """Prepare all text of a phase; return the phase with its measurements.

    Where a data set cannot be had and the phase names a fallback, the fallback stands
    in for both sets. That is told, and kept in `PhaseConfig.replaced`.

    Raises:
        NotHereError: if a data set cannot be had, and there is no fallback.
        MissingExtraError: likewise.
        DataError: if text that can be had is not usable.
    """
    tell = tell or (lambda line: None)
    try:
        return _with(phase, phase.dataset, phase.val_dataset, force, tell)
    except (NotHereError, MissingExtraError) as error:
        fallback = phase.fallback
        if fallback is None:
            raise
        names = " and ".join(dict.fromkeys(config.name for config in phase.configs()))
        why = f"in place of {names}: {error}"
        tell(f"{phase.id}: runs on {fallback.name} ({fallback.variant}) {why}")
        stands_in = replace(phase, replaced=why)
        return _with(stands_in, fallback, phase.fallback_val, force, tell)


def _with(
    phase: PhaseConfig,
    trained: DatasetConfig,
    val: DatasetConfig | None,
    force: bool,
    tell: Tell,
) -> PhaseConfig:
    done = prepare(trained, force=force, tell=tell).config
    if val is not None:
        val = prepare(val, force=force, tell=tell).config
    return replace(phase, dataset=done, val_dataset=val)


# ---- writing ----------------------------------------------------------------


@dataclass(slots=True)
class _Taken:
    """What has been written so far."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    held_out: int = 0
    whole: bool = True
    """Whether the source ended before the budget."""
    alphabet: set[str] = field(default_factory=set)
    digest: Any = field(default_factory=sha256)
    file_bytes: int = 0


def _write(config: DatasetConfig, tell: Tell) -> None:
    source = open_source(config)
    counter = _Counter.of(config, source)
    config.cache_file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=config.cache_file.parent, prefix=f".{config.cache_file.name}."
    )
    try:
        with os.fdopen(handle, "wb") as file:
            taken = _take(config, documents(config, source.texts), counter, file, tell)
            file.flush()
            os.fsync(file.fileno())
        _check(config, taken)
        manifest = _manifest(config, source, taken, counter, Path(temporary))
        config.manifest_file.unlink(missing_ok=True)  # never beside another file
        os.replace(temporary, config.cache_file)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_atomic(config.manifest_file, text.encode())


def _take(
    config: DatasetConfig,
    texts: Iterable[str],
    counter: _Counter,
    file: BinaryIO,
    tell: Tell,
) -> _Taken:
    taken, told = _Taken(), _EVERY
    for text, tokens in counter.counted(texts):
        if config.max_tokens is not None and taken.tokens + tokens > config.max_tokens:
            taken.whole = False
            break
        raw = utf8(text)
        line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
        file.write(line)
        taken.digest.update(line)
        taken.file_bytes += len(line)
        taken.documents += 1
        taken.tokens += tokens
        taken.bytes += len(raw)
        taken.held_out += is_held_out(sha256(raw).digest(), config.holdout)
        if config.tokenizer == "char":
            taken.alphabet.update(text)
        if taken.tokens >= told:
            tell(f"{config.label}: {taken.tokens / 1e6:.0f} million tokens")
            told += _EVERY
    return taken


def _check(config: DatasetConfig, taken: _Taken) -> None:
    """Refuse text that is nothing, or that cannot be split."""
    if not taken.documents:
        why = (
            "it holds no text"
            if taken.whole
            else f"its first document alone is longer than {config.max_tokens} tokens; "
            "take a larger variant, or set chunk"
        )
        raise DataError(f"dataset '{config.label}' gives nothing: {why}")
    if config.split == "train" and taken.held_out in (0, taken.documents):
        side = "held out" if not taken.held_out else "left for training"
        raise DataError(
            f"dataset '{config.label}': of its {taken.documents} documents, "
            f"holdout={config.holdout} leaves none {side}; take a larger variant, or "
            f"set datasets.{config.name}.holdout or .chunk in ./datasets.yaml"
        )


def _manifest(
    config: DatasetConfig,
    source: Source,
    taken: _Taken,
    counter: _Counter,
    file: Path,
) -> dict[str, object]:
    """Return the manifest: the same for the same text, on every machine and day.

    Where the tokenizer is learned from the text (char, bpe), that of a held-out split
    is learned from this split; a run encodes it with what the training text gave.
    """
    from mdlm_atat import __version__

    tokenizer, tokens = counter.final(config, file, taken)
    return {
        "format": FORMAT,
        "dataset": config.name,
        "variant": config.variant,
        "split": config.split,
        "tokens": tokens,
        "documents": taken.documents,
        "held_out_documents": taken.held_out,
        "bytes": taken.bytes,
        "file_bytes": taken.file_bytes,
        "sha256": taken.digest.hexdigest(),
        "complete": taken.whole,
        "tokenizer": {
            "name": config.tokenizer,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint(),
        },
        "source": source.origin,
        "source_files": file_facts(source.files),
        "license": config.license,
        "recipe": config.recipe(),
        "mdlm_atat": __version__,
    }


# ---- counting ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counter:
    """Counts the tokens of documents, an end of document after each."""

    tokenizer: Tokenizer | None
    """None for char, whose tokens are the characters, whatever the alphabet."""

    @classmethod
    def of(cls, config: DatasetConfig, source: Source) -> _Counter:
        """Return the counter of a budget.

        Learned pieces cannot be known before the text is chosen: those of the first
        documents are counted, as core learns them from a stream. The measurement
        afterwards is with the pieces that a run learns.
        """
        if config.tokenizer == "char":
            return cls(None)
        known: list[str] = []
        if config.tokenizer.startswith("bpe:"):
            known = list(islice(documents(config, source.texts), LEARN))
        return cls(build_tokenizer(config.tokenizer, known))

    def counted(self, texts: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Yield each document and its number of tokens."""
        iterator = iter(texts)
        while some := list(islice(iterator, _AT_ONCE)):
            if self.tokenizer is None:
                sizes = [len(text) + 1 for text in some]
            else:
                encoded = encode_documents(self.tokenizer, some, eod=True)
                sizes = [len(ids) for ids in encoded]
            yield from zip(some, sizes, strict=True)

    def final(
        self, config: DatasetConfig, file: Path, taken: _Taken
    ) -> tuple[Tokenizer, int]:
        """Return the tokenizer of a run on the cache file, and its tokens in it."""
        if self.tokenizer is None:
            return CharTokenizer(taken.alphabet), taken.tokens
        if not config.tokenizer.startswith("bpe:"):
            return self.tokenizer, taken.tokens
        texts: Iterable[str] = JsonlDocuments([file])
        if config.split == "train":
            texts = survey(texts, config.holdout).select(texts, "train")
        learned = build_tokenizer(config.tokenizer, texts)
        again = _Counter(learned).counted(JsonlDocuments([file]))
        return learned, sum(tokens for _, tokens in again)


# ---- for measuring ----------------------------------------------------------


def validation_source(
    config: DatasetConfig, tokenizer: Tokenizer, *, length: int
) -> PackedSource:
    """Return a prepared split as rows, all of it to measure on.

    Its split ``validation`` holds every document in order; so does ``train``, as a
    source needs both.

    Args:
        config: a prepared split, such as `PhaseConfig.val_dataset`.
        tokenizer: that of the run.
        length: L.

    Raises:
        DataError: if it is not prepared, or the tokenizer cannot encode it.
    """
    config = config.fresh()
    if config.manifest is None:
        raise DataError(
            f"dataset '{config.label}' is not prepared; try: mdlm atat datasets "
            f"prepare {config.name} --variant {config.variant}"
        )
    texts = JsonlDocuments([config.cache_file])
    manifest = config.manifest
    facts = SplitFacts(manifest["documents"], manifest["bytes"], manifest["sha256"])
    packed = pack(tokenizer, texts, facts, eod=True)
    return PackedSource(
        tokenizer,
        dict.fromkeys(SPLITS, packed),
        dict.fromkeys(SPLITS, facts),
        length=length,
        card={"name": config.name, "variant": config.variant, "split": config.split},
    )
