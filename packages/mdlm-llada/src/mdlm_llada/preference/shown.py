"""What both tasks ask of a run."""

from __future__ import annotations

from mdlm_core.config.schema import RunConfig
from mdlm_core.errors import ConfigError


def check_masking(run: RunConfig) -> None:
    """Refuse a masking policy that would not be asked.

    Raises:
        ConfigError: if it is not the uniform one.
    """
    if run.masking.name != "uniform":
        raise ConfigError(
            f"masking.name is '{run.masking.name}', but {run.task.name} hides all "
            f"tokens alike; set masking.name=uniform"
        )
