import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.core.errors import RunError, StorageError
from merchantguard.core.labels import LabelMatrix
from merchantguard.train.evaluation.predictions import Predictions


def arguments(records: int = 4, policies: int = 3, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(records, policies)).astype(np.float32)
    values = (generator.random((records, policies)) < 0.5).astype(np.float32)
    return {
        "ids": tuple(f"r{row}" for row in range(records)),
        "logits": logits,
        "labels": LabelMatrix(values, generator.random((records, policies)) < 0.8),
        "domains": tuple(f"shop{row}.example" for row in range(records)),
        "slices": {"form": ("listing",) * records, "country": ("GB", "") * (records // 2)},
        "texts": tuple(f"text {row} é 漢\x00" for row in range(records)),
    }


def assert_equal(first: Predictions, second: Predictions) -> None:
    for name in ("ids", "domains", "texts"):
        assert getattr(first, name) == getattr(second, name)
    assert dict(first.slices) == dict(second.slices)
    assert first.logits.dtype == second.logits.dtype
    np.testing.assert_array_equal(first.logits, second.logits)
    np.testing.assert_array_equal(first.labels.values, second.labels.values)
    np.testing.assert_array_equal(first.labels.mask, second.labels.mask)


@pytest.mark.parametrize("records", [0, 1, 4])
def test_a_saved_table_comes_back_the_same(tmp_path: Path, records: int) -> None:
    given_arguments = arguments(records)
    given_arguments["slices"] = {"form": ("listing",) * records}
    predictions = Predictions(**given_arguments)
    predictions.save(tmp_path / "p.parquet")
    assert_equal(Predictions.load(tmp_path / "p.parquet"), predictions)
    assert os.listdir(tmp_path) == ["p.parquet"]


@given(text=st.text(st.characters(), max_size=50))
def test_any_text_can_be_saved(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "p.parquet"
    predictions = Predictions(**arguments() | {"texts": (text, "\ud800", "\u202e", "")})
    predictions.save(path)
    texts = Predictions.load(path).texts
    assert texts[0] == text.encode("utf-8", "replace").decode()
    assert texts[1:] == ("?", "\u202e", "")


def test_select_takes_integers_in_their_order_and_masks() -> None:
    predictions = Predictions(**arguments())
    chosen = predictions.select([2, 0])
    assert chosen.ids == ("r2", "r0")
    assert chosen.slices["country"] == ("GB", "GB")
    np.testing.assert_array_equal(chosen.logits, predictions.logits[[2, 0]])
    assert_equal(predictions.select([True, False, True, False]), predictions.select(np.array([0, 2])))
    assert len(predictions.select([])) == 0
    assert predictions.select([]).policies == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": LabelMatrix(np.zeros((4, 2)), np.ones((4, 2)))},
            r"labels have shape \(4, 2\), logits \(4, 3\)",
        ),
        ({"logits": np.zeros(4)}, "logits must be"),
        ({"ids": ("a",)}, "ids has 1 entries, logits have 4 rows"),
        ({"slices": {"form": ("a",)}}, r"slices\['form'\] has 1 entries"),
        ({"logits": np.full((4, 3), np.nan)}, "record 'r0' .* not finite"),
        ({"labels": LabelMatrix(np.full((4, 3), 0.5), np.ones((4, 3)))}, "labels must be 0 or 1"),
        ({"domains": ("a", "", "b", "c")}, "record 'r1' .* empty domain"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictions(**arguments() | change)


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    with pytest.raises(RunError, match=r"p\.parquet"):
        Predictions.load(path)
    Predictions(**arguments()).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"p\.parquet: not readable as Parquet"):
        Predictions.load(path)


def test_a_table_of_something_else_names_what_is_missing(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(RunError, match="columns missing: domain, slices"):
        Predictions.load(tmp_path / "other.parquet")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "p.parquet"
    predictions = Predictions(**arguments())
    predictions.save(path)

    def fail(table: Any, where: Path) -> None:
        Path(where).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(StorageError, match="no space left"):
        predictions.save(path)
    assert os.listdir(tmp_path) == ["p.parquet"]
    assert_equal(Predictions.load(path), predictions)
