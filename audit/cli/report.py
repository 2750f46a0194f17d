"""Show what the answers say: agreement, where the errors are, how good the queues are, what is left, what a new model gains."""

import argparse
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from ...core.arguments import share
from ...core.errors import AuditError
from ...core.files import write_json
from ..estimation.stopping import StopRule
from ..report.page import page_title, write_audit_page
from ..report.tables import Tables, audit_tables
from ..storage.journal import Journal
from ..storage.store import Scan

RETRAINING = "retrain"
EPILOG = """examples:
  label-audit report audit/
  label-audit report audit/ --out report.html
  label-audit report audit/ --retrain --seeds 0,1,2,3,4
  label-audit report audit/ --retrain --config configs/mpnet.yaml optim.epochs=3

--retrain trains two models per seed, on the given and on the corrected labels; stopped, it goes on where it was. Its runs and
retrain.json lie in the audit's folder under retrain/.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit report`."""
    parser.add_argument("audit", type=Path, metavar="AUDIT", help="the audit's folder")
    parser.add_argument("--out", type=Path, help="the HTML file; default: report.html in the audit's folder")
    parser.add_argument(
        "--errors-per-minute", type=float, default=0.1, help="stop when fewer are found in a minute (0.1)"
    )
    parser.add_argument(
        "--share-left", type=share, default=0.005, help="stop when surely fewer cells are wrong (0.005)"
    )
    parser.add_argument("--retrain", action="store_true", help="train on given and corrected labels, compare")
    parser.add_argument("--config", type=Path, help="settings of --retrain; default: configs/minilm.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="group.key=value", help="settings that override the file's"
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds of --retrain (0,1,2)")


def main(args: argparse.Namespace) -> int:
    """Report as asked; the figures in short and the report's path go to standard output."""
    if (args.config or args.overrides) and not args.retrain:
        raise AuditError("settings are for --retrain; give that too, or leave them out")
    seeds = _seeds(args.seeds)
    scan, journal = Scan(args.audit), Journal(args.audit)
    try:
        answers = journal.answers()
        tables = audit_tables(scan, answers, StopRule(args.errors_per_minute, args.share_left))
        retraining = _retrain(args, scan, answers, tables, seeds) if args.retrain else None
        out = args.out or args.audit / "report.html"
        title = page_title(scan.taxonomy, tables.records)
        write_audit_page(out, scan, answers, tables, title=title, retraining=retraining)
    finally:
        scan.close()
        journal.close()
    print(tables.estimates.advice)
    if retraining:
        print(retraining["summary"])
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
    args: argparse.Namespace, scan: Scan, answers: Any, tables: Tables, seeds: list[int]
) -> dict[str, Any]:
    if not tables.changes:
        raise AuditError(f"{args.audit}: no label was changed so far, there is nothing to compare")
    # torch takes seconds to import; a report without training does not wait for it.
    from ...train.cli.train import quiet_libraries
    from ...train.settings import load_settings
    from ..report.retrain import retrain

    quiet_libraries()
    with as_file(files("merchantguard").joinpath("configs/minilm.yaml")) as shipped:
        settings = load_settings(args.config or shipped, overrides=list(args.overrides))
    folder = args.audit / RETRAINING
    result = retrain(scan, answers, tables.changes, settings, seeds, folder)
    write_json(folder / "retrain.json", result)
    return result
