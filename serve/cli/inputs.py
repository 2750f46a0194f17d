"""The input of `merchantguard score`: data files, crawls, folders, pages saved as HTML or text, standard input."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ...core.errors import RecordError
from ...core.extras import require
from ...data.records.decoding import decode_text
from ...data.records.readers import OnFault, RowFault, iter_records, iter_stream
from ...data.records.record import Record, record_from
from ...data.records.rows import READ_ONLY_SUFFIXES, SUFFIXES
from ...data.records.warc import Outcomes

STDIN = "-"
FORMATS = ("jsonl", "text", "html")

_PAGES = {".html": "html", ".htm": "html", ".txt": "text"}
_PAGE_BYTES = 64 * 2**20
_COUNTED_BYTES = 4 * 2**30


def expand_folders(names: Sequence[str]) -> list[str]:
    """The names with each folder replaced by the files in it that can be read, at any depth, in order of their paths.

    :raises RecordError: if there is no such file, or a folder holds none.
    """
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name == STDIN or path.is_file():
            found.append(name)
        elif path.is_dir():
            inside = [str(each) for each in sorted(path.rglob("*")) if _is_readable(each, path)]
            if not inside:
                kinds = ", ".join((*SUFFIXES, *READ_ONLY_SUFFIXES, *_PAGES))
                raise RecordError(f"{name}: no file in this folder can be read; kinds: {kinds}")
            found += inside
        else:
            raise RecordError(f"{name}: no such file")
    return found


def _is_readable(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    kinds = (*SUFFIXES, *READ_ONLY_SUFFIXES, *_PAGES)
    return not hidden and path.name.lower().endswith(kinds) and path.is_file()


def read_inputs(
    names: Sequence[str], *, stdin_format: str, on_fault: OnFault, outcomes: Outcomes | None = None
) -> Iterator[Record]:
    """Yield the records of the files in order; "-" is standard input, read as `stdin_format`.

    A page is one record, whose id is its file's name (its path, where two names are equal). Ids may repeat: each record
    is scored by itself.

    :param outcomes: counts what became of each record of WARC files.
    :raises RecordError: if a file is missing, of an unknown kind or damaged.
    """
    for name in names:
        if name != STDIN and not Path(name).is_file():
            raise RecordError(f"{name}: no such file")
    page_names = [Path(name).name for name in names if _kind(name) == "page"]
    for kind, group in groupby(names, key=_kind):
        if kind == "data":
            paths = [Path(name) for name in group]
            yield from iter_records(paths, None, on_fault=on_fault, unique_ids=False, outcomes=outcomes)
            continue
        for name in group:
            if kind == "stdin":
                yield from _read_stdin(stdin_format, on_fault)
            else:
                path = Path(name)
                page_id = path.name if page_names.count(path.name) == 1 else name
                yield from _read_page_file(path, page_id, on_fault)


def count_rows(names: Sequence[str]) -> int | None:
    """How many rows the files have, about, for the time that is left; None where only reading them would tell."""
    total = 0
    for name in names:
        path, suffix = Path(name), Path(name).suffix.lower()
        if suffix in _PAGES:
            total += 1
        elif suffix == ".parquet":
            total += _parquet_rows(path)
        elif suffix in (".jsonl", ".ndjson") and path.stat().st_size < _COUNTED_BYTES:
            total += _lines(path)
        else:
            return None
    return total


def _parquet_rows(path: Path) -> int:
    parquet, arrow = require("pyarrow.parquet", "cli"), require("pyarrow", "cli")
    try:
        return int(parquet.read_metadata(path).num_rows)
    except (arrow.ArrowException, OSError):
        return 0  # reading it names the damage


def _lines(path: Path) -> int:
    with open(path, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(2**20), b""))


def _kind(name: str) -> str:
    if name == STDIN:
        return "stdin"
    return "page" if Path(name).suffix.lower() in _PAGES else "data"


def _read_stdin(stdin_format: str, on_fault: OnFault) -> Iterator[Record]:
    if stdin_format == "jsonl":
        yield from iter_stream(sys.stdin.buffer, None, on_fault=on_fault, unique_ids=False)
    else:
        yield from _read_page(sys.stdin.buffer, stdin_format, "<stdin>", "stdin", on_fault)


def _read_page_file(path: Path, page_id: str, on_fault: OnFault) -> Iterator[Record]:
    try:
        with open(path, "rb") as stream:
            yield from _read_page(stream, _PAGES[path.suffix.lower()], str(path), page_id, on_fault)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error


def _read_page(stream: BinaryIO, field: str, place: str, page_id: str, on_fault: OnFault) -> Iterator[Record]:
    content = stream.read(_PAGE_BYTES + 1)
    decoded = decode_text(content[:_PAGE_BYTES], markup=field == "html")
    text = decoded.text
    if decoded.note:
        print(f"{place}: {decoded.note}", file=sys.stderr)
    try:
        if len(content) > _PAGE_BYTES:
            raise RecordError(f"larger than {_PAGE_BYTES >> 20} MiB")
        record = record_from({"id": page_id, field: text}, None)
    except RecordError as error:
        on_fault(RowFault(place, 1, str(error)), text[:2000])
    else:
        yield record
