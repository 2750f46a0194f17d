"""Evaluate a finished run on labelled records: a table, figures as JSON, and an HTML report."""

import argparse
from pathlib import Path

from ...core.arguments import count
from ...core.files import write_json
from ..batching.dataset import check_positives
from ..evaluation.evaluate import evaluate
from ..report.report import RunReport, write_report
from ..report.table import format_table
from ..run import environment, load_run
from .options import add_labelled_files, add_strict, predict, quiet_libraries, read_labelled

EPILOG = """examples:
  merchantguard evaluate runs/mine records.jsonl
  merchantguard evaluate runs/mine a.jsonl b.csv --out evaluation/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard evaluate`."""
    parser.add_argument("run", type=Path, help="a finished run's folder")
    add_labelled_files(parser)
    parser.add_argument(
        "--out", type=Path, help="folder for metrics.json, predictions.parquet and report.html"
    )
    parser.add_argument("--bootstrap", type=count, default=1000, help="resamples for the intervals (1000)")
    add_strict(parser)


def main(args: argparse.Namespace) -> int:
    """Evaluate as asked; the table goes to standard output."""
    quiet_libraries()
    run = load_run(args.run)
    read = read_labelled(args, run.taxonomy)
    check_positives(", ".join(map(str, args.data)), read.records, run.taxonomy)
    predictions = predict(run, read.records)
    evaluation = evaluate(predictions, run.rule, run.taxonomy, bootstrap=args.bootstrap)
    print(format_table(evaluation))
    if args.out is None:
        return 0
    write_json(args.out / "metrics.json", evaluation.to_json())
    predictions.save(args.out / "predictions.parquet")
    report = RunReport(
        title=f"{run.name} on {', '.join(path.name for path in args.data)}",
        evaluation=evaluation,
        predictions=predictions,
        rule=run.rule,
        taxonomy=run.taxonomy,
        settings=run.settings.model_dump(mode="json"),
        environment=environment().to_json(),
        data=read.files,
    )
    write_report(args.out / "report.html", report)
    print(f"report: {args.out / 'report.html'}")
    return 0
