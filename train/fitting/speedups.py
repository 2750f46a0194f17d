"""Speed and memory options of training that do not change what the encoder learns, switched on and off again."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..model.packed_attention import choose_packing, restore_attention, use_documents_attention
from ..model.packing import Layout
from ..model.policy_model import PolicyModel
from ..settings import OptimSettings


@dataclass(frozen=True, slots=True)
class Speedups:
    """The options that are on: the packing layout (None: padded), and the attention to restore."""

    layout: Layout | None
    attention: str | None


@contextmanager
def _old_names() -> Iterator[None]:
    """Ignore warnings about names that every supported version of transformers accepts: a user cannot change them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing", category=FutureWarning)
        yield


def encoder_layers(encoder: Any) -> list[nn.Module]:
    """The encoder's repeated blocks in order: its longest list of modules."""
    lists = [list(module) for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=[])


def switch_on(model: PolicyModel, optim: OptimSettings, device: torch.device) -> Speedups:
    """Switch on packing, gradient checkpointing and compiled layers before training, as the settings say.

    :raises SettingsError: if the settings ask for packing and it is not supported for the architecture.
    """
    encoder: Any = model.encoder
    layout = choose_packing(optim.packing, encoder, device=device, mixed_precision=optim.mixed_precision)
    attention = use_documents_attention(encoder) if layout == "flat" else None
    if optim.gradient_checkpointing:
        with _old_names():
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if optim.compile:
        # Layer by layer and in place: all layers share one compiled graph, and weights keep their names.
        for layer in encoder_layers(encoder):
            layer.compile(dynamic=True)
    return Speedups(layout, attention)


def switch_off(model: PolicyModel, optim: OptimSettings, speedups: Speedups) -> None:
    """Undo `switch_on`: prediction and export after training use the plain encoder."""
    encoder: Any = model.encoder
    if speedups.attention is not None:
        restore_attention(encoder, speedups.attention)
    if optim.gradient_checkpointing:
        with _old_names():
            encoder.gradient_checkpointing_disable()
    if optim.compile:
        for layer in encoder_layers(encoder):
            layer._compiled_call_impl = None
