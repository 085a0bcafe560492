"""Protein alignments by masked diffusion.

What is heavy is imported when it is first asked for, so that this stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Alignment": "alignment",
    "AlignmentTokenizer": "tokenizer",
    "Family": "data.family",
    "MSASource": "data.source",
    "RowFilter": "config",
    "filter_rows": "filtering",
    "identity_all": "identity",
    "identity_pair": "identity",
    "neff": "weights",
    "select_rows": "selection",
    "sequence_weights": "weights",
    "synthetic_families": "data.synthetic",
    "Finding": "formats.checking",
    "VOCABULARIES": "vocabulary",
    "Vocabulary": "vocabulary",
    "check": "formats.checking",
    "convert_ids": "vocabulary",
    "detect_vocabulary": "vocabulary",
    "hand_off": "formats.handoff",
    "read_alignment": "formats.reading",
    "read_alignments": "formats.reading",
    "write_alignment": "formats.writing",
    "write_alignments": "formats.writing",
    "ProteinDiT": "nn.protein_dit",
    "Numbering": "scoring.variants",
    "Target": "scoring.rows",
    "laws_alone": "scoring.rows",
    "read_variants": "scoring.variant_file",
    "row_bits": "scoring.residues",
    "score_rows": "scoring.rows",
    "score_variants": "scoring.effects",
    "Generated": "generation.generate",
    "GenerationConfig": "config",
    "Inpainted": "generation.inpaint",
    "generate": "generation.generate",
    "inpaint": "generation.inpaint",
    "Evaluation": "evaluation.evaluating",
    "Potts": "evaluation.potts",
    "evaluate": "evaluation.evaluating",
    "evaluate_model": "evaluation.held_out",
    "split_rows": "evaluation.held_out",
    "one_shot": "samplers",
    "remask": "samplers",
    "Judge": "preference.rewards",
    "Pair": "preference.pairs",
    "read_pairs": "preference.pairs",
    "write_pairs": "preference.pairs",
}
"""Which module each public name is in."""

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
