"""Splits: groups stay together, every record is in one split, the policies are balanced."""

import dataclasses
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.core.errors import SplitError
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record, label_matrix, record_from
from merchantguard.data.records.schema import parse_timestamp
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.splitting.splits import (
    SplitManifest,
    make_splits,
    record_groups,
)
from merchantguard.data.splitting.stratify import assign_groups
from merchantguard.data.taxonomy import Policy, Taxonomy, load_taxonomy

FRACTIONS = {"train": 0.6, "validation": 0.1, "calibration": 0.15, "test": 0.15}
TAXONOMY = Taxonomy(1, tuple(Policy(name, name, "restricted", "x", "") for name in ("tea", "salt", "oil")))


@pytest.fixture(scope="module")
def corpus() -> list[Record]:
    return read_records(corpus_paths(), load_taxonomy()).records


def record(number: int, **fields: object) -> Record:
    text = " ".join(random.Random(number).choices([f"w{n}" for n in range(500)], k=20))
    return record_from({"id": f"r{number:04}", "text": text, "labels": [], **fields}, TAXONOMY)


@st.composite
def record_lists(draw: st.DrawFn) -> list[Record]:
    """Between 12 and 60 records, with shared domains, shared texts, labels and unknown cells."""
    records = []
    for number in range(draw(st.integers(12, 60))):
        labels = draw(st.none() | st.lists(st.sampled_from(TAXONOMY.ids), unique=True, max_size=2))
        domain = draw(st.none() | st.integers(0, 40).map(lambda n: f"d{n}.example"))
        kwargs: dict[str, object] = {"labels": labels, "domain": domain}
        if draw(st.integers(0, 4)) == 0:
            kwargs["text"] = f"the shop number {draw(st.integers(0, 9))} sells what it sells"
        records.append(record(number, **kwargs))
    return records


@settings(max_examples=60, deadline=None)
@given(records=record_lists(), seed=st.integers(0, 2**31), order=st.randoms(use_true_random=False))
def test_groups_stay_together_and_every_record_is_in_one_split(records, seed, order):
    fractions = {"train": 0.7, "test": 0.3}
    try:
        manifest = make_splits(records, TAXONOMY, fractions=fractions, seed=seed)
    except SplitError:
        assert record_groups(records).max() + 1 < 6  # a split can only be empty where there are few groups
        return
    place = {record_id: name for name, ids in manifest.ids.items() for record_id in ids}
    assert sorted(place) == [each.id for each in records]
    assert sum(map(len, manifest.ids.values())) == len(records)
    for key in ("domain", "text"):
        sides: dict[str, set[str]] = {}
        for each in records:
            if (value := getattr(each, key)) is not None:
                sides.setdefault(value, set()).add(place[each.id])
        assert all(len(names) == 1 for names in sides.values())
    order.shuffle(records)
    assert make_splits(records, TAXONOMY, fractions=fractions, seed=seed) == manifest


def test_domains_join_whatever_their_spelling_and_copies_join_domains():
    copied = "we sell fine tea and good salt to all who come to the old harbour"
    records = [
        record(0, domain="a.example"),
        record(1, domain="WWW.A.example."),
        record(2, domain="b.example", text=copied),
        record(3, domain="a.example", text=copied + " now"),
        record(4, domain=" "),
        record(5, domain=" "),
    ]
    assert record_groups(records).tolist() == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_shipped_corpus_is_balanced(corpus, seed):
    taxonomy = load_taxonomy()
    manifest = make_splits(corpus, taxonomy, fractions=FRACTIONS, seed=seed)
    assert manifest == make_splits(corpus, taxonomy, fractions=FRACTIONS, seed=seed)
    total = label_matrix(corpus, taxonomy).values.sum(axis=0)
    for name, records in manifest.select(corpus).items():
        assert abs(len(records) / len(corpus) - FRACTIONS[name]) < 0.02
        labels = label_matrix(records, taxonomy).values
        assert (labels.sum(axis=0) >= 3).all()
        assert np.abs(labels.sum(axis=0) - FRACTIONS[name] * total).max() <= 3.5
        clean = sum(not each.labels for each in corpus)
        assert abs(sum(not each.labels for each in records) - FRACTIONS[name] * clean) <= 2


def test_another_seed_gives_another_split(corpus):
    taxonomy = load_taxonomy()
    first, second = (make_splits(corpus, taxonomy, fractions=FRACTIONS, seed=seed) for seed in (0, 1))
    assert first.ids != second.ids


def test_manifest_survives_json_and_shows_any_change(corpus):
    records = corpus[:100]
    manifest = make_splits(records, load_taxonomy(), fractions=FRACTIONS, seed=0)
    value = manifest.to_json()
    assert SplitManifest.from_json(value) == manifest
    moved = {name: list(ids) for name, ids in manifest.ids.items()}
    moved["train"].append(moved["test"].pop())
    for change in (
        {"ids": moved},
        {"seed": 1},
        {"texts": "0"},
        {"sha256": "0"},
        {"fractions": {"train": 1.0}},
    ):
        with pytest.raises(SplitError, match="was changed"):
            SplitManifest.from_json({**value, **change})
    for damage in ({}, {**value, "ids": None}, {key: value[key] for key in value if key != "sha256"}):
        with pytest.raises(SplitError, match="damaged"):
            SplitManifest.from_json(damage)


