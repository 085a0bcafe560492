"""Text conditioned on Big Five traits, by masked diffusion, with a causal layer.

What is heavy is imported when it is first asked for, so that this stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE: dict[str, str] = {
    "TRAITS": "traits",
    "CausalLayer": "causal.layer",
    "Graph": "causal.graph",
    "read_edges": "causal.graph",
    "load_regressor": "regressor.saved",
    "infer_traits": "inference",
    "TraitRegressor": "regressor.model",
    "RegressorGuidance": "regressor.guidance",
    "Posteriors": "posteriors",
    "BetaVAE": "encoder",
    "CausalMDLM": "causal_mdlm",
    "MDLMPANDORADataset": "original",
    "PersonalityDiTBlock": "original",
    "create_mdlm_dataloaders": "original",
    "LinearSEM": "causal.sem",
    "fit_tiered": "causal.sem",
    "dagma_linear": "causal.discovery",
    "notears_linear": "causal.discovery",
    "read_table": "causal.tables",
    "shd": "causal.compare",
    "LexiconJudge": "metrics.judges",
    "TextJudge": "metrics.judges",
    "counterfactual_flip_rate": "metrics.flips",
    "dci": "metrics.disentanglement",
    "mig": "metrics.disentanglement",
    "pca_score": "metrics.disentanglement",
    "reconstruction_score": "metrics.reconstruction",
    "sap": "metrics.disentanglement",
    "self_bleu": "metrics.diversity",
    "Change": "generation.personas",
    "Manner": "generation.writing",
    "Written": "generation.writing",
    "changes": "generation.changes",
    "counterfactual_pair": "generation.counterfactual",
    "edit": "generation.edit",
    "generate": "generation.writing",
    "generate_sar": "generation.long",
    "load": "saved",
    "sweep": "generation.sweep",
    "PLANTED_EFFECTS": "data.planted",
    "PersonaSource": "data.source",
    "PersonaTexts": "data.texts",
    "judge": "data.judge",
    "persona_corpus": "data.corpus",
    "read_texts": "data.source",
}
"""Which module each public name is in."""

__all__ = ["__version__", *_WHERE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{where}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
