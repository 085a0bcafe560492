"""Between live tensors and named ones on the CPU.

Under FSDP2 a live tensor is a `DTensor`, of which each process holds a part; under DDP
and in one process it is a plain tensor. Everything is saved whole and under the names
of the module as the task built it, so that a checkpoint does not depend on how many
processes made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mdlm_core.errors import CheckpointError

try:
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # a torch built without distributed has no such tensors
    DTensor = None  # type: ignore[assignment, misc]


def whole(tensor: Tensor) -> Tensor:
    """Return an own copy on the CPU; every process must call it."""
    if DTensor is not None and isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().to("cpu", copy=True)


def like(value: Tensor, target: Tensor) -> Tensor:
    """Return a whole tensor as `target` is: its device, type and distribution."""
    value = value.to(target.device, target.dtype)
    if DTensor is not None and isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements)
    return value


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the live parameters and buffers that a checkpoint holds.

    That is all but what comes from outside and never changes: a part of the module
    names it, relative to itself, in a set `external_tensors`.
    """
    outside = external(module)
    return {
        name: value
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor) and name not in outside
    }


def external(module: nn.Module) -> set[str]:
    """Return the names of the tensors that come from outside; see `named_tensors`."""
    return {
        f"{place}.{name}" if place else name
        for place, part in module.named_modules()
        for name in getattr(part, "external_tensors", ())
    }


def load(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Fill a whole module from the tensors of a checkpoint.

    Raises:
        CheckpointError: if they belong to another model.
    """
    check_names(named_tensors(module), values, "the checkpoint")
    module.load_state_dict(values, strict=False)


def check_only_tensors(module: nn.Module) -> None:
    """Refuse a module of which a checkpoint would not hold everything.

    Raises:
        CheckpointError: which part has state besides its parameters and buffers.
    """
    for name, part in module.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            raise CheckpointError(
                f"'{name or 'the module'}' ({type(part).__name__}) has extra state "
                f"(get_extra_state), which is not saved in a checkpoint; keep it in "
                f"buffers (register_buffer)"
            )
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"'{name}' in the state of the module is no tensor but "
                f"{type(value).__name__}, which is not saved in a checkpoint; keep it "
                f"in buffers (register_buffer)"
            )


def collect(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole copies of named live tensors."""
    return {name: whole(tensor) for name, tensor in tensors.items()}


def restore(
    targets: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str
) -> None:
    """Copy saved values into live tensors of the same names.

    Raises:
        CheckpointError: if names or shapes differ; nothing is changed then.
    """
    check_names(targets, values, what)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(like(values[name], target))


def check_names(
    targets: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str
) -> None:
    """Refuse values that belong to another model.

    Raises:
        CheckpointError: which name is missing, unexpected or of another shape.
    """
    if difference := next(_differences(targets, values), ""):
        raise CheckpointError(
            f"{what} belongs to another model: {difference}. Use the settings that it "
            f"was trained with (they are in the run's config.yaml)"
        )


def _differences(
    targets: Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> Iterator[str]:
    for name, target in targets.items():
        if name in values and values[name].shape != target.shape:
            yield (
                f"'{name}' is {tuple(values[name].shape)} there and "
                f"{tuple(target.shape)} here"
            )
    for name in targets:
        if name not in values:
            yield f"it lacks '{name}'"
    for name in values:
        if name not in targets:
            yield f"it has '{name}', which is not in the model"


def collect_optimizer(
    optimizer: torch.optim.Optimizer, module: nn.Module
) -> dict[str, Tensor]:
    """Return the optimiser's state as "parameter.key" -> whole tensor."""
    return {
        f"{name}.{key}": whole(torch.as_tensor(value))
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    values: Mapping[str, Tensor],
    what: str,
) -> None:
    """Put back what `collect_optimizer` returned.

    Raises:
        CheckpointError: if it belongs to another model.
    """
    parameters = dict(module.named_parameters())
    fused = any(group.get("fused") for group in optimizer.param_groups)
    state: dict[str, dict[str, Tensor]] = {}
    for path, value in values.items():
        name, _, key = path.rpartition(".")
        if name not in parameters:
            raise CheckpointError(
                f"{what} belongs to another model: it has state of '{name}', which is "
                f"not in the model"
            )
        state.setdefault(name, {})[key] = (
            like(value, parameters[name])
            if value.ndim
            else value.to(parameters[name].device)
            if fused  # it counts steps on the device
            else value
        )
    for name, entry in state.items():
        optimizer.state[parameters[name]] = entry
