"""Write items as tasks for Label Studio, Argilla or a spreadsheet, so that a team can review them there."""

import argparse
import sys
from pathlib import Path

from ...core.arguments import positive_count
from ...core.errors import AuditError
from ...core.files import atomic_folder
from ..exchange import answer_table, argilla, label_studio
from ..exchange.tasks import tasks
from ..storage import open_audit
from ..storage.items import SUSPECTS
from .options import add_audit

FORMATS = {"label-studio": label_studio, "argilla": argilla, "csv": answer_table}
EPILOG = """examples:
  label-audit export audit/ --to label-studio --out tasks/ --limit 500
  label-audit export audit/ --to argilla --out tasks/
  label-audit export audit/ --to csv --out tasks/ --cause contradicting_duplicates

Label Studio: create a project with config.xml, import tasks.json, export as JSON. Argilla: `rg.Dataset.from_disk("tasks/")`, later
`dataset.to_disk("answers/")`. Then `label-audit import audit/ FILE`. The label in the data is left out, so that it
influences nobody; --show-given adds it as a pre-annotation.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit export`."""
    add_audit(parser)
    parser.add_argument("--to", choices=list(FORMATS), required=True, help="the tool")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the tasks")
    parser.add_argument("--limit", type=positive_count, metavar="N", help="write at most N tasks")
    parser.add_argument(
        "--cause",
        action="append",
        choices=list(SUSPECTS),
        default=[],
        help="only this queue (may be repeated)",
    )
    parser.add_argument("--show-given", action="store_true", help="show the label in the data")
    parser.add_argument(
        "--seed", type=int, default=0, help="draws controls, gold items and the order (default: 0)"
    )


def main(args: argparse.Namespace) -> int:
    """Export as asked; the folder goes to standard output."""
    if args.out.exists():
        raise AuditError(f"{args.out}: already exists; give a new folder")
    with open_audit(args.audit) as (scan, journal):
        chosen = tasks(scan, journal.answers(), limit=args.limit, causes=args.cause, seed=args.seed)
    if not chosen:
        raise AuditError(f"{args.audit}: no item is left to decide")
    with atomic_folder(args.out) as folder:
        FORMATS[args.to].write(folder, chosen, show_given=args.show_given)
    print(f"{len(chosen):,} tasks for {args.to}", file=sys.stderr)
    print(args.out)
    return 0
