"""Writing files of token ids from the examples of a task."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mdlm_core.errors import DataError, UsageError
from mdlm_core.protocols import Tokenizer
from mdlm_llada.registry import BaseTaskSpec, Settings
from mdlm_llada.template import resolve_template

from .examples import encode
from .rows import Fit, Row
from .sidecar import Sidecar, hash_of, sidecar_path


def preprocess(
    task: BaseTaskSpec,
    out: Path,
    *,
    split: str,
    cfg: Settings,
    tokenizer: Tokenizer,
    template: str = "auto",
    fit: Fit,
    force: bool = False,
) -> Sidecar:
    """Write the examples of a task as token ids.

    Args:
        task: what they are of.
        out: the file; its sidecar is written beside it.
        split: of the task, such as "train".
        cfg: the task's settings.
        tokenizer: makes the ids.
        template: how a prompt becomes text; see `resolve_template`.
        fit: what happens to rows that are too long; counts them.
        force: whether a file that has no sidecar may be replaced.

    Raises:
        ConfigError: if the template does not go with the tokenizer.
        DataError: if there is no example, none fits, or the file cannot be written.
        UsageError: if `out` is a file that this did not write.
    """
    if out.is_dir():
        raise UsageError(f"--out '{out}' is a folder; name a file in it")
    if out.exists() and not sidecar_path(out).is_file() and not force:
        raise UsageError(
            f"'{out}' exists and has no '{sidecar_path(out).name}', so that it was not "
            "written by this command; name another file, or add --force to replace it"
        )
    template = resolve_template(template, tokenizer)
    examples = task.build_dataset(split, cfg)
    return write_rows(
        out,
        ((example.id, encode(tokenizer, example, template)) for example in examples),
        fit,
        tokenizer=tokenizer,
        template=template,
        task=task.name,
        card={"split": split, "settings": dict(cfg)},
    )


def write_rows(
    path: Path,
    rows: Iterable[tuple[str, Row]],
    fit: Fit,
    *,
    tokenizer: Tokenizer,
    template: str,
    task: str,
    card: Mapping[str, object] | None = None,
) -> Sidecar:
    """Write a file of token ids and its sidecar; all of it or nothing.

    Args:
        path: where.
        rows: each with its id, which is written too.
        fit: what happens to rows that are too long.
        tokenizer: what made the ids.
        template: how prompts became text.
        task: what they are of.
        card: more entries for the sidecar.

    Raises:
        DataError: if no row is left, or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            for id_, row in rows:
                fitted = fit(row)
                if fitted is not None:
                    file.write(_line(id_, fitted))
            file.flush()
            os.fsync(file.fileno())
        fit.check("the data")
        sidecar = Sidecar(
            tokenizer=tokenizer.name,
            fingerprint=tokenizer.fingerprint(),
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            template=template,
            task=task,
            rows=fit.kept,
            sha256=hash_of(temporary),
        )
        os.replace(temporary, path)
        more = {"max_length": fit.length, "too_long": fit.card(), **(card or {})}
        temporary.write_text(sidecar.to_json(**more), encoding="utf-8")
        os.replace(temporary, sidecar_path(path))
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return sidecar


def _line(id_: str, row: Row) -> str:
    record = {
        "id": id_,
        "input_ids": list(row.ids),
        "prompt_length": row.prompt_length,
    }
    return json.dumps(record) + "\n"
