"""A phase of made-up text, small enough for tests: registry file, manager, subject."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from mdlm_atat.datasets import get_dataset_manager
from mdlm_atat.datasets.prepare import prepare_phase
from mdlm_atat.validation.report import conduct
from mdlm_atat.validation.subject import Subject
from mdlm_atat.variants import find_variants
from mdlm_core import load_catalog
from mdlm_core.kernels.noise import Noise

PHASE = "TINY_ABLATION"
_REGISTRY = """
datasets:
  words:
    source: file:{folder}
    license: made up
    splits: {{train: train.jsonl, validation: valid.jsonl}}
    tokenizer: char
    chunk: 0
    holdout: 0.2
    variants: {{full: {{about_tokens: 20000}}}}
phase_configurations:
  TINY_ABLATION:
    dataset: words (full)
    preset: atat/books-cpu
    length: 16
    batch_size: 8
    steps: 40
    variants: [uniform, full]
    seeds: [1, 2]
    eval_windows: 8
    eval_draws: 2
    sets: {{model.width: 16, model.blocks: 1, masking.importance.width: 16}}
"""


def words(documents: int, seed: int) -> list[str]:
    """Return documents of 60 random words, none of them in two with other seeds."""
    u = Noise(seed).child("words").uniform(torch.arange(documents * 60), 4)
    letters = [[chr(97 + int(x * 26)) for x in row] for row in u.tolist()]
    texts = ["".join(row) for row in letters]
    return [" ".join(texts[i * 60 : (i + 1) * 60]) for i in range(documents)]


def write(path: Path, documents: list[str]) -> None:
    """Write documents as JSON lines."""
    lines = [json.dumps({"text": text}) for text in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def registry(folder: Path, *, repeat: int = 0) -> Path:
    """Write text and a registry file that names it.

    Args:
        folder: where.
        repeat: how many held-out documents stand in the training text.
    """
    held_out = words(10, seed=1)
    write(folder / "train.jsonl", words(60, seed=0) + held_out[:repeat])
    write(folder / "valid.jsonl", held_out)
    file = folder / "registry.yaml"
    file.write_text(_REGISTRY.format(folder=folder), encoding="utf-8")
    return file


def tiny_subject(folder: Path, *, variants: tuple[str, ...] = (), **changes) -> Subject:
    """Return a subject whose data are prepared."""
    manager = get_dataset_manager(config_file=registry(folder))
    phase = prepare_phase(manager.get_phase_config(PHASE))
    chosen = find_variants(variants or phase.variants)
    return Subject(load_catalog(), replace(phase, **changes), chosen, device="cpu")


def failures(findings):
    """Return the findings that fail."""
    return [finding for finding in findings if finding.status == "fail"]


def check(look, *arguments):
    """Do a check as `validate` does, and return its status and what was seen."""
    done = conduct(1, "check", lambda: look(*arguments))
    return done.status, " | ".join(finding.seen for finding in done.findings)
