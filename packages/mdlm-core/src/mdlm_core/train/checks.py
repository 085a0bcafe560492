"""What `mdlm doctor` looks at: the environment; `checks_run` looks at a run.

A check returns a `Finding`: a fact, how bad it is, and what to do.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch

from mdlm_core.catalog import Catalog
from mdlm_core.errors import MdlmError
from mdlm_core.nn.attention import resolve_backend

from .devices import NO_FLOAT64, choose_device

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    text: str
    remedy: str = ""
    """What to do about it; empty if nothing."""


# ---- the environment --------------------------------------------------------


def environment(catalog: Catalog) -> Iterator[Finding]:
    """Look at what is installed and what the machine can do."""
    names = ("mdlm-core", "torch", "accelerate", "safetensors")
    found = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    yield Finding("versions", "ok", f"Python {platform.python_version()}, {found}")
    yield _device()
    yield _attention()
    yield _extras()
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Finding(
        "disk",
        "ok" if free > 1 else "note",
        f"{free:.1f} GB free here",
        "" if free > 1 else "make room before a long run, or choose another --out",
    )
    failures = catalog.plugins.failures()
    for record in failures:
        yield Finding(
            "plugins",
            "problem",
            f"{record.label} did not load: {record.error}",
            f"mdlm plugins doctor {record.name}",
        )
    if not failures:
        loaded = [r.name for r in catalog.plugins.records if r.status == "loaded"]
        yield Finding("plugins", "ok", ", ".join(loaded))


def _device() -> Finding:
    if torch.cuda.is_available():
        names = [
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        ]
        return Finding("device", "ok", f"cuda: {', '.join(names)}")
    if (chosen := choose_device().type) != "cpu":
        return Finding("device", "ok", chosen)
    threads = torch.get_num_threads()
    unused = f"; MPS is not used: {NO_FLOAT64}"
    return Finding(
        "device",
        "note",
        f"cpu, {threads} threads; bf16 is tried at the start of a run"
        + (unused if torch.backends.mps.is_available() else ""),
        "small models only: the default preset, or --tiny",
    )


def _attention() -> Finding:
    device = choose_device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    works = []
    for name in ("sdpa", "flex", "flash"):
        try:
            resolve_backend(name, device, dtype)
        except MdlmError:
            continue
        works.append(name)
    chosen = resolve_backend("auto", device, dtype)
    return Finding("attention", "ok", f"{chosen} is used; {', '.join(works)} work")


def _extras() -> Finding:
    modules = {
        "hf": ("transformers", "tokenizers", "datasets"),
        "plot": ("matplotlib",),
        "tensorboard": ("tensorboard",),
    }
    missing = [
        extra
        for extra, needed in modules.items()
        if any(importlib.util.find_spec(module) is None for module in needed)
    ]
    if not missing:
        return Finding("extras", "ok", f"{', '.join(modules)} are installed")
    return Finding(
        "extras",
        "note",
        f"not installed: {', '.join(missing)}",
        f"pip install 'mdlm-core[{','.join(missing)}]' where they are wanted",
    )
