"""Earlier results by the hash of their text: what need not be scored again."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import RecordError
from ...core.extras import require
from .rows import ResultRow

_SUFFIXES = (".parquet", ".jsonl")
_PREFIX = 16  # hexadecimal digits of a hash in the index; the whole hash is compared once the row is read
_MASK = 2**32 - 1


class Previous:
    """Results that a run of `merchantguard score`, or of Spark, wrote. 16 bytes of memory a row."""

    def __init__(self, path: Path) -> None:
        """Index a results file, or all in a folder.

        :raises RecordError: if there is none, or one is damaged or was not written by `merchantguard score`.
        """
        self.path = path
        files = sorted(each for each in path.rglob("*") if _is_results(each)) if path.is_dir() else [path]
        if not files or not all(each.is_file() for each in files):
            raise RecordError(
                f"{path}: holds no earlier results; give a .parquet or .jsonl file or a folder of them"
            )
        self._blocks: list[tuple[Path, int]] = []
        hashes: list[np.ndarray] = []
        places: list[np.ndarray] = []
        for file in files:
            for keys, where in self._index(file):
                hashes.append(np.array([int(key[:_PREFIX], 16) for key in keys], dtype=np.uint64))
                places.append(np.array(where, dtype=np.uint64))
        self._hashes = np.concatenate(hashes) if hashes else np.empty(0, np.uint64)
        order = np.argsort(self._hashes, kind="stable")
        self._hashes = self._hashes[order]
        self._places = np.concatenate(places)[order] if places else np.empty(0, np.uint64)
        self._tables = lru_cache(maxsize=4)(self._read_table)

    def __len__(self) -> int:
        return len(self._hashes)

    def find_many(self, hashes: Sequence[str], key: str) -> list[ResultRow | None]:
        """The earlier result of each text: one that was scored with `key` if there is one, else any.

        Rows are read block by block: texts in about the order of the earlier results are found fastest.
        """
        places: dict[int, list[str]] = {}
        for text in dict.fromkeys(hashes):
            wanted = np.uint64(int(text[:_PREFIX], 16))
            first = int(np.searchsorted(self._hashes, wanted, side="left"))
            last = int(np.searchsorted(self._hashes, wanted, side="right"))
            for place in self._places[first:last].tolist():
                places.setdefault(place, []).append(text)
        found: dict[str, ResultRow] = {}
        for place, row in self._read(sorted(places)):
            for text in places[place]:
                if row.text_hash == text and (text not in found or row.scored_with == key):
                    found[text] = row
        return [found.get(text) for text in hashes]

    def _index(self, file: Path) -> Iterator[tuple[list[str], list[int]]]:
        """Hashes of the rows of a file and their places, block by block; rows that were not scored have none."""
        try:
            if file.suffix == ".parquet":
                yield from self._index_parquet(file)
            else:
                yield from self._index_jsonl(file)
        except (KeyError, ValueError, OSError) as error:
            raise RecordError(
                f"{file}: cannot be used as earlier results ({error!r}); write it again"
            ) from error

    def _index_parquet(self, file: Path) -> Iterator[tuple[list[str], list[int]]]:
        parquet = require("pyarrow.parquet", "cli")
        with parquet.ParquetFile(file) as opened:
            for group in range(opened.num_row_groups):
                self._blocks.append((file, group))
                column = opened.read_row_group(group, columns=["text_hash"]).column("text_hash").to_pylist()
                block = len(self._blocks) - 1 << 32
                scored = [(key, block + row) for row, key in enumerate(column) if key]
                yield [key for key, _ in scored], [place for _, place in scored]

    def _index_jsonl(self, file: Path) -> Iterator[tuple[list[str], list[int]]]:
        """Lines are found by their first byte: a file of up to 4 GiB is one block, a longer one several."""
        self._blocks.append((file, 0))
        keys: list[str] = []
        places: list[int] = []
        start = base = 0
        with open(file, "rb") as stream:
            for line in stream:
                if start - base > _MASK:
                    yield keys, places
                    keys, places, base = [], [], start
                    self._blocks.append((file, base))
                if line.strip():
                    keys.append(str(json.loads(line)["text_hash"]))
                    places.append((len(self._blocks) - 1 << 32) + start - base)
                start += len(line)
        yield keys, places

    def _read(self, places: Sequence[int]) -> Iterator[tuple[int, ResultRow]]:
        for block, (*inside,) in groupby(places, key=lambda place: place >> 32):
            file, base = self._blocks[block]
            offsets = [place & _MASK for place in inside]
            if file.suffix == ".parquet":
                rows = self._tables(block).take(offsets).to_pylist()
            else:
                rows = _read_lines(file, [base + offset for offset in offsets])
            yield from zip(inside, map(ResultRow.from_dict, rows), strict=True)

    def _read_table(self, block: int) -> Any:
        parquet = require("pyarrow.parquet", "cli")
        file, group = self._blocks[block]
        with parquet.ParquetFile(file) as opened:
            return opened.read_row_group(group)


def _read_lines(file: Path, offsets: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    with open(file, "rb") as stream:
        for offset in offsets:
            stream.seek(offset)
            rows.append(json.loads(stream.readline()))
    return rows


def _is_results(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.name.startswith((".", "_")) and path.is_file()
