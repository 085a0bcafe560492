"""DeepSpeed ZeRO, stages 1 and 2: each process keeps a part of AdamW's state.

The weights stay whole and in float32 on every process, so that everything else is as
without DeepSpeed; the forward pass runs under autocast. The optimiser's parts are saved
by DeepSpeed itself, inside the checkpoint's folder: such a run goes on with as many
processes as it had. Stage 3 is not supported: FSDP2 cuts the weights as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from mdlm_core.config.schema import TrainConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, Loss
from mdlm_core.errors import CheckpointError, ConfigError
from mdlm_core.kernels.noise import Noise, global_seed

from . import state as live
from .checkpoint import EMA, MODEL
from .engine import Engine
from .optim import set_learning_rate

TAG = "deepspeed"
"""The folder inside a checkpoint."""


def wants_zero() -> bool:
    """Whether `accelerate launch` was told to use DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


class ZeroEngine(Engine):
    """An engine whose optimiser is cut over the processes by DeepSpeed."""

    files: ClassVar[tuple[str, ...]] = (MODEL,)

    def __init__(
        self,
        module: nn.Module,
        accelerator: Accelerator,
        config: TrainConfig,
        precision: str = "fp32",
    ) -> None:
        """Prepare `module`; see `Engine`.

        Raises:
            ConfigError: if DeepSpeed is set up in a way that is not supported.
        """
        _check(accelerator, config, precision)
        rows = max(1, config.batch_size // accelerator.num_processes)
        micro = min(config.micro_batch or rows, rows)
        pieces = -(-rows // micro)
        self.pieces = pieces
        accelerator.gradient_accumulation_steps = pieces
        settings = accelerator.state.deepspeed_plugin.deepspeed_config
        settings["train_micro_batch_size_per_gpu"] = -(-rows // pieces)
        settings["gradient_accumulation_steps"] = pieces
        settings["gradient_clipping"] = config.clip
        super().__init__(module, accelerator, config, precision)

    def _forward_backward(
        self, part: Batch, draw: Draw, *, dropout: Noise, scale: float, last: bool
    ) -> Loss:
        with ExitStack() as stack:
            stack.enter_context(global_seed(dropout))
            stack.enter_context(
                torch.autocast(
                    self.device.type, torch.bfloat16, enabled=self.precision == "bf16"
                )
            )
            loss: Loss = self.model(part, draw)
        self.model.set_gradient_accumulation_boundary(is_boundary=last)
        # DeepSpeed divides by the number of pieces; here it is a sum.
        self.model.backward(loss.total * (scale * self.pieces))
        if not last:
            self.model.step()  # only counts
        return loss

    def _update(self, lr: float, *, rescale: float) -> float:
        if rescale != 1.0:
            raise ConfigError(
                "this task counts its loss otherwise than it tells before the backward "
                "pass, which DeepSpeed cannot make up for; use DDP or FSDP2"
            )
        set_learning_rate(self.optimizer, lr)
        self.model.step()
        return float(self.model.get_global_grad_norm())

    def collect(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights; `write_more` saves the optimiser."""
        tensors = {MODEL: live.collect(live.named_tensors(self.module))}
        if self.ema is not None:
            tensors[EMA] = live.collect(self.ema.weights)
        return tensors

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], what: str) -> None:
        """Put back what `collect` returned."""
        live.restore(live.named_tensors(self.module), tensors[MODEL], what)
        if self.ema is not None:
            live.restore(self.ema.weights, tensors[EMA], f"{what} (its EMA)")

    def write_more(self, place: Path) -> None:
        """Let every process write its part of the optimiser."""
        place.mkdir(parents=True, exist_ok=True)
        self.model.save_checkpoint(str(place), tag=TAG, save_latest=False)

    def read_more(self, place: Path) -> None:
        """Let every process read its part of the optimiser.

        Raises:
            CheckpointError: if there is none, or it is of another number of processes.
        """
        problem = ""
        loaded: Any = None
        try:
            loaded, _ = self.model.load_checkpoint(str(place), tag=TAG)
        except Exception as error:
            problem = f": {error}"
        if loaded is None:
            raise CheckpointError(
                f"'{place}' has no state of DeepSpeed for {self.world} processes"
                f"{problem}. A run under DeepSpeed goes on under DeepSpeed, with as "
                f"many processes as before"
            )


def _check(accelerator: Accelerator, config: TrainConfig, precision: str) -> None:
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        raise ConfigError(
            "DeepSpeed was asked for, but accelerate does not use it here; it needs a "
            "GPU and the package deepspeed"
        )
    stage = accelerator.state.deepspeed_plugin.zero_stage
    if stage not in (1, 2):
        raise ConfigError(
            f"DeepSpeed ZeRO stage {stage} is not supported, only 1 and 2; use "
            f"--zero_stage 2, or FSDP2 to cut the weights too: accelerate launch "
            f"--use_fsdp --fsdp_version 2"
        )
    if precision == "fp16":
        raise ConfigError(
            "train.precision is fp16, which is not supported under DeepSpeed; use bf16"
        )
    if config.optimizer != "adamw":
        raise ConfigError(
            f"train.optimizer is {config.optimizer}, which needs whole matrices, and "
            f"DeepSpeed cuts them; use train.optimizer=adamw, or DDP"
        )
