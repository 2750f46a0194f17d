"""Segments of the log: files of JSON lines, each line chained by its hash to the one before.

A line is an entry with `seq`, its number from 1 on, and `chain`, the SHA-256 of the line before's chain and of the entry
as it is written. Whoever changes, drops or reorders a line has to change every line after it, and the last chain is short
enough to be kept elsewhere.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from ...core.errors import MerchantGuardError
from ...core.files import atomic_path

START = "0" * 64
"""The chain before the first line."""

_SUFFIXES = (".jsonl", ".jsonl.zst", ".jsonl.gz")


class LogError(MerchantGuardError):
    """A log is damaged or cannot be used; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a segment: its place, its bytes, and its content, or what is wrong with it."""

    path: Path
    number: int
    raw: bytes
    document: dict[str, Any] | None
    fault: str | None = None

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self.path}: line {self.number}"


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of a log: its number and its chain. Kept elsewhere it proves that the log still holds all up to it.

    :param seq: None where only the chain was kept.
    """

    seq: int | None
    chain: str


def segments(folder: Path) -> list[Path]:
    """The segments of a log, oldest first.

    :raises LogError: if the folder holds none.
    """
    found = {
        path.name.partition(".")[0]: path
        for path in sorted(folder.glob("[0-9]*.jsonl*"))
        if _is_segment(path)
    }
    if not found:
        raise LogError(f"{folder}: no decision log (no segment 000001.jsonl)")
    return [found[name] for name in sorted(found)]


def _is_segment(path: Path) -> bool:
    return path.name.partition(".")[0].isdigit() and path.name[path.name.index(".") :] in _SUFFIXES


def head(folder: Path) -> Head:
    """The last line of a log; one that is still being written does not count. An empty log has number 0.

    :raises LogError: if there is no log, or its last segment has no line that can be read.
    """
    for path in reversed(segments(folder)):
        lines = list(read_lines(path))
        last = next((line.document for line in reversed(lines) if line.document is not None), None)
        if last is not None:
            try:
                return Head(int(last["seq"]), str(last["chain"]))
            except (KeyError, TypeError, ValueError):
                raise LogError(f"{path}: the last line has no number or no chain") from None
        if lines and lines[0].fault != "is cut off":
            raise LogError(f"{lines[0].place} {lines[0].fault}; `merchantguard log verify` shows all damage")
    return Head(0, START)


def encode_line(entry: dict[str, Any], seq: int, chain: str) -> tuple[bytes, str]:
    """The bytes of an entry's line, and its chain; `chain` is that of the line before."""
    document = {"seq": seq, **entry}
    content = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    own = link(chain, content)
    return f'{content[:-1]},"chain":"{own}"}}\n'.encode("ascii"), own


def link(chain: str, content: str) -> str:
    """The chain of a line: of the chain before it and the line's JSON without its own."""
    return hashlib.sha256(f"{chain}\n{content}".encode()).hexdigest()


def split_chain(raw: bytes) -> tuple[str, str]:
    """The JSON of a line without its chain, and the chain.

    :raises ValueError: if the line does not end in one.
    """
    text = raw.decode("ascii").rstrip("\n")
    content, mark, rest = text.rpartition(',"chain":"')
    if not mark or len(rest) != 66 or not rest.endswith('"}'):
        raise ValueError("the line has no chain")
    return content + "}", rest[:-2]


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a segment; one that is cut off or is no JSON has a fault."""
    number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, 1):
                yield _line(path, number, raw)
    except (zstandard.ZstdError, OSError, EOFError) as error:
        yield Line(path, number + 1, b"", None, f"cannot be read further ({error})")


def _line(path: Path, number: int, raw: bytes) -> Line:
    if not raw.endswith(b"\n"):
        return Line(path, number, raw, None, "is cut off")
    try:
        document = json.loads(raw)
    except ValueError as error:
        return Line(path, number, raw, None, f"is no JSON ({error})")
    if not isinstance(document, dict):
        return Line(path, number, raw, None, "is no JSON object")
    return Line(path, number, raw, document)


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".jsonl" and not path.exists():  # compressed by its writer since the folder was listed
        packed = [path.with_name(path.name + suffix) for suffix in (".zst", ".gz")]
        path = next((each for each in packed if each.exists()), path)
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), closefd=True)  # noqa: SIM115
        return io.BufferedReader(reader)  # type: ignore[return-value, arg-type, type-var]
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return open(path, "rb")


def compress(path: Path, method: str) -> Path:
    """Replace a finished segment by its compressed form, "zstd" or "gzip"; "none" leaves it."""
    if method == "none":
        return path
    target = path.with_name(path.name + (".zst" if method == "zstd" else ".gz"))
    with atomic_path(target) as temporary, open(path, "rb") as source, open(temporary, "wb") as sink:
        if method == "zstd":
            zstandard.ZstdCompressor(level=6).copy_stream(source, sink)
        else:
            with gzip.GzipFile(fileobj=sink, mode="wb", mtime=0) as packed:
                while block := source.read(1 << 20):
                    packed.write(block)
    path.unlink()
    return target
