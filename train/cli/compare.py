"""Compare two finished runs on the same labelled records: which figures differ, how surely, and which records changed."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...core.errors import RunError
from ...core.files import read_json, write_json
from ...data.records.readers import read_records
from ...data.records.record import Record
from .. import run_files as names
from ..batching.dataset import check_positives
from ..evaluation.compare import Judged, compare
from ..report.compare_report import format_comparison, write_comparison
from ..run import LoadedRun, load_run, predict_records
from .train import quiet_libraries

EPILOG = """examples:
  merchantguard compare runs/before runs/after records.jsonl
  merchantguard compare runs/before runs/after records.jsonl --out comparison/

Records that either run was trained, validated or calibrated on are left out (by their id in the run's splits.json):
compare on the file that both were trained from, and what is left are the records that both hold for tests.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard compare`."""
    parser.add_argument("first", type=Path, metavar="RUN_A", help="a finished run's folder")
    parser.add_argument("second", type=Path, metavar="RUN_B", help="another's, with the same policies")
    parser.add_argument("data", nargs="+", type=Path, help="labelled record files")
    parser.add_argument("--out", type=Path, help="folder for comparison.json and comparison.html")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for the intervals (1000)")
    parser.add_argument("--all", action="store_true", help="keep records that a run has seen before its test")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )


def seen_ids(run: LoadedRun) -> set[str]:
    """Ids of the records that the run was trained, validated or calibrated on; empty without a split manifest."""
    path = run.path / names.SPLITS
    if not path.is_file():
        return set()
    splits = read_json(path)["ids"]
    return {identity for name, ids in splits.items() if name != "test" for identity in ids}


def _unseen(records: Sequence[Record], runs: Sequence[LoadedRun]) -> list[Record]:
    """The records that no run has seen.

    :raises RunError: if none is left.
    """
    seen = set().union(*(seen_ids(run) for run in runs))
    kept = [record for record in records if record.id not in seen]
    if records and not kept:
        raise RunError(
            f"all {len(records)} records were seen by one of the runs in training, validation or calibration; "
            "give others, or --all to compare on these"
        )
    if len(kept) < len(records):
        print(
            f"{len(records) - len(kept)} records that a run has seen before its test are left out (--all keeps them)",
            file=sys.stderr,
        )
    return kept


def _check_policies(first: LoadedRun, second: LoadedRun) -> None:
    if first.taxonomy.ids != second.taxonomy.ids:
        odd = sorted(set(first.taxonomy.ids) ^ set(second.taxonomy.ids)) or ["the same ones in another order"]
        raise RunError(
            f"{first.path} and {second.path} have other policies ({', '.join(odd)}); compare runs of one taxonomy"
        )


def _judged(run: LoadedRun, records: Sequence[Record], folder: Path) -> Judged:
    predictions = predict_records(run, records, cache=folder)
    limit = run.any_review.threshold if run.any_review else 0.0
    return Judged(run.name, predictions, run.calibration, run.thresholds, any_review=limit)


def _named_apart(first: Judged, second: Judged, args: argparse.Namespace) -> tuple[Judged, Judged]:
    """Runs of one configuration share its name; then their folders tell them apart."""
    if first.name != second.name:
        return first, second
    return replace(first, name=str(args.first)), replace(second, name=str(args.second))


def main(args: argparse.Namespace) -> int:
    """Compare as asked; the tables go to standard output."""
    quiet_libraries()
    runs = [load_run(args.first), load_run(args.second)]
    _check_policies(*runs)
    taxonomy = runs[0].taxonomy
    rejects = args.out / "rejects.jsonl" if args.out else None
    read = read_records(args.data, taxonomy, strict=args.strict, rejects=rejects)
    records = read.records if args.all else _unseen(read.records, runs)
    check_positives(", ".join(map(str, args.data)), records, taxonomy)
    with tempfile.TemporaryDirectory() as cache:
        pair = [_judged(run, records, Path(cache) / str(place)) for place, run in enumerate(runs)]
    first, second = _named_apart(pair[0], pair[1], args)
    comparison = compare(first, second, taxonomy, bootstrap=args.bootstrap)
    print(format_comparison(comparison))
    if args.out is not None:
        write_json(args.out / "comparison.json", {**comparison, "data": read.files})
        write_comparison(args.out / "comparison.html", comparison, taxonomy)
        print(f"report: {args.out / 'comparison.html'}")
    return 0
