"""Accelerate's trackers: TensorBoard, Weights & Biases and others, by `report_to`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from mdlm_core.config import RunConfig, to_dict
from mdlm_core.config.layers import leaves
from mdlm_core.errors import ConfigError, MissingExtraError, TrainingError

_PACKAGES = {"tensorboard": "mdlm-core[tensorboard]", "comet_ml": "comet-ml"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that accelerate does not know or that is not installed.

    Raises:
        ConfigError: if there is no such tracker.
        MissingExtraError: if its package is missing.
    """
    known = {str(name) for name in LOGGER_TYPE_TO_CLASS}
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"train.report_to has '{name}'; there are {', '.join(sorted(known))}"
            )
        if name not in installed:
            raise MissingExtraError(
                f"train.report_to has '{name}', which is not installed. Try: pip "
                f"install '{_PACKAGES.get(name, name)}'"
            )


def start_trackers(accelerator: Accelerator, config: RunConfig, folder: Path) -> None:
    """Start the run's trackers.

    Raises:
        TrainingError: if one does not start, for example without a network.
    """
    if not config.train.report_to:
        return
    flat = {
        path: value if isinstance(value, bool | int | float | str) else str(value)
        for path, value in leaves(to_dict(config))
    }
    try:
        accelerator.init_trackers(
            "mdlm", config=flat, init_kwargs={"wandb": {"name": folder.name}}
        )
    except Exception as error:
        text = " ".join(str(error).split())
        raise TrainingError(
            f"a tracker of train.report_to ({', '.join(config.train.report_to)}) did "
            f"not start: {text}. Leave it out, or for wandb set WANDB_MODE=offline"
        ) from error


def stop_trackers(accelerator: Accelerator) -> None:
    """Let the trackers write what they hold. The processes stay joined."""
    if accelerator.is_main_process:
        for tracker in accelerator.trackers:
            tracker.finish()
