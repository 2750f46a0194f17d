"""Import answers from Label Studio, Argilla or a spreadsheet into the audit's journal."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...core.errors import AuditError, RecordError
from ...data.records.readers import RowFault, rejects_file
from ..exchange import answer_table, argilla, label_studio
from ..exchange.answers import BadRow, Imported, add_answers, read_json_list
from ..storage import open_audit
from ..storage.items import STAGES
from .export import FORMATS
from .options import add_audit

REJECTS = "import-rejects.jsonl"
EPILOG = """examples:
  label-audit import audit/ project-7-at-2026-11-26.json
  label-audit import audit/ answers/ --name 3f6c...=maria
  label-audit import audit/ tasks.csv --reviewer maria
  label-audit import audit/ second.json --stage second

The format is recognised by the file's content unless --from is given. Importing a file twice adds nothing. Unusable rows go
to import-rejects.jsonl in the audit's folder, with file, row and reason.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit import`."""
    add_audit(parser)
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="exports, tables, or Argilla's folder"
    )
    parser.add_argument("--from", dest="source", choices=list(FORMATS), help="the tool the files come from")
    parser.add_argument("--reviewer", help="the reviewer of rows that name none")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="ID=NAME",
        help="a reviewer's name, by the id in the tool",
    )
    parser.add_argument(
        "--stage", choices=list(STAGES), default="first", help="stage of the answers (default: first)"
    )
    parser.add_argument("--rejects", type=Path, help=f"file for bad rows; default: {REJECTS} in the audit")


def main(args: argparse.Namespace) -> int:
    """Import as asked; the counts go to standard output."""
    names = dict(_pair(text) for text in args.name)
    sources = [(path, _format(path, args.source)) for path in args.files]
    rejects = args.rejects or args.audit / REJECTS
    bad = 0
    with ExitStack() as stack:
        scan, journal = stack.enter_context(open_audit(args.audit))
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
        f"{path}: {counts.new} new answers, {counts.already} already imported, {counts.empty} tasks without an answer, "
        f"{counts.bad} bad rows"
    )


def _pair(text: str) -> tuple[str, str]:
    key, equals, name = text.partition("=")
    if not (key and equals and name):
        raise AuditError(f"--name {text}: give ID=NAME")
    return key, name


def _format(path: Path, source: str | None) -> Any:
    """The module that reads a file: the one asked for, or the one that fits its content.

    :raises RecordError: if the file does not exist or its format is not recognised.
    """
    if source is not None:
        return FORMATS[source]
    if path.is_dir():
        return argilla
    if not path.is_file():
        raise RecordError(f"{path}: does not exist; check the path")
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return answer_table
    entries = [entry for entry in read_json_list(path)[:100] if isinstance(entry, dict)]
    if any("responses" in entry and "fields" in entry for entry in entries):
        return argilla
    if any("annotations" in entry or "annotator" in entry for entry in entries):
        return label_studio
    raise RecordError(
        f"{path}: is in neither Label Studio's nor Argilla's format; give the format with --from"
    )