def test_manifest_refuses_other_records(corpus):
    records = corpus[:100]
    manifest = make_splits(records, load_taxonomy(), fractions=FRACTIONS, seed=0)
    assert {
        name: [each.id for each in some] for name, some in manifest.select(corpus).items()
    } == manifest.ids
    with pytest.raises(SplitError, match="1 records of the split manifest are not in the data"):
        manifest.select(records[1:])
    with pytest.raises(SplitError, match="texts are not the ones"):
        manifest.select([dataclasses.replace(records[0], text="other"), *records[1:]])


def dated(days: Sequence[int]) -> list[Record]:
    return [
        record(number, collected_at=f"2026-01-{day:02}", domain=f"d{number // 2}.example")
        for number, day in enumerate(days)
    ]


@settings(max_examples=40, deadline=None)
@given(days=st.lists(st.integers(1, 28), min_size=16, max_size=40), seed=st.integers(0, 99))
def test_by_time_tests_on_the_latest(days, seed):
    records = dated(days)
    manifest = make_splits(records, TAXONOMY, fractions={"train": 0.7, "test": 0.3}, seed=seed, by_time=True)
    sides = manifest.select(records)
    latest: dict[str | None, str] = {}
    for each in records:
        latest[each.domain] = max(latest.get(each.domain, ""), str(each.collected_at))
    assert max(latest[each.domain] for each in sides["train"]) <= min(
        latest[each.domain] for each in sides["test"]
    )
    assert abs(len(sides["test"]) - 0.3 * len(records)) <= 2
    assert {each.domain for each in sides["train"]}.isdisjoint(each.domain for each in sides["test"])


def test_timestamps_compare_across_time_zones():
    assert parse_timestamp("2026-01-01T23:00:00-05:00") > parse_timestamp("2026-01-02")
    records = [record(number, collected_at="2026-01-02") for number in range(5)]
    records.append(record(9, collected_at="2026-01-01T23:00:00-05:00"))
    manifest = make_splits(records, TAXONOMY, fractions={"train": 0.8, "test": 0.2}, seed=0, by_time=True)
    assert manifest.ids["test"] == ["r0009"]


def test_by_time_names_records_without_a_date():
    records = [record(number) for number in range(12)]
    with pytest.raises(SplitError, match=r"12 records have no `collected_at` \('r0000', .*\.\.\.\)"):
        make_splits(records, TAXONOMY, fractions={"train": 0.5, "test": 0.5}, seed=0, by_time=True)


@pytest.mark.parametrize(
    ("fractions", "by_time", "expected"),
    [
        ({"train": 0.6, "test": 0.3}, False, "sum to 0.9; make them sum to 1"),
        ({"train": 0.6, "tests": 0.4}, False, "'tests' is not a split"),
        ({"train": 1.0, "test": 0.0}, False, "must lie between 0 and 1"),
        ({"train": 1.5, "test": -0.5}, False, "must lie between 0 and 1"),
        ({"train": float("nan"), "test": 0.5}, False, "must lie between 0 and 1"),
        ({"train": "0.5", "test": 0.5}, False, "must lie between 0 and 1"),
        ({}, False, "at least two splits"),
        ({"train": 0.5, "validation": 0.5}, True, "give `test` a fraction"),
    ],
)
def test_unusable_fractions(fractions, by_time, expected):
    with pytest.raises(SplitError, match=expected):
        make_splits([record(n) for n in range(9)], TAXONOMY, fractions=fractions, seed=0, by_time=by_time)


def test_too_few_groups_and_empty_splits():
    same = [record(number, domain="a.example") for number in range(9)]
    with pytest.raises(SplitError, match=r"9 records make 1 groups.*too few for 4 splits"):
        make_splits(same, TAXONOMY, fractions=FRACTIONS, seed=0)
    with pytest.raises(SplitError, match="too few"):
        make_splits([], TAXONOMY, fractions=FRACTIONS, seed=0)
    few = [record(number, labels=["tea"]) for number in range(5)]
    with pytest.raises(SplitError, match=r"the split 'test' is empty: 5 groups.*raise it, or add merchants"):
        make_splits(few, TAXONOMY, fractions={"train": 0.98, "test": 0.02}, seed=0)


def test_ids_that_repeat():
    with pytest.raises(SplitError, match="two records have the id 'r0001'"):
        make_splits(
            [record(1), record(1), record(2)], TAXONOMY, fractions={"train": 0.5, "test": 0.5}, seed=0
        )


def test_policies_without_positives_do_not_stop_a_split():
    records = [record(number, labels=["tea"] if number % 2 else []) for number in range(20)]
    assert make_splits(records, TAXONOMY, fractions={"train": 0.5, "test": 0.5}, seed=0)


def test_rare_stratum_is_spread_before_common_ones():
    strata = np.zeros((100, 2), dtype=np.int64)
    strata[:4, 0] = 1
    strata[:, 1] = 1
    for seed in range(20):
        splits = assign_groups(np.ones(100), strata, np.full(4, 0.25), seed=seed)
        assert sorted(splits[:4]) == [0, 1, 2, 3]
        assert np.bincount(splits).tolist() == [25, 25, 25, 25]
