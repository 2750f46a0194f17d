"""Give back the data files as they were before `label-audit apply`, to the byte."""

import argparse
from pathlib import Path

from ..apply.apply import revert_data

EPILOG = """examples:
  label-audit revert corrected/ --out data/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit revert`."""
    parser.add_argument("folder", type=Path, metavar="DATA2", help="what `label-audit apply` wrote")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the files as they were")


def main(args: argparse.Namespace) -> int:
    """Revert as asked; the paths of the data files go to standard output."""
    for path in revert_data(args.folder, args.out):
        print(path)
    return 0
