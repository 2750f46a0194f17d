"""Write the scanned records with the labels that reviewers decided, and the source of each change."""

import argparse
import sys
from pathlib import Path

from ...core.arguments import positive_count
from ..apply.apply import CHANGES, apply_audit
from .options import add_audit

DEFAULT_REVIEWERS = 2

EPILOG = """examples:
  label-audit apply audit/ --out corrected/
  label-audit apply audit/ --out corrected/ --min-reviewers 1
  label-audit apply audit/ --out corrected/ --data /new/place/records.jsonl

A label changes when two reviewers agree, or one of them and an adjudicator; --min-reviewers 1 counts every answer. Run again, it
replaces only what it wrote itself, and never a file that was edited since.

Only rows with a changed label are rewritten. Their field `audit` says who changed what, when and why, and changes.jsonl has
one line for each changed cell. `label-audit revert corrected/ --out data/` restores the original files byte for byte.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit apply`."""
    add_audit(parser)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the corrected files")
    parser.add_argument(
        "--min-reviewers",
        type=positive_count,
        default=DEFAULT_REVIEWERS,
        metavar="N",
        help=f"reviewers who must have answered a label before it changes (default: {DEFAULT_REVIEWERS}; 1 if you trust one)",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="FILE", help="scanned files that have moved"
    )


def main(args: argparse.Namespace) -> int:
    """Apply as asked; the paths of the data files go to standard output."""
    applied = apply_audit(args.audit, args.out, min_reviewers=args.min_reviewers, data=args.data)
    print(
        f"{applied.cells:,} labels of {applied.records:,} records changed; see {args.out / CHANGES}",
        file=sys.stderr,
    )
    if applied.waiting:
        print(
            f"{applied.waiting:,} more would change but were answered by fewer than {args.min_reviewers} reviewers: "
            "let another person answer them (label-audit review --reviewer NAME), or count them with --min-reviewers 1",
            file=sys.stderr,
        )
    for path in applied.files:
        print(path)
    return 0
