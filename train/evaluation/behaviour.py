"""Behaviour tests of a run's own model; `merchantguard.data.behaviour` has the tests and their texts."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from ...data.behaviour import Behaviour, Suite, TextScores, behaviour, load_suite
from ...data.records.record import record_from
from ...data.shipped import SHIPPED
from ..batching.batches import collate, length_batches, record_logits
from ..batching.window_table import WindowTable, build_window_table, window_tokenizer
from ..run import LoadedRun, record_predictions
from .decision_rule import DECISIONS


def check_suite(suite: str | None) -> None:
    """Read the texts before hours of training, not after them.

    :raises RecordError: if the suite cannot be used.
    """
    if suite is not None:
        _load(suite)


def run_behaviour(run: LoadedRun, suite: str) -> Behaviour:
    """Test a run's model and decision rule on the suite in a folder, or on the shipped one.

    :raises RecordError: if the suite cannot be used.
    """
    return behaviour(lambda batch: score_texts(run, batch), run.taxonomy.ids, _load(suite))


def _load(suite: str) -> Suite:
    return load_suite(None if suite == SHIPPED else Path(suite))


def score_texts(run: LoadedRun, texts: Sequence[str]) -> TextScores:
    """Probabilities and decisions of texts, computed by this process alone: the others may have ended."""
    # Labelled for every policy, so that no cell is left out of the decision.
    rows = ({"id": str(number), "text": text, "labels": []} for number, text in enumerate(texts))
    records = [record_from(row, run.taxonomy) for row in rows]
    with tempfile.TemporaryDirectory() as cache:
        tokenizer = window_tokenizer(run.tokenizer_path, run.settings.model)
        table = build_window_table(records, tokenizer, Path(cache) / "windows")
        logits = _logits(run, table)
        predictions = record_predictions(records, run.taxonomy, logits, table.n_windows.tolist())
    decided = run.rule.decide(predictions, run.taxonomy)
    return TextScores(decided.probabilities, [DECISIONS[index] for index in decided.decisions.tolist()])


@torch.no_grad()
def _logits(run: LoadedRun, table: WindowTable) -> np.ndarray:
    """Record logits (N, K) in float32."""
    device = PartialState().device
    model = run.model.to(device).eval()
    logits = np.zeros((len(table), len(run.taxonomy)), dtype=np.float32)
    for rows in length_batches(table, budget=2 * run.settings.optim.batch_tokens):
        batch = collate(table, rows).to(device)
        logits[list(batch.records)] = record_logits(model, batch).float().cpu().numpy()
    return logits
