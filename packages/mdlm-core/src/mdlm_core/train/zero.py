"""DeepSpeed ZeRO: a process keeps a part of AdamW's state, in stage 3 of the weights.

Weights are in float32, and in stages 1 and 2 whole on every process; the forward pass
runs under autocast. The optimiser's parts are saved by DeepSpeed itself, inside the
checkpoint's folder: such a run goes on with as many processes as it had. The weights in
a checkpoint are whole in every stage, and can be loaded without DeepSpeed.
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
        if self.sharded:
            _gather_with_the_root(accelerator.unwrap_model(self.model), self.module)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return the module with a loss that DeepSpeed can look into."""
        return _Plain(module)

    def unwrapped(self, module: nn.Module) -> nn.Module:
        """Return the module itself."""
        assert isinstance(module, _Plain)
        return module.inner

    @property
    def sharded(self) -> bool:
        """Whether a process holds only parts of the parameters: in stage 3."""
        return bool(self.accelerator.state.deepspeed_plugin.zero_stage == 3)

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
            loss = Loss(**self.model(part, draw))
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

    def weights(self) -> dict[str, Tensor]:
        """Return the weights, whole; in stage 3 they are gathered one by one."""
        if not self.sharded:
            return super().weights()
        from deepspeed.runtime.zero import GatheredParameters

        parameters = dict(self.module.named_parameters())
        whole = {}
        for name, tensor in live.named_tensors(self.module).items():
            with GatheredParameters([parameters[name]] if name in parameters else []):
                whole[name] = live.whole(parameters.get(name, tensor))
        return whole

    def collect(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights; `write_more` saves the optimiser."""
        tensors = {MODEL: self.weights()}
        if self.ema is not None:
            tensors[EMA] = live.collect(self.ema.weights)
        return tensors

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], what: str) -> None:
        """Put back what `collect` returned; in stage 3 `read_more` does."""
        if self.sharded:
            return
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
    if stage not in (1, 2, 3):
        raise ConfigError(
            f"DeepSpeed ZeRO stage {stage} is not supported, only 1, 2 and 3; use "
            f"--zero_stage 2"
        )
    if stage == 3 and config.ema:
        raise ConfigError(
            f"train.ema is {config.ema}, which needs whole weights, and DeepSpeed ZeRO "
            f"stage 3 cuts them; set train.ema=0, or use stage 2 or FSDP2"
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


class _Plain(nn.Module):
    """The module, but with its loss as a dictionary of tensors.

    Stage 3 gathers weights for the backward pass by hooks on the tensors that a forward
    returns, which it finds in dictionaries only.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, batch: Batch, draw: Draw) -> dict[str, Any]:
        """Return the fields of the loss."""
        return dict(vars(self.inner(batch, draw)))


def _gather_with_the_root(root: nn.Module, module: nn.Module) -> None:
    """Have stage 3 gather the parameters that are used outside of their own module.

    DeepSpeed gathers a module's parameters when its forward is called. The fused loss
    reads the head's weight instead, inside the forward of the root in a training step,
    and inside that of the module alone where a task measures losses by itself.
    """
    from deepspeed.runtime.zero import register_external_parameter

    head = getattr(module.backbone, "head", None)
    if isinstance(head, nn.Linear):
        for parameter in head.parameters():
            for outer in dict.fromkeys((root, module)):
                register_external_parameter(outer, parameter)
