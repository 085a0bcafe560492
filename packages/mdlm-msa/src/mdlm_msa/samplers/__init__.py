"""Samplers that mdlm-msa adds: core's signature, see `mdlm_core.protocols.Sampler`."""

from .one_shot import one_shot
from .remask import remask

__all__ = ["one_shot", "remask"]
