"""The training and test records of `quality.py`: the shipped corpus, real text, and out-of-distribution merchants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark_data import load_benchmarks, load_sources, split_by_group, subsample

from merchantguard.core.errors import RecordError
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.splitting.splits import make_splits
from merchantguard.data.taxonomy import Taxonomy
from merchantguard.train.settings import DataSettings

# The default settings' fractions, so that figures here and those of a quickstart are of the same records.
CORPUS_FRACTIONS = DataSettings().fractions
REAL_FRACTIONS = {"train": 0.75, "validation": 0.1, "calibration": 0.15}
KINDS_OF_VIOLATION = ("plain", "subtle", "multi")


@dataclass(frozen=True, slots=True)
class TestSet:
    """Records to test on.

    :param distribution: "in" if records of the same origin are trained on, else "out".
    :param kind: positives of other kinds than this are left out; None for no restriction.
    """

    records: Sequence[Record]
    distribution: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class QualityData:
    """Three disjoint sets for fitting, and the test sets by name."""

    train: list[Record]
    validation: list[Record]
    calibration: list[Record]
    tests: dict[str, TestSet]


def load_quality_data(
    taxonomy: Taxonomy,
    *,
    corpus: Sequence[Path],
    benchmarks: Path | None,
    merchants: Path | None,
    train_on_real: bool,
    limit: int,
    split_seed: int,
    tell: Callable[[str], None],
) -> QualityData:
    """Read everything and divide it.

    :param corpus: files of the corpus; it is split by merchant.
    :param benchmarks: folder of the benchmark folders.
    :param merchants: folder of JSONL files used only for testing.
    :param train_on_real: whether to train on the benchmarks' train files too, cut to about `limit` records.
    :param tell: called with a message for each folder that is missing.
    :raises RecordError: if a file of the corpus or of `merchants` has a bad row.
    """
    records = _read(corpus, taxonomy)
    manifest = make_splits(records, taxonomy, fractions=CORPUS_FRACTIONS, seed=split_seed)
    by_id = {record.id: record for record in records}
    parts = {name: [by_id[key] for key in ids] for name, ids in manifest.ids.items()}
    tests = {"corpus test": TestSet(parts["test"], "in")}
    if merchants is not None:
        tests |= _merchant_sets(merchants, taxonomy)
    if benchmarks is not None:
        sources = load_sources(taxonomy)
        if train_on_real:
            trained = [source for source in sources.values() if source.trains]
            loaded = load_benchmarks(benchmarks, "train", taxonomy, sources=trained, on_missing=tell)
            pool = [record for rows in loaded.values() for record in rows]
            chosen = subsample(pool, limit=limit, seed=split_seed)
            for name, rows in split_by_group(chosen, REAL_FRACTIONS, seed=split_seed).items():
                parts[name] = parts[name] + rows
        loaded = load_benchmarks(benchmarks, "test", taxonomy, sources=sources.values(), on_missing=tell)
        for folder, rows in loaded.items():
            seen = train_on_real and not sources[folder].out_of_distribution
            tests[folder] = TestSet(rows, "in" if seen else "out")
    return QualityData(parts["train"], parts["validation"], parts["calibration"], tests)


def load_corpus_data(taxonomy: Taxonomy, *, merchants: Path) -> QualityData:
    """The shipped corpus alone, with the splits of a quickstart, and the merchants as a test set.

    :raises RecordError: if a file has a bad row.
    """
    return load_quality_data(
        taxonomy,
        corpus=corpus_paths(),
        benchmarks=None,
        merchants=merchants,
        train_on_real=False,
        limit=0,
        split_seed=0,
        tell=print,
    )


def _merchant_sets(folder: Path, taxonomy: Taxonomy) -> dict[str, TestSet]:
    records = _read(sorted(folder.glob("*.jsonl")), taxonomy)
    sets = {folder.name: TestSet(records, "out")}
    kinds = {str(record.extra.get("kind")) for record in records}
    return sets | {
        f"{folder.name}: {kind}": TestSet(records, "out", kind)
        for kind in KINDS_OF_VIOLATION
        if kind in kinds
    }


def _read(paths: Sequence[Path], taxonomy: Taxonomy) -> list[Record]:
    if not paths:
        raise RecordError("no record file was given, or the folder holds no *.jsonl")
    return read_records(paths, taxonomy, strict=True).records


def is_near_miss(record: Record) -> bool:
    """Whether the record was marked as sounding like a violation without being one."""
    return bool(record.extra.get("near_miss")) or record.extra.get("kind") == "hard_negative"
