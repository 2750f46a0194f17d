"""Write the scanned records with the labels that reviewers decided, and where each change comes from."""

import argparse
import sys
from pathlib import Path

from ...core.arguments import positive_count
from ..apply.apply import CHANGES, apply_audit

EPILOG = """examples:
  label-audit apply audit/ --out corrected/
  label-audit apply audit/ --out corrected/ --min-reviewers 2
  label-audit apply audit/ --out corrected/ --data /new/place/records.jsonl

Only rows with a changed label are written anew; each says in its field `audit` who changed what, when and why, and
changes.jsonl has one line for each changed cell. `label-audit revert corrected/ --out data/` gives back the old bytes.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit apply`."""
    parser.add_argument("audit", type=Path, metavar="AUDIT", help="the audit's folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the corrected files")
    parser.add_argument(
        "--min-reviewers",
        type=positive_count,
        default=1,
        metavar="N",
        help="people who must have judged a cell (1)",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="FILE", help="scanned files that have moved"
    )


def main(args: argparse.Namespace) -> int:
    """Apply as asked; the paths of the data files go to standard output."""
    applied = apply_audit(args.audit, args.out, min_reviewers=args.min_reviewers, data=args.data)
    print(
        f"{applied.cells:,} cells of {applied.records:,} records changed; see {args.out / CHANGES}",
        file=sys.stderr,
    )
    for path in applied.files:
        print(path)
    return 0
