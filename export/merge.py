"""Merging the LoRA adapter into the weights it adapts."""

import copy
from typing import Any

import torch

from ..core.errors import ParityError
from ..train.model.policy_model import PolicyModel

# Merged and unmerged weights round differently; the parity gate measures what that does to probabilities.
_LOGIT_TOLERANCE = 1e-3


def merge_adapter(model: PolicyModel) -> PolicyModel:
    """A float32 copy of `model` in evaluation mode with its adapter merged; `model` stays as it is.

    :raises ParityError: if the merged copy gives other logits.
    """
    model.eval()
    merged = copy.deepcopy(model).float().eval()
    encoder: Any = merged.encoder
    if hasattr(encoder, "merge_and_unload"):
        merged.encoder = encoder.merge_and_unload(safe_merge=True)
    merged.requires_grad_(False)
    _check(model, merged)
    return merged


def example_inputs(model: PolicyModel, *, batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (batch, length), the same at each call; the second row is half padding."""
    encoder: Any = model.encoder
    vocabulary = encoder.get_input_embeddings().num_embeddings
    generator = torch.Generator().manual_seed(0)
    # Not the first ids, which are padding and other special tokens.
    input_ids = torch.randint(min(10, vocabulary - 1), vocabulary, (batch, length), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1:2, length // 2 :] = 0
    return input_ids, attention_mask


def _check(model: PolicyModel, merged: PolicyModel) -> None:
    inputs = example_inputs(model, batch=3, length=8)
    with torch.no_grad():
        before, after = model(*inputs), merged(*inputs)
    if isinstance(before, torch.Tensor):
        before, after = (before,), (after,)
    difference = max(float((old - new).abs().max()) for old, new in zip(before, after, strict=True))
    if not difference <= _LOGIT_TOLERANCE:
        raise ParityError(
            f"merging the adapter moves a logit by {difference:.2g}: it was not merged correctly"
        )
