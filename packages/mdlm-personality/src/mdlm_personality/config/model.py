"""Settings of the model: the transformer, the encoder, the causal layer. Light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mdlm_core.config.components import DiTConfig
from mdlm_core.config.schema import at_least, require

Structure = Literal["tiered", "fixed", "dagma", "notears"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonalityDiTConfig(DiTConfig):
    """A diffusion transformer that is told a persona, or none."""

    blocks: int = 2
    """Transformer blocks."""
    width: int = 128
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads; they divide `width`, and a head's size is even."""
    pseudo_tokens: int = 8
    """Vectors of the persona that every block attends to."""
    latent_dim: int = 64
    """Nodes of the causal layer, a quarter in each tier; the first five are the
    traits."""
    encoder: Literal["identity", "beta-vae"] = "identity"
    """Where the noise of the nodes that nobody observes comes from: identity is none,
    so that they are what their parents make of them."""
    beta: float = 4.0
    """Weight of the KL term of beta-vae."""
    sigma: float = 0.3
    """Standard deviation of beta-vae's decoder, on standardised traits."""
    capacity: float = 0.0
    """Nats that beta-vae's KL term is drawn to, instead of 0; see encoder.py."""
    structure: Structure = "tiered"
    """Which edges there may be: tiered, from a tier to later ones; fixed, those of
    `edges`; dagma and notears find edges among what is observed."""
    edges: tuple[str, ...] = ()
    """Edges of the structure fixed, such as "extraversion -> wellness", or one path of
    a DOT or edge-list file."""
    mechanism: Literal["linear", "mask"] = "linear"
    """How parents make a node: a weighted sum, or a small network that sees its
    parents alone, as in CausalVAE."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What else may be observed besides the labels of the data, and the tier of each,
    {"wellness": "beliefs"}: those of a run whose persona is taken, for example."""

    def __post_init__(self) -> None:
        DiTConfig.__post_init__(self)
        at_least(1, "model", self, "pseudo_tokens")
        at_least(0, "model", self, "beta", "capacity")
        require(
            self.latent_dim % 4 == 0 and self.latent_dim >= 20,
            f"model.latent_dim is {self.latent_dim}; it must be a multiple of 4, and "
            f"at least 20, so that the five traits fit into the first of four tiers",
        )
        require(self.sigma > 0, f"model.sigma is {self.sigma}; it must be positive")
        require(
            bool(self.edges) or self.structure != "fixed",
            "model.structure=fixed needs edges; name them with model.edges, such as "
            "model.edges='[\"extraversion -> wellness\"]'",
        )
        require(
            not self.edges or self.structure == "fixed",
            f"model.edges goes with model.structure=fixed, which is {self.structure}",
        )
