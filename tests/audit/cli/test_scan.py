"""`label-audit scan` from end to end: a tiny model that is really trained, real files, damaged and missing ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from merchantguard.audit.storage.store import Scan
from merchantguard.audit_cli import main as command
from merchantguard.data.records.readers import write_records

WriteRecords = Callable[..., Path]
FLIPPED = [f"r{number}" for number in range(0, 60, 12)]


@pytest.fixture(scope="module")
def tiny(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: WriteRecords,
) -> tuple[Path, Path]:
    """Records of which five lost or gained "crimson", one is unknown in part and one has a near-duplicate; and settings."""
    folder = tmp_path_factory.mktemp("scan")
    rows = [
        json.loads(line)
        for line in write_tiny_records(folder / "clean.jsonl", count=120).read_text().splitlines()
    ]
    for row in rows:
        if row["id"] in FLIPPED:
            row["labels"] = sorted({*row["labels"]} ^ {"crimson"})
    rows[1] |= {"labels": [], "unknown": ["walrus"]}
    rows.append({**rows[5], "id": "copy", "labels": sorted({*rows[5]["labels"]} ^ {"walrus"})})
    data = folder / "records.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not a row\n")
    config = folder / "tiny.yaml"
    config.write_text(
        f"""
name: tiny
model: {{base: {tiny_base}, window_tokens: 24, stride_tokens: 6, ngram_buckets: 256, token_pooling: softmax, gate: true}}
lora: {{rank: 4}}
optim: {{epochs: 4, learning_rate: 0.01, batch_records: 4, batch_tokens: 256}}
loop: {{threads: 1}}
data: {{taxonomy: {taxonomy_file}, train: 0.7, validation: 0.1, calibration: 0.1, test: 0.1}}
"""
    )
    return data, config


def _scan(data: Path, config: Path, out: Path, *more: str) -> int:
    return command(["scan", str(data), "--config", str(config), "--out", str(out), *more])


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny: tuple[Path, Path]) -> Path:
    out = tmp_path_factory.mktemp("scanned") / "audit"
    assert _scan(*tiny, out, "--folds", "3") == 0
    return out


def test_wrong_labels_lead_the_queue(scanned: Path) -> None:
    items = [item for _, item in Scan(scanned).items()]
    head = [item for item in items if item.policy == "crimson" and item.cause != "control"][
        : 3 * len(FLIPPED)
    ]
    found = {item.record for item in head} & set(FLIPPED)
    assert len(found) >= 4
    assert all(item.reasons and 0 <= item.p_label_error <= 1 for item in items)
    assert {reason.name for reason in head[0].reasons} >= {"model", "neighbours", "training", "cleanlab"}


def test_near_duplicates_with_two_labels_are_set_side_by_side(scanned: Path) -> None:
    pairs = [
        {item.record, item.other_record}
        for _, item in Scan(scanned).items()
        if item.cause == "contradicting_duplicates" and item.policy == "walrus"
    ]
    assert {"r5", "copy"} in pairs


def test_what_nobody_judged_is_no_item(scanned: Path) -> None:
    scan = Scan(scanned)
    assert not [item for _, item in scan.items() if (item.record, item.policy) == ("r1", "walrus")]
    assert scan.summary.labelled_cells == 121 * 2 - 1
    assert scan.summary.rejected == 1


def test_folds_keep_domains_together_and_predict_every_record_once(scanned: Path) -> None:
    tables = [parquet.read_table(path) for path in sorted((scanned / "folds").glob("*.parquet"))]
    assert len(tables) == 3
    ids = tables[0]["id"].to_pylist()
    held = np.array([[row is not None for row in table["logits"].to_pylist()] for table in tables])
    assert (held.sum(axis=0) == 1).all()
    trained = np.array([[row is not None for row in table["margins"].to_pylist()] for table in tables])
    assert not (held & trained).any()
    assert trained.any(axis=0).mean() > 0.9  # the others chose the best step, in every fold that they were in
    scan = Scan(scanned)
    fold_of: dict[str, int] = {}
    for record_id, fold in zip(ids, held.argmax(axis=0).tolist(), strict=True):
        domain = scan.record(record_id).fields["domain"]
        assert fold_of.setdefault(domain, fold) == fold


def test_a_scan_that_stopped_goes_on_after_its_folds(
    scanned: Path, tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit"
    shutil.copytree(scanned / "folds", out / "folds")
    (out / "folds" / "fold-2.parquet").unlink()
    (out / "folds" / "fold-2").mkdir()
    assert _scan(*tiny, out, "--folds", "3") == 2
    assert "--resume" in capsys.readouterr().err
    assert _scan(*tiny, out, "--folds", "3", "--resume") == 0
    log = capsys.readouterr().err
    assert "fold 1 of 3: already finished" in log
    assert "fold 3 of 3: already finished" not in log
    assert list(Scan(out).items()) == list(Scan(scanned).items())


def test_folds_of_other_settings_are_trained_again(
    scanned: Path, tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit"
    shutil.copytree(scanned / "folds", out / "folds")
    assert _scan(*tiny, out, "--folds", "3", "--resume", "optim.epochs=1", "optim.learning_rate=0.001") == 0
    assert "already finished" not in capsys.readouterr().err


def _probabilities(scanned: Path, **changes: Any) -> list[dict[str, Any]]:
    """A row per record of the scan, 0.5 for each policy; `changes` go into the third row."""
    rows = [{"id": record.id, "crimson": 0.5, "walrus": 0.5} for record in Scan(scanned).records()]
    rows[2] |= changes
    return rows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crimson": 1.5}, r"row 3: crimson is 1.5"),
        ({"crimson": "high"}, r"row 3: crimson is 'high'"),
        ({"crimson": None}, r"row 3: has no value for the policy 'crimson'"),
        ({"crimson": True}, r"row 3: crimson is True"),
        ({"id": "r0"}, r"row 3: id 'r0' is already in row 1"),
        ({"id": None}, r"row 3: has no `id`"),
        ({"id": "other"}, r"has no row for 1 of 121 records, 'r2' first"),
    ],
)
def test_probabilities_that_cannot_be_used_are_named(
    scanned: Path,
    tiny: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in _probabilities(scanned, **changes)))
    assert _scan(*tiny, tmp_path / "audit", "--probabilities", str(path)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "audit" / "scan.db").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_probabilities_from_a_file_replace_training(
    scanned: Path, tiny: tuple[Path, Path], tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _probabilities(scanned, crimson=0.125)
    path = tmp_path / f"p{suffix}"
    write_records(rows, path)
    out = tmp_path / "audit"
    assert _scan(*tiny, out, "--probabilities", str(path), "--controls", "30") == 0
    assert "label-audit review" in capsys.readouterr().out
    outputs = {(item.record, item.policy): item.model_probability for _, item in Scan(out).items()}
    assert outputs.get(("r2", "crimson"), 0.125) == 0.125
    assert not (out / "folds").exists()


def test_records_without_labels_cannot_be_scanned(
    tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "bare.jsonl"
    data.write_text("".join(f'{{"id": "{n}", "text": "word {n}", "labels": []}}\n' for n in range(9)))
    assert _scan(data, tiny[1], tmp_path / "audit") == 2
    assert "has a label" in capsys.readouterr().err


def test_a_quick_scan_finds_wrong_labels_without_training_an_encoder(
    tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit"
    assert _scan(*tiny, out, "--quick", "--folds", "3") == 0
    items = [item for _, item in Scan(out).items() if item.policy == "crimson" and item.cause != "control"]
    assert len({item.record for item in items[: 3 * len(FLIPPED)]} & set(FLIPPED)) >= 4
    assert not list((out / "folds").glob("fold-*"))
    assert {reason.name for reason in items[0].reasons} >= {"model", "neighbours", "training"}
    assert _scan(*tiny, tmp_path / "other", "--quick", "--probabilities", "p.jsonl") == 2
    assert "exclude each other" in capsys.readouterr().err
