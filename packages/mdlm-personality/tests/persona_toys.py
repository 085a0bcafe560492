"""Small models and batches that several tests of personas use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from mdlm_core.data.batch import Batch
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_personality.config import PersonalityDiTConfig
from mdlm_personality.nn.personality_dit import PersonalityDiT, build

V, MASK = 11, 10
LABELS = {"optimism": "beliefs", "exercise": "actions"}


def toy_config(**settings: object) -> PersonalityDiTConfig:
    given = {
        "blocks": 2,
        "width": 32,
        "heads": 2,
        "cond_width": 16,
        "dropout": 0.0,
        "latent_dim": 20,
        "labels": LABELS,
    }
    return PersonalityDiTConfig(**{**given, **settings})  # type: ignore[arg-type]


def toy_model(seed: int = 0, **settings: object) -> PersonalityDiT:
    with global_seed(Noise(seed)):
        return build(toy_config(**settings), vocab_size=V, mask_id=MASK, length=6)


def disturbed(model: PersonalityDiT, seed: int = 1) -> PersonalityDiT:
    """Give every weight a value, so that nothing is zero as in a new model."""
    with global_seed(Noise(seed)), torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def toy_batch(rows: int = 3, length: int = 6, columns: int = 7) -> Batch:
    noise = Noise(5)
    ids = torch.arange(rows)
    tokens = (noise.child("tokens").uniform(ids, length) * (V - 1)).long()
    values = noise.child("values").uniform(ids, columns).float()
    known = torch.ones(rows, columns, dtype=torch.bool)
    return Batch.of(tokens, condition={"traits": values, "known": known})


def under(batch: Batch, condition: Mapping[str, torch.Tensor]) -> Batch:
    """Return the batch under a condition of one row."""
    told = {n: v.expand(len(batch), *v.shape[1:]) for n, v in condition.items()}
    return replace(batch, condition=told)


def null(batch: Batch) -> Batch:
    """Return the batch with nothing known about its personas."""
    nothing = torch.zeros_like(batch.condition["known"])
    return replace(batch, condition={**batch.condition, "known": nothing})


def without(batch: Batch, column: int) -> Batch:
    """Return the batch with one column not known."""
    known = batch.condition["known"].clone()
    known[:, column] = False
    return replace(batch, condition={**batch.condition, "known": known})
