"""Record logits of a window table, in the table's order."""

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from .batches import collate, length_batches, record_logits
from .windows import WindowTable


@torch.no_grad()
def predict_logits(
    model: nn.Module, table: WindowTable, state: PartialState, *, budget: int, n_outputs: int
) -> np.ndarray:
    """Record logits, float32 (N, outputs), from all processes together; the model is left in the mode it came in.

    :param state: which process this is and on which device; `PartialState()` outside a training.
    :param budget: most padded tokens in a batch; twice that of training fits, as no gradients are kept.
    """
    was_training = model.training
    model.eval()
    logits = np.zeros((len(table), n_outputs), dtype=np.float32)
    batches = length_batches(table, budget=budget)
    mine = batches[state.process_index :: state.num_processes]
    parts: list[tuple[tuple[int, ...], np.ndarray]] = []
    for records in mine:
        batch = collate(table, records).to(state.device)
        parts.append((batch.records, record_logits(model, batch).float().cpu().numpy()))
    for rows, values in gather_object(parts):
        logits[list(rows)] = values
    model.train(was_training)
    return logits
