"""Evaluate a finished run on labelled records: a table, figures as JSON, and an HTML report."""

import argparse
import tempfile
from pathlib import Path

from ...core.files import write_json
from ...data.records.readers import read_records
from ..batching.dataset import check_positives
from ..evaluation.evaluate import evaluate, format_table
from ..report.report import write_report
from ..run import environment, load_run, predict_records
from .train import quiet_libraries

EPILOG = """examples:
  merchantguard evaluate runs/mine records.jsonl
  merchantguard evaluate runs/mine a.jsonl b.csv --out evaluation/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard evaluate`."""
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("data", nargs="+", type=Path, help="labelled record files")
    parser.add_argument(
        "--out", type=Path, help="folder for metrics.json, predictions.parquet and report.html"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for the intervals (1000)")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )


def main(args: argparse.Namespace) -> int:
    """Evaluate as asked; the table goes to standard output."""
    quiet_libraries()
    run = load_run(args.run)
    rejects = args.out / "rejects.jsonl" if args.out else None
    read = read_records(args.data, run.taxonomy, strict=args.strict, rejects=rejects)
    check_positives(", ".join(map(str, args.data)), read.records, run.taxonomy)
    with tempfile.TemporaryDirectory() as cache:
        predictions = predict_records(run, read.records, cache=Path(cache) / "windows")
    metrics = evaluate(
        predictions,
        run.calibration,
        run.thresholds,
        run.taxonomy,
        any_review=run.any_review.threshold if run.any_review else 0.0,
        bootstrap=args.bootstrap,
    )
    print(format_table(metrics))
    if args.out is None:
        return 0
    write_json(args.out / "metrics.json", metrics)
    predictions.save(args.out / "predictions.parquet")
    write_report(
        args.out / "report.html",
        metrics=metrics,
        predictions=predictions,
        calibration=run.calibration,
        thresholds=run.thresholds,
        any_review=run.any_review,
        taxonomy=run.taxonomy,
        log=[],
        title=f"{run.name} on {', '.join(path.name for path in args.data)}",
        settings=run.settings.model_dump(mode="json"),
        environment=environment(),
        data=read.files,
    )
    print(f"report: {args.out / 'report.html'}")
    return 0
