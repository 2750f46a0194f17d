"""Training with several processes: tensors that are sharded over them, and the error when one of them is lost."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from ..core.errors import RunError

# Messages of the backends when a peer is gone; gloo raises bare RuntimeErrors.
_LOST = ("connection closed by peer", "connection reset by peer", "gloo", "nccl", "process group")


def on_cpu() -> bool:
    """Whether to train on the CPU: if accelerate is told so, or if a launcher started several processes on a machine
    without an accelerator, which accelerate would otherwise treat as independent jobs of one process each."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.accelerator.is_available())


def process_state() -> PartialState:
    """Number of this process and of all processes, available before the settings of an `Accelerator` are known."""
    return PartialState(cpu=on_cpu())


@contextmanager
def lost_peers_named(processes: int, index: int) -> Iterator[None]:
    """Turn the communication error of a lost process into an error that says what happened and what to do.

    :raises RunError: if one of several processes is lost.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or any(
            sign in str(error).lower() for sign in _LOST
        )
        if processes == 1 or not lost:
            raise
        raise RunError(
            f"process {index} of {processes} lost contact with the others: one of them was killed (out of memory?) or "
            "failed, see its own message; fix the cause, then continue with --resume and any number of processes"
        ) from error


def unsharded(tensor: Tensor) -> Tensor:
    """The full tensor if FSDP has sharded it (every process must call this, in the same order), else the tensor itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP has sharded the model's weights."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def sharded_like(value: Tensor, pattern: Tensor) -> Tensor:
    """`value`, which every process holds, sharded like `pattern`; unchanged if `pattern` is not sharded."""
    layout: Any = pattern
    if not hasattr(layout, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(layout.device), layout.device_mesh, layout.placements)
