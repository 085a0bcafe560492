"""From passes over the data to optimiser steps."""

from __future__ import annotations

from dataclasses import replace

from mdlm_core.config import RunConfig
from mdlm_core.errors import ConfigError
from mdlm_core.protocols import DataSource

EPOCH = "epoch"


def in_steps(config: RunConfig, source: DataSource) -> RunConfig:
    """Return the settings with everything that is said in epochs said in steps.

    An epoch is as many steps as the training rows fill whole batches, or what the
    source's ``steps_per_epoch(batch_size)`` returns if it has one.

    Raises:
        ConfigError: if epochs are asked for and the size of the data is not known.
    """
    train = config.train
    asked = [
        f"train.{name}={value}"
        for name, value in (
            ("epochs", train.epochs),
            ("eval_every", train.eval_every),
            ("save_every", train.save_every),
        )
        if value == EPOCH or (name == "epochs" and value)
    ]
    if not asked:
        return config
    counted = getattr(source, "steps_per_epoch", None)
    rows = source.size("train")
    if rows is None and counted is None:
        raise ConfigError(
            f"{asked[0]} asks for passes over the data, whose size is not known "
            f"because it is streamed; say it in steps"
        )
    size = train.batch_size
    epoch = max(1, (rows or 0) // size if counted is None else counted(size))

    def steps(every: int | str) -> int:
        return epoch if isinstance(every, str) else every

    return replace(
        config,
        train=replace(
            train,
            steps=max(1, round(train.epochs * epoch)) if train.epochs else train.steps,
            eval_every=steps(train.eval_every),
            save_every=steps(train.save_every),
        ),
    )
