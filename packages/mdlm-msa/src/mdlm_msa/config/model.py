"""Settings of the model. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from mdlm_core.config.components import DiTConfig
from mdlm_core.config.schema import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ProteinDiTConfig(DiTConfig):
    """A transformer over rows and columns of an alignment; nano by default."""

    blocks: int = 4
    """Transformer blocks."""
    width: int = 128
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads; a head's size is a multiple of 4, half of its planes for the
    column and half for the row."""
    cond_width: int = 64
    """Width of the conditioning vector."""
    dropout: float = 0.0
    """On the two residual branches of a block."""
    profile: bool = True
    """Whether the law of a token starts from the profile of the visible rows, a PSSM,
    which the transformer then corrects."""
    pseudocount: float = 10.0
    """Weight of the profile's prior, in rows, at the start; it is learned."""
    kappa: float = 0.03
    """How much a row's likeness to the one to restore counts in the profile, at the
    start; it is learned. The more rows the profile sees, the more it should be."""
    columns: int = 0
    """In a model of one family: the columns of its query, each of which has a prior
    of its own. 0 means a model of any family, whose prior is substitution."""

    def __post_init__(self) -> None:
        DiTConfig.__post_init__(self)
        at_least(0, "model", self, "columns")
        require(
            self.width % (4 * self.heads) == 0,
            f"model.width ({self.width}) must be a multiple of four times model.heads "
            f"({self.heads}), so that a head can turn by column and by row",
        )
        require(
            self.pseudocount > 0,
            f"model.pseudocount is {self.pseudocount}; it must be positive",
        )
        require(self.kappa > 0, f"model.kappa is {self.kappa}; it must be positive")
        require(
            self.profile or not self.columns,
            f"model.columns is {self.columns}, and needs model.profile=true",
        )
