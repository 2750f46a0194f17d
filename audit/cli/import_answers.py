"""Take answers that were given in Label Studio, Argilla or a spreadsheet into the audit's journal."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...core.errors import AuditError, RecordError
from ...data.records.readers import RowFault, rejects_file
from ..exchange import answer_table, argilla, label_studio
from ..exchange.exchange import BadRow, Imported, add_answers, read_json_list
from ..storage.items import STAGES
from ..storage.journal import Journal
from ..storage.store import Scan
from .export import FORMATS

REJECTS = "import-rejects.jsonl"
EPILOG = """examples:
  label-audit import audit/ project-7-at-2026-11-26.json
  label-audit import audit/ answers/ --name 3f6c...=maria
  label-audit import audit/ tasks.csv --reviewer maria
  label-audit import audit/ second.json --stage second

What the file is shows itself; --from says it. Importing a file again adds nothing. Rows that are not usable go to
import-rejects.jsonl in the audit's folder, with file, row and reason.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit import`."""
    parser.add_argument("audit", type=Path, metavar="AUDIT", help="the audit's folder")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="exports, tables, or Argilla's folder"
    )
    parser.add_argument("--from", dest="source", choices=list(FORMATS), help="the tool they come from")
    parser.add_argument("--reviewer", help="who answered, where a row does not say")
    parser.add_argument(
        "--name", action="append", default=[], metavar="ID=NAME", help="a reviewer's name for an id there"
    )
    parser.add_argument("--stage", choices=list(STAGES), default="first", help="what the answers are (first)")
    parser.add_argument("--rejects", type=Path, help=f"file for bad rows; default: {REJECTS} in the audit")


def main(args: argparse.Namespace) -> int:
    """Import as asked; the counts go to standard output."""
    names = dict(_pair(text) for text in args.name)
    sources = [(path, _format(path, args.source)) for path in args.files]
    scan, journal = Scan(args.audit), Journal(args.audit)
    rejects = args.rejects or args.audit / REJECTS
    bad = 0
    with ExitStack() as stack:
        stack.callback(scan.close)
        stack.callback(journal.close)
        keep = stack.enter_context(rejects_file(rejects))
        for path, module in sources:

            def on_bad(row: BadRow, path: Path = path) -> None:
                fault = RowFault(str(path), row.row, row.reason)
                print(fault, file=sys.stderr)
                keep(fault, row.raw)

            counts = add_answers(
                journal,
                scan,
                module.read(path, names),
                tool=module.TOOL,
                stage=args.stage,
                reviewer=args.reviewer,
                on_bad=on_bad,
            )
            bad += counts.bad
            print(_words(path, counts))
    if bad:
        print(f"{bad} bad rows were set aside in {rejects}", file=sys.stderr)
    return 0


def _words(path: Path, counts: Imported) -> str:
    return (
        f"{path}: {counts.new} new answers, {counts.known} known already, {counts.empty} tasks without an answer, "
        f"{counts.bad} bad rows"
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, name = text.partition("=")
    if not (key and equals and name):
        raise AuditError(f"--name {text}: give ID=NAME")
    return key, name


def _format(path: Path, source: str | None) -> Any:
    """The module that reads a file: the one asked for, or the one its content speaks for.

    :raises RecordError: if the file is not there or says nothing of where it comes from.
    """
    if source is not None:
        return FORMATS[source]
    if path.is_dir():
        return argilla
    if not path.is_file():
        raise RecordError(f"{path}: is not there; check the path")
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return answer_table
    entries = [entry for entry in read_json_list(path)[:100] if isinstance(entry, dict)]
    if any("responses" in entry and "fields" in entry for entry in entries):
        return argilla
    if any("annotations" in entry or "annotator" in entry for entry in entries):
        return label_studio
    raise RecordError(f"{path}: is neither Label Studio's nor Argilla's; say with --from what it is")
