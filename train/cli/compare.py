"""Compare two finished runs on the same labelled records: which figures differ, how surely, and which records changed."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...core.arguments import positive_count
from ...core.errors import RunError
from ...core.files import read_json, write_json
from ...data.records.record import Record
from ..batching.dataset import check_positives
from ..evaluation.compare import ComparedModel, compare
from ..report.compare_report import format_comparison, write_comparison
from ..run import SPLIT_MANIFEST, LoadedRun, load_run
from .options import add_labelled_files, add_strict, predict, quiet_libraries, read_labelled

EPILOG = """examples:
  merchantguard compare runs/before runs/after records.jsonl
  merchantguard compare runs/before runs/after records.jsonl --out comparison/

Records that either run was trained, validated or calibrated on (by the ids in its splits.json) are left out. To compare
on the test records of both runs, give the file that both were trained from.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard compare`."""
    parser.add_argument("first", type=Path, metavar="RUN_A", help="a finished run's folder")
    parser.add_argument(
        "second", type=Path, metavar="RUN_B", help="the folder of another run with the same policies"
    )
    add_labelled_files(parser)
    parser.add_argument("--out", type=Path, help="folder for comparison.json and comparison.html")
    parser.add_argument(
        "--bootstrap", type=positive_count, default=1000, help="resamples for the intervals (1000)"
    )
    parser.add_argument("--all", action="store_true", help="keep the records that a run was fitted on")
    add_strict(parser)


def seen_ids(run: LoadedRun) -> set[str]:
    """Ids of the records that the run was trained, validated or calibrated on; empty without a split manifest."""
    path = run.path / SPLIT_MANIFEST
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
            f"all {len(records)} records were used in training, validation or calibration by one of the runs; give "
            "other records, or --all to compare on these"
        )
    if len(kept) < len(records):
        print(
            f"{len(records) - len(kept)} records that a run was fitted on are left out (--all keeps them)",
            file=sys.stderr,
        )
    return kept


def _check_policies(first: LoadedRun, second: LoadedRun) -> None:
    if first.taxonomy.ids != second.taxonomy.ids:
        odd = sorted(set(first.taxonomy.ids) ^ set(second.taxonomy.ids)) or ["the same in another order"]
        raise RunError(
            f"{first.path} and {second.path} differ in their policies ({', '.join(odd)}); compare runs of one taxonomy"
        )


def _distinct_names(
    first: ComparedModel, second: ComparedModel, args: argparse.Namespace
) -> tuple[ComparedModel, ComparedModel]:
    """Runs of one configuration share its name: their folders then name them."""
    if first.name != second.name:
        return first, second
    return replace(first, name=str(args.first)), replace(second, name=str(args.second))


def main(args: argparse.Namespace) -> int:
    """Compare as asked; the tables go to standard output."""
    quiet_libraries()
    runs = [load_run(args.first), load_run(args.second)]
    _check_policies(*runs)
    taxonomy = runs[0].taxonomy
    read = read_labelled(args, taxonomy)
    records = read.records if args.all else _unseen(read.records, runs)
    check_positives(", ".join(map(str, args.data)), records, taxonomy)
    pair = [ComparedModel(run.name, predict(run, records), run.rule) for run in runs]
    first, second = _distinct_names(pair[0], pair[1], args)
    comparison = compare(first, second, taxonomy, bootstrap=args.bootstrap)
    print(format_comparison(comparison))
    if args.out is not None:
        write_json(args.out / "comparison.json", {**comparison.to_json(), "data": read.files})
        write_comparison(args.out / "comparison.html", comparison, taxonomy)
        print(f"report: {args.out / 'comparison.html'}")
    return 0
