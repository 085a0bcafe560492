"""What an adaptive policy has learned: is importance where the loss is?

Letters: B batch, L length, N hidden tokens.
"""

from __future__ import annotations

from typing import Any

from mdlm_core.train.runs import LoadedRun

from .score import Scoring


def diagnose(run: LoadedRun, scoring: Scoring) -> dict[str, Any] | None:
    """Return the diagnostics of the run's policy; None if it has no importance."""
    del scoring
    policy = getattr(run.module, "policy", None)
    if not hasattr(policy, "importance"):
        return None
    return {}
