"""Training records from Parquet shards: never all in memory, the same steps as from memory, resumed mid-epoch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from merchantguard.cli import main as command
from merchantguard.core.errors import SettingsError
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.data.windows import WindowTokenizer
from merchantguard.train.batching import batches
from merchantguard.train.batching.batches import StepPlan
from merchantguard.train.batching.localize import TrainingText
from merchantguard.train.batching.shards import shard_paths, shard_records
from merchantguard.train.batching.training_table import training_table
from merchantguard.train.fitting.trainer import Trainer


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, write_tiny_records: Callable[..., Path]) -> Path:
    """A folder of three Parquet files of 40 records each, of domains of their own."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(3):
        rows = [
            json.loads(line)
            for line in write_tiny_records(folder / "t.jsonl", count=40, seed=number + 9).open()
        ]
        for row in rows:
            row |= {"id": f"s{number}-{row['id']}", "domain": f"s{number}-{row['domain']}"}
        pq.write_table(pa.Table.from_pylist(rows), folder / f"part-{number}.parquet")
    (folder / "t.jsonl").unlink()
    return folder


def tokenizer_of(base: Path) -> WindowTokenizer:
    return WindowTokenizer.from_file(
        base / "tokenizer.json", window_tokens=24, stride_tokens=6, max_windows=64
    )


def test_a_table_of_shards_is_mapped_and_opened_again_as_it_was(
    shards: Path, tiny_base: Path, taxonomy_file: Path, tmp_path: Path
) -> None:
    taxonomy, tokenizer = load_taxonomy(taxonomy_file), tokenizer_of(tiny_base)
    paths = shard_paths([str(shards)])
    records = read_records(paths, taxonomy, strict=True).records
    assert len(records) == 120
    stream = shard_records(paths, taxonomy, [], rejects=tmp_path / "rejects.jsonl")
    streamed = training_table([], map(TrainingText, stream), taxonomy, tokenizer, tmp_path / "table")
    assert isinstance(streamed.labels.values.base, np.memmap)
    assert streamed.texts is not None
    assert sorted(set(streamed.texts.tolist())) == list(range(120))
    again = training_table([], iter(()), taxonomy, tokenizer, tmp_path / "table")
    np.testing.assert_array_equal(streamed.labels.values, again.labels.values)
    plans = [StepPlan(each.table, budget=256, most=4) for each in (streamed, again)]
    assert list(plans[0].steps(1)) == list(plans[1].steps(1))


def test_records_of_held_out_domains_and_ids_are_left_out(
    shards: Path, taxonomy_file: Path, tmp_path: Path
) -> None:
    taxonomy, paths = load_taxonomy(taxonomy_file), shard_paths([str(shards)])
    records = read_records(paths, taxonomy, strict=True).records
    held: list[Record] = [records[0], records[50]]
    kept = list(shard_records(paths, taxonomy, held, rejects=tmp_path / "r.jsonl"))
    assert not {r.domain for r in kept} & {r.domain for r in held}
    assert len(kept) == sum(r.domain not in {h.domain for h in held} for r in records)


def test_bad_rows_of_shards_are_set_aside(taxonomy_file: Path, tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "crimson", "labels": ["crimson"]},
        {"id": "b", "text": "x", "labels": ["nonesuch"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bad.parquet")
    taxonomy = load_taxonomy(taxonomy_file)
    stream = shard_records([tmp_path / "bad.parquet"], taxonomy, [], rejects=tmp_path / "rejects.jsonl")
    assert [record.id for record in stream] == ["a"]
    assert "nonesuch" in (tmp_path / "rejects.jsonl").read_text()


def test_a_missing_shard_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none-such"):
        shard_paths([str(tmp_path / "none-such")])


def test_long_epochs_are_planned_in_blocks_and_hold_every_record_once(
    shards: Path, tiny_base: Path, taxonomy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taxonomy = load_taxonomy(taxonomy_file)
    stream = shard_records(shard_paths([str(shards)]), taxonomy, [], rejects=tmp_path / "r.jsonl")
    texts = map(TrainingText, stream)
    data = training_table([], texts, taxonomy, tokenizer_of(tiny_base), tmp_path / "t")
    whole = list(StepPlan(data.table, budget=256, most=4).steps(0))
    monkeypatch.setattr(batches, "_BLOCK", 32)
    plan = StepPlan(data.table, budget=256, most=4, per_step=2)
    steps = list(plan.steps(0))
    assert sorted(r for step in steps for batch in step for r in batch) == list(range(len(data.table)))
    assert steps == list(plan.steps(0)) != list(plan.steps(1))
    assert steps != whole


class Killed(Exception):
    """Represents a kill in the middle of an epoch."""


def test_a_run_over_shards_stopped_in_mid_epoch_continues_and_tokenises_nothing_again(
    shards: Path,
    tiny_base: Path,
    taxonomy_file: Path,
    write_tiny_records: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = write_tiny_records(tmp_path / "records.jsonl")
    call: list[Any] = [
        *(
            "train",
            f"model.base={tiny_base}",
            "model.window_tokens=24",
            "model.stride_tokens=6",
            "model.token_pooling=softmax",
            "model.gate=true",
        ),
        *("model.ngram_buckets=64", "optim.epochs=1", "optim.learning_rate=0.01", "optim.batch_records=4"),
        *("loop.trackers=[]", "loop.checkpoint_every=5", f"data.taxonomy={taxonomy_file}"),
        *("data.train=0.4", "data.validation=0.2", "data.calibration=0.2", "data.test=0.2"),
        *(f"data.shards=[{shards}]", f"data.window_cache={tmp_path / 'cache'}", "--data", str(data)),
    ]
    assert command([*call, "--out", str(tmp_path / "whole")]) == 0
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/windows.arrow")}
    step = Trainer.step

    def stopping(self: Trainer, micro_batches: list[list[int]]) -> float:
        if self.progress.step == 12:
            raise Killed
        return step(self, micro_batches)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(Killed):
        command([*call, "--out", str(tmp_path / "stopped")])
    monkeypatch.setattr(Trainer, "step", step)
    assert command([*call, "--out", str(tmp_path / "stopped"), "--resume"]) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").glob("*/windows.arrow")} == cached
    one, two = (json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("whole", "stopped"))
    assert one == two
    steps = json.loads((tmp_path / "whole" / "provenance.json").read_text())["training"]["steps"]
    assert steps >= (120 + 96 * 0.4 * 0.8) / 4  # the shards' records and the split's own
