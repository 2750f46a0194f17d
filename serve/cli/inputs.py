"""The input of `merchantguard score`: data files, pages saved as HTML or text, standard input."""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ...core.errors import RecordError
from ...data.records.decoding import decode_text
from ...data.records.readers import OnFault, RowFault, iter_records, iter_stream
from ...data.records.record import Record, record_from

STDIN = "-"
FORMATS = ("jsonl", "text", "html")

_PAGES = {".html": "html", ".htm": "html", ".txt": "text"}
_PAGE_BYTES = 64 * 2**20


def read_inputs(names: Sequence[str], *, stdin_format: str, on_fault: OnFault) -> Iterator[Record]:
    """Yield the records of the files in order; "-" is standard input, read as `stdin_format`.

    A page is one record, whose id is its file's name (its path, where two names are equal).

    :raises RecordError: if a file is missing, of an unknown kind or damaged.
    """
    for name in names:
        if name != STDIN and not Path(name).is_file():
            raise RecordError(f"{name}: no such file")
    page_names = [Path(name).name for name in names if _kind(name) == "page"]
    for kind, group in groupby(names, key=_kind):
        if kind == "data":
            yield from iter_records([Path(name) for name in group], None, on_fault=on_fault)
            continue
        for name in group:
            if kind == "stdin":
                yield from _read_stdin(stdin_format, on_fault)
            else:
                path = Path(name)
                page_id = path.name if page_names.count(path.name) == 1 else name
                yield from _read_page_file(path, page_id, on_fault)


def _kind(name: str) -> str:
    if name == STDIN:
        return "stdin"
    return "page" if Path(name).suffix.lower() in _PAGES else "data"


def _read_stdin(stdin_format: str, on_fault: OnFault) -> Iterator[Record]:
    if stdin_format == "jsonl":
        yield from iter_stream(sys.stdin.buffer, None, on_fault=on_fault)
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
