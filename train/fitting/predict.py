"""Record logits of a window table, in the table's order."""

from collections.abc import Callable

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from ..batching.batches import collate, length_batches, record_logits
from ..batching.window_table import WindowTable
from ..processes import is_sharded


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    table: WindowTable,
    state: PartialState,
    *,
    budget: int,
    n_outputs: int,
    on_progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Record logits, float32 (N, outputs), computed by all processes together; the model's mode is left unchanged.

    :param state: number and device of this process; `PartialState()` outside training.
    :param budget: maximum of padded tokens in a batch; twice that of training fits, as no gradients are kept.
    :param on_progress: called after each batch with the number of records that this process has finished.
    """
    was_training = model.training
    model.eval()
    logits = np.zeros((len(table), n_outputs), dtype=np.float32)
    batches = length_batches(table, budget=budget)
    sharded = is_sharded(model)
    rank, world = state.process_index, state.num_processes
    parts: list[tuple[tuple[int, ...], np.ndarray]] = []
    done = 0
    for first in range(0, len(batches), world):
        # A process without a batch computes the first one again: all processes must take part in gathering sharded weights.
        records = batches[first + rank] if first + rank < len(batches) else batches[0]
        batch = collate(table, records, one_group=sharded).to(state.device)
        values = record_logits(model, batch).float().cpu().numpy()
        if first + rank < len(batches):
            parts.append((batch.records, values))
            done += len(batch.records)
        if on_progress is not None:
            on_progress(done)
    for rows, values in gather_object(parts):
        logits[list(rows)] = values
    model.train(was_training)
    return logits
