"""Settings of decoding. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mdlm_core.config.components import SamplerConfig
from mdlm_core.config.schema import at_least, require, share


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeConfig(SamplerConfig):
    """Decoding block by block, the surest tokens of a block first (LLaDA)."""

    temperature: float = 0.0
    """Divides the logits; 0 takes the most probable token."""
    block: int = 32
    """Positions in a block."""
    remasking: Literal["low_confidence", "random", "margin", "entropy"] = (
        "low_confidence"
    )
    """What makes a position sure: the drawn token's probability, chance, the gap
    between the two best, or a low entropy."""
    threshold: float = 0.0
    """Commit every position whose confidence reaches it, at least one, and at
    least the step's count if the model sees blocks; 0: by count."""
    factor: float = 0.0
    """Commit the n surest while (n + 1) (1 - confidence of the n-th) stays below it."""
    entropy_bound: float = 0.0
    """Commit the surest while their joint entropy is known up to this, in nats."""
    cfg_scale: float = 0.0
    """Classifier-free guidance w: logits u + (w + 1) (c - u), u without the prompt."""
    cache: Literal["none", "approx-prefix", "approx-dual"] = "none"
    """Reuse keys and values inside a block: those before it, or all around it. Both
    are approximations for a model that looks both ways. A block-diffusion model has an
    exact cache, which is always used."""
    refresh: int = 0
    """Steps after which a cache is made anew; 0 means at the start of a block, 1 is
    the exact result."""
    eos: Literal["free", "never", "last"] = "free"
    """The end of text: a token as any other; never drawn; or committed last of all."""
    eos_ids: tuple[int, ...] = ()
    """The ids that this is about; empty takes the tokenizer's."""
    stop: bool = True
    """Whether a row ends with the block in which an end of text stands."""
    edit_threshold: float = 0.0
    """Replace a written token by one that is at least so probable; 0 means never."""
    edit_steps: int = 16
    """Steps for that after a block is full, at most."""

    def __post_init__(self) -> None:
        SamplerConfig.__post_init__(self)
        at_least(1, "sampler", self, "block")
        at_least(0, "sampler", self, "factor", "entropy_bound", "refresh", "cfg_scale")
        at_least(0, "sampler", self, "edit_steps")
        share("sampler", self, "threshold", "edit_threshold")
        chosen = [
            name
            for name in ("threshold", "factor", "entropy_bound")
            if getattr(self, name) > 0
        ]
        require(
            len(chosen) <= 1,
            f"sampler.{' and sampler.'.join(chosen)} are both set; they are rules for "
            f"the same thing: leave one of them",
        )
        require(
            self.remasking != "random" or not (self.threshold or self.factor),
            "sampler.remasking=random commits in a random order, for which "
            "sampler.threshold and sampler.factor mean nothing: set both to 0",
        )
        require(
            self.cache == "none" or self.cfg_scale == 0,
            f"sampler.cache={self.cache} does not go with guidance; set "
            f"sampler.cfg_scale=0 or sampler.cache=none",
        )
