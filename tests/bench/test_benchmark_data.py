"""The table of sources says what a folder can speak of; loading and sub-sampling keep to it."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import benchmark_data
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import RecordError, TaxonomyError
from merchantguard.data.records.record import label_matrix
from merchantguard.data.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
SOURCES = benchmark_data.load_sources(TAXONOMY)


def _row(number: int, labels: list[str], **fields: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "text": f"text {number}", "labels": labels, "group": f"g{number}", **fields}


def _write(root: Path, folder: str, rows: list[dict[str, Any]], part: str = "train") -> None:
    (root / folder).mkdir()
    with gzip.open(root / folder / f"{part}.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


def test_shipped_table_keeps_training_and_out_of_distribution_apart() -> None:
    trained = {name for name, source in SOURCES.items() if source.trains}
    assert trained == {
        "agora_listings",
        "agora_storefronts",
        "retail_listings",
        "retail_storefronts",
        "crunchbase_companies",
    }
    assert not any(SOURCES[name].out_of_distribution for name in trained)
    assert all(source.why for source in SOURCES.values())


def test_faults_of_the_table_are_shown_together(tmp_path: Path) -> None:
    entry = {"trains": True, "distribution": "out", "labelled": ["no_such"], "compliant": "some", "why": "x"}
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"one": entry, "two": {"trains": True}}), encoding="utf-8")
    with pytest.raises(TaxonomyError) as caught:
        benchmark_data.load_sources(TAXONOMY, path)
    for fault in ("no_such", "'some'", "out of distribution", "two: needs"):
        assert fault in str(caught.value)


def test_a_market_row_is_known_only_where_the_market_has_a_category() -> None:
    source = SOURCES["hansa_listings"]
    record = benchmark_data.read_row(_row(1, ["cannabis"]), source, TAXONOMY, row_number=1)
    labels = label_matrix([record], TAXONOMY)
    assert {policy for policy, seen in zip(TAXONOMY.ids, labels.mask[0], strict=True) if seen} == set(
        source.labelled
    )
    assert labels.values.sum() == 1
    assert record.domain == "g1"
    assert record.extra["source"] == "hansa_listings"


def test_a_compliant_row_is_known_everywhere_and_a_stray_label_stays_known() -> None:
    source = SOURCES["onion_and_ebay_sites"]
    compliant = benchmark_data.read_row(_row(1, []), source, TAXONOMY, row_number=1)
    stray = benchmark_data.read_row(_row(2, ["weapons"]), source, TAXONOMY, row_number=2)
    known = label_matrix([compliant, stray], TAXONOMY).mask
    assert known[0].all()
    assert known[1].sum() == len(source.labelled) + 1
    assert known[1, TAXONOMY.index("weapons")]


def test_a_compliant_row_where_none_can_be_is_refused() -> None:
    with pytest.raises(RecordError, match="agora_listings, row 7"):
        benchmark_data.read_row(_row(1, []), SOURCES["agora_listings"], TAXONOMY, row_number=7)


def test_an_absent_folder_is_named_and_left_out(tmp_path: Path) -> None:
    _write(tmp_path, "hansa_listings", [_row(1, ["piracy"])])
    notices: list[str] = []
    loaded = benchmark_data.load_benchmarks(
        tmp_path, "train", TAXONOMY, sources=SOURCES.values(), on_missing=notices.append
    )
    assert list(loaded) == ["hansa_listings"]
    assert len(notices) == len(SOURCES) - 1
    assert any("native_ads_2020 is left out" in notice for notice in notices)


def _pool(sizes: dict[str, int], compliant: dict[str, int], near_misses: int) -> list[Any]:
    source = SOURCES["crunchbase_companies"]
    rows = [([policy], {}) for policy, size in sizes.items() for _ in range(size)]
    rows += [([], {"source": name}) for name, size in compliant.items() for _ in range(size)]
    rows += [([], {"near_miss": True}) for _ in range(near_misses)]
    records = []
    for number, (labels, extra) in enumerate(rows):
        record = benchmark_data.read_row(_row(number, labels, **extra), source, TAXONOMY, row_number=number)
        record.extra.update(extra)
        records.append(record)
    return records


@settings(max_examples=30, deadline=None)
@given(
    common=st.integers(0, 120),
    rare=st.integers(0, 10),
    titles=st.integers(0, 150),
    near=st.integers(0, 10),
    limit=st.integers(60, 150),
    seed=st.integers(0, 3),
)
def test_subsample_keeps_what_is_rare_and_caps_what_is_common(
    common: int, rare: int, titles: int, near: int, limit: int, seed: int
) -> None:
    pool = _pool({"alcohol": common, "crypto": rare}, {"shops": titles, "firms": titles // 3}, near)
    chosen = benchmark_data.subsample(pool, limit=limit, rare=10, seed=seed)
    again = benchmark_data.subsample(pool, limit=limit, rare=10, seed=seed)
    ids = [record.id for record in chosen]
    assert ids == [record.id for record in again]
    assert ids == [record.id for record in pool if record.id in set(ids)]
    counts = Counter(label for record in chosen for label in record.labels)
    assert counts["crypto"] == rare
    assert sum(bool(record.extra.get("near_miss")) for record in chosen) == near
    assert len(chosen) == min(limit - round(limit / 2), common + rare) + min(
        round(limit / 2), titles + titles // 3 + near
    )


def test_subsample_shares_the_compliant_quota_over_sources() -> None:
    pool = _pool({"alcohol": 50}, {"shops": 500, "firms": 40}, 0)
    chosen = benchmark_data.subsample(pool, limit=100, rare=1)
    sources = Counter(record.extra["source"] for record in chosen if not record.labels)
    assert sources == {"shops": 25, "firms": 25}


def test_split_keeps_a_group_together_and_comes_near_the_fractions() -> None:
    source = SOURCES["crunchbase_companies"]
    records = [
        benchmark_data.read_row(
            {**_row(n, ["alcohol"]), "group": f"g{n // 3}"}, source, TAXONOMY, row_number=n
        )
        for n in range(3000)
    ]
    parts = benchmark_data.split_by_group(
        records, {"train": 0.7, "validation": 0.1, "calibration": 0.2}, seed=1
    )
    domains = {name: {record.domain for record in part} for name, part in parts.items()}
    assert sum(len(part) for part in parts.values()) == len(records)
    assert not domains["train"] & (domains["validation"] | domains["calibration"])
    assert abs(len(parts["train"]) / len(records) - 0.7) < 0.04


def test_split_fractions_must_add_up() -> None:
    with pytest.raises(ValueError, match="add up"):
        benchmark_data.split_by_group([], {"train": 0.5}, seed=0)
