"""Restore the data files as they were before `label-audit apply`, byte for byte."""

import argparse
from pathlib import Path

from ..apply.apply import revert_data

EPILOG = """examples:
  label-audit revert corrected/ --out data/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit revert`."""
    parser.add_argument(
        "folder", type=Path, metavar="CORRECTED", help="folder that `label-audit apply` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the original files")


def main(args: argparse.Namespace) -> int:
    """Revert as asked; the paths of the data files go to standard output."""
    for path in revert_data(args.folder, args.out):
        print(path)
    return 0
