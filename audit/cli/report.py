"""Report what the answers show: agreement, where the errors are, the yield of each queue, the errors left, the gain of a new model."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.arguments import share
from ...core.errors import AuditError
from ...core.files import write_json
from ..estimation.stopping import StopRule
from ..report.page import page_title, write_audit_page
from ..report.tables import Tables, audit_tables
from ..storage import open_audit
from ..storage.items import Answer
from ..storage.store import Scan
from .options import add_audit, training_settings

if TYPE_CHECKING:
    from ..report.retrain import RetrainComparison

RETRAINING = "retrain"
EPILOG = """examples:
  label-audit report audit/
  label-audit report audit/ --out report.html
  label-audit report audit/ --retrain --seeds 0,1,2,3,4
  label-audit report audit/ --retrain --config configs/mpnet.yaml optim.epochs=3

--retrain trains two models per seed, on the original and on the corrected labels; run again after a stop, it continues. Its
runs and retrain.json are in the audit's folder under retrain/.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit report`."""
    add_audit(parser)
    parser.add_argument("--out", type=Path, help="the HTML file; default: report.html in the audit's folder")
    parser.add_argument(
        "--errors-per-minute", type=float, default=0.1, help="stop when fewer are found (default: 0.1)"
    )
    parser.add_argument(
        "--share-left",
        type=share,
        default=0.005,
        help="stop when at most this share of the cells is wrong (default: 0.005)",
    )
    parser.add_argument(
        "--retrain", action="store_true", help="train on original and corrected labels and compare"
    )
    parser.add_argument("--config", type=Path, help="settings of --retrain; default: configs/minilm.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="group.key=value", help="settings that override the file's"
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds of --retrain (default: 0,1,2)")


def main(args: argparse.Namespace) -> int:
    """Report as asked; the figures in short and the report's path go to standard output."""
    if (args.config or args.overrides) and not args.retrain:
        raise AuditError("settings are for --retrain; add that option, or leave them out")
    seeds = _seeds(args.seeds)
    with open_audit(args.audit) as (scan, journal):
        answers = journal.answers()
        tables = audit_tables(scan, answers, StopRule(args.errors_per_minute, args.share_left))
        retraining = _retrain(args, scan, answers, tables, seeds) if args.retrain else None
        out = args.out or args.audit / "report.html"
        title = page_title(scan.taxonomy, tables.records)
        write_audit_page(out, scan, answers, tables, title=title, retraining=retraining)
    print(tables.estimates.advice)
    if retraining:
        print(retraining.summary)
    print(out)
    return 0


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise AuditError(f"--seeds {text}: give whole numbers such as 0,1,2") from error
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise AuditError(f"--seeds {text}: give different numbers from 0 up")
    return seeds


def _retrain(
    args: argparse.Namespace, scan: Scan, answers: Sequence[Answer], tables: Tables, seeds: list[int]
) -> "RetrainComparison":
    if not tables.changes:
        raise AuditError(f"{args.audit}: no label has changed so far, so there is nothing to compare")
    # torch takes seconds to import: a report without training does not import it.
    from ...train.cli.options import quiet_libraries
    from ..report.retrain import retrain

    quiet_libraries()
    settings = training_settings(args.config, args.overrides)
    folder = args.audit / RETRAINING
    result = retrain(scan, answers, tables.changes, settings, seeds, folder)
    write_json(folder / "retrain.json", result.to_json())
    return result
