"""Weak records: soft targets with weights, in training alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from merchantguard.core.errors import RecordError
from merchantguard.data.records.record import parse_record
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.train.batching.dataset import SplitRecords, load_split_records
from merchantguard.train.batching.split_tables import split_tables, training_blocks
from merchantguard.train.batching.weak import soft_targets, weak_records
from merchantguard.train.batching.window_table import window_tokenizer
from merchantguard.train.fitting.losses import masked_loss
from merchantguard.train.settings import LossSettings, Settings, build_settings


def write_weak(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps({"labels": [], "unknown": ["*"], **row}) + "\n" for row in rows))
    return path


def soft(target: float, weight: float) -> dict[str, dict[str, float]]:
    return {"crimson": {"target": target, "weight": weight}}


@pytest.fixture
def settings(tmp_path: Path, taxonomy_file: Path, write_tiny_records: Any) -> Settings:
    records = write_tiny_records(tmp_path / "records.jsonl")
    weak = write_weak(
        tmp_path / "weak.jsonl",
        [
            {
                "id": "w1",
                "text": "a crimson lantern for everybody",
                "domain": "new.example",
                "weak": soft(0.8, 0.6),
            }
        ],
    )
    data = {"taxonomy": str(taxonomy_file), "records": [str(records)], "weak": [str(weak)], "behaviour": None}
    return build_settings({"data": data, "model": {"window_tokens": 40, "stride_tokens": 8}})


def load(settings: Settings) -> SplitRecords:
    return load_split_records(settings.data, strict=True, rejects=None)


def test_they_stand_in_the_training_table_alone_with_their_targets_and_weights(
    settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    tables = split_tables(load(settings), settings, tiny_base / "tokenizer.json", tmp_path / "run")
    labels = tables["train"].labels
    assert labels.weights is not None
    [row] = np.flatnonzero((labels.weights != 1.0).any(axis=1))
    assert labels.values[row].tolist() == pytest.approx([0.8, 0.0])
    assert labels.mask[row].tolist() == [True, False]
    assert labels.weights[row].tolist() == pytest.approx([0.6, 0.0])
    assert row in {each for group in tables["train"].alternatives for rows in group for each in rows}
    for split in ("validation", "calibration", "test"):
        assert tables[split].labels.weights is None
        assert set(np.unique(tables[split].labels.values)) <= {0.0, 1.0}
    tokenizer = window_tokenizer(tiny_base / "tokenizer.json", settings.model)
    _, blocks = training_blocks(load(settings), settings, [tokenizer], tmp_path / "run", most=1000)
    assert set(np.unique(blocks.values)) <= {0.0, 1.0}


def test_a_domain_or_a_text_that_is_held_out_is_left_out(tmp_path: Path, taxonomy_file: Path) -> None:
    taxonomy = load_taxonomy(taxonomy_file)
    held = [
        parse_record(
            {"id": "h", "text": "Velvet  meadow", "domain": "held.example", "labels": []}, None, row_number=1
        )
    ]
    rows = [
        {"id": "a", "text": "another text", "domain": "held.example", "weak": soft(0.9, 1.0)},
        {"id": "b", "text": "velvet meadow", "domain": "b.example", "weak": soft(0.9, 1.0)},
        {"id": "c", "text": "a third text", "domain": "c.example", "weak": soft(0.9, 1.0)},
    ]
    path = write_weak(tmp_path / "weak.jsonl", rows)
    found = weak_records([str(path)], taxonomy, held, rejects=tmp_path / "rejects.jsonl")
    assert [record.id for record in found] == ["c"]


@pytest.mark.parametrize(
    "weak", [None, {}, {"crimson": {}}, {"crimson": {"target": 2, "weight": 1}}, {"crimson": 1}]
)
def test_a_record_without_usable_targets_is_named(tmp_path: Path, taxonomy_file: Path, weak: Any) -> None:
    record = parse_record({"id": "w1", "text": "a text", "labels": [], "weak": weak}, None, row_number=1)
    with pytest.raises(RecordError, match="w1"):
        soft_targets(record, load_taxonomy(taxonomy_file))


def test_a_missing_file_is_named(settings: Settings) -> None:
    gone = settings.model_copy(update={"data": settings.data.model_copy(update={"weak": ("gone.jsonl",)})})
    with pytest.raises(RecordError, match=r"data\.weak: gone\.jsonl"):
        load(gone)


def test_a_weight_scales_the_loss_of_its_cell() -> None:
    logits, mask = torch.tensor([[1.0, -2.0]]), torch.tensor([[True, True]])
    targets = torch.tensor([[0.7, 0.0]])

    def loss(weights: list[float] | None) -> float:
        factors = None if weights is None else torch.tensor([weights])
        return float(masked_loss(logits, targets, mask, LossSettings(), n_records=1, weights=factors))

    assert loss([1.0, 1.0]) == pytest.approx(loss(None))
    assert loss([0.5, 1.0]) + loss([0.5, 0.0]) == pytest.approx(loss(None))
