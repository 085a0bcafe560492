"""Check 2: the data are there, they are whole, and what is held out stands apart.

Where the data of a phase cannot be had, that fails, and the text that comes with
Python stands in for them in the checks that follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mdlm_atat.datasets import DatasetConfig, PhaseConfig
from mdlm_atat.datasets.disjoint import (
    ALLOWED,
    WAY_OUT,
    overlap_text,
    phase_overlap,
)
from mdlm_atat.datasets.prepare import prepare
from mdlm_atat.datasets.sources import check_obtainable, locate, reachable
from mdlm_atat.variants import sets_data
from mdlm_core.errors import DataError, MdlmError, MissingExtraError

from .report import Finding, failed, passed, skipped, warned
from .subject import STAND_IN, Subject

_TEXTS = 200
_ROWS = 256
_PIECES = 8


def data(subject: Subject) -> Iterator[Finding]:
    """Find, prepare and open the data; look at sizes, hashes and overlap."""
    if sets_data(subject.sets):
        yield from _opened(subject)
        yield skipped("the data are set by hand; overlap is not looked for")
        return
    found: list[Finding] = []
    try:
        found.extend(_obtain(subject))
    except (DataError, MissingExtraError) as error:
        found.append(failed(str(error)))
    yield from found
    if any(finding.status == "fail" for finding in found):
        yield _stand_in(subject)
        return
    if not all(one.fresh().measured for one in subject.phase.configs()):
        yield _stand_in(subject)
        return
    yield from _sizes(subject.phase)
    yield from _overlap(subject.phase)
    yield from _opened(subject)


def _obtain(subject: Subject) -> Iterator[Finding]:
    """Prepare what is at hand; say what is not."""
    phase, why = subject.phase, ""
    for one in phase.configs():
        try:
            check_obtainable(one)
        except (DataError, MissingExtraError) as error:
            why = why or str(error)
    if why and phase.fallback is None:
        yield failed(
            why,
            f"prepare them where there is a network (mdlm atat datasets prepare "
            f"{phase.id}), or choose a phase whose data are here, such as "
            "CPU_IMPORTANCE_ABLATION",
        )
        return
    if why:
        assert phase.fallback is not None
        name = f"{phase.fallback.name} ({phase.fallback.variant})"
        phase = replace(
            phase, dataset=phase.fallback, val_dataset=phase.fallback_val, replaced=why
        )
        subject.phase = phase
        yield warned(
            f"{name} stands in: {why}",
            "numbers are those of the fallback; say so beside them",
        )
    done = []
    for one in phase.configs():
        if not one.fresh().measured and not _at_hand(one):
            yield warned(
                f"{one.label} can be had from the hub, and is not prepared",
                f"mdlm atat datasets prepare {one.name} --variant {one.variant}",
            )
            return
        result = prepare(one)
        done.append(result.config)
        if result.action == "rebuilt":
            yield warned(f"{one.label}: {result.reason}; it was built again")
    subject.phase = replace(
        phase, dataset=done[0], val_dataset=done[1] if len(done) > 1 else None
    )


def _at_hand(config: DatasetConfig) -> bool:
    return config.kind == "builtin" or locate(config) is not None


def _sizes(phase: PhaseConfig) -> Iterator[Finding]:
    for one in phase.configs():
        assert one.manifest is not None
        text = (
            f"{one.label}: {one.num_tokens:,} tokens in {one.manifest['documents']:,} "
            f"documents, sha256 {one.manifest['sha256'][:12]} as in its manifest"
        )
        short = one.max_tokens is not None and one.num_tokens < one.max_tokens // 2
        if short:
            yield warned(
                f"{text}; its budget is {one.max_tokens:,}",
                "the source holds no more; choose a smaller variant, or another set",
            )
        else:
            yield passed(text)


def _overlap(phase: PhaseConfig) -> Iterator[Finding]:
    """Look for runs of held-out words in the training text."""
    try:
        found = phase_overlap(phase)
    except DataError as error:
        yield failed(str(error))
        return
    text = overlap_text(found)
    if found.share == 0:
        yield passed(text)
        return
    text += f', such as "{found.example[:60]}..."'
    if phase.replaced and found.share > ALLOWED:
        yield warned(
            text,
            "numbers on this fallback are too low; they show that a run works, no more",
        )
    elif found.share > ALLOWED:
        yield failed(text, WAY_OUT)
    else:
        yield warned(text, f"at most {ALLOWED:.0%} is let pass; know it")


def _opened(subject: Subject) -> Iterator[Finding]:
    """Open the data as a run does, and count rows."""
    config = subject.config(subject.variants[0])
    source = subject.data
    rows, held_out = source.size("train"), source.size("validation")
    if rows is None:
        yield passed("the data are a stream; their rows are not counted")
        return
    next(iter(source.batches("train", size=config.train.batch_size, seed=0)))
    passes = config.train.steps * config.train.batch_size / rows
    yield passed(
        f"{rows:,} rows of {source.length} tokens to learn from, {held_out:,} held "
        f"out; a run goes over them {passes:.1f} times"
    )


def _stand_in(subject: Subject) -> Finding:
    """Take the text that comes with Python from here on."""
    tokenizer = subject.phase.tokenizer
    subject.stand_in(subject.phase.length, tokenizer)
    try:
        if not _at_hand_tokenizer(tokenizer):
            raise DataError(f"the tokenizer '{tokenizer}' cannot be fetched")
        subject.open()
    except MdlmError:
        tokenizer = "byte"
        subject.stand_in(subject.phase.length, tokenizer)
        subject.open()
    return skipped(
        f"the checks that follow are made on {STAND_IN} with the tokenizer {tokenizer}"
    )


def _at_hand_tokenizer(name: str) -> bool:
    """Return whether it is worth loading: without a network that takes a minute."""
    own = name in ("byte", "char") or name.startswith("bpe:")
    if own or Path(name).expanduser().exists() or reachable():
        return True
    if find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    files = ("tokenizer.json", "vocab.json", "tokenizer.model")
    return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
