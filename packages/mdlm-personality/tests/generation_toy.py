"""A model of ten letters that listens to its persona, without training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch

from mdlm_core.config.components import SamplerConfig
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.samplers import ancestral
from mdlm_personality.config import PersonalityDiTConfig
from mdlm_personality.generation.writing import Manner
from mdlm_personality.nn.personality_dit import PersonalityDiT
from mdlm_personality.saved import Trained

LENGTH = 24
SOMEBODY = (0.8, 0.6, 0.7, 0.9, 0.3)


def toy(seed: int = 0, *, time_conditioned: bool = False, **config: Any) -> Trained:
    """Return a model with random weights, for which persona and context matter."""
    tokenizer = CharTokenizer("abcdefgh .")
    settings = PersonalityDiTConfig(
        blocks=1,
        width=32,
        heads=2,
        cond_width=16,
        latent_dim=20,
        dropout=0.0,
        labels={"wellness": "beliefs", "exercise": "actions"},
        time_conditioned=time_conditioned,
        **config,
    )
    with global_seed(Noise(seed).child("toy")):
        backbone = PersonalityDiT(
            settings,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=LENGTH,
        ).eval()
        with torch.no_grad():
            for name, weight in backbone.named_parameters():
                if "log_scale" in name or "norm" in name:
                    continue
                scale = 1.0 if "modulation.bias" in name else 0.2
                weight.copy_(scale * torch.randn_like(weight))
    backbone.persona.set_scale(torch.full((7,), 0.5), torch.full((7,), 0.25))
    run = SimpleNamespace(module=backbone)
    return Trained(
        run=cast("Any", run),
        backbone=backbone,
        tokenizer=tokenizer,
        schedule=LogLinear(eps=0.0),
        length=LENGTH,
    )


def manner(**given: Any) -> Manner:
    """Return ancestral sampling in a few steps."""
    coupled = given.pop("coupled", False)
    config = SamplerConfig(**{"steps": 12, **given})
    return Manner(sampler=ancestral, config=config, coupled=coupled)
