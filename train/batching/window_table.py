"""The tokenised windows of records, stored on disk as an Arrow table of `datasets` and mapped into memory."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from datasets.arrow_writer import ArrowWriter

from ...core.files import atomic_folder
from ...core.labels import LabelMatrix
from ...data.cleaning.text import clean_parts
from ...data.records.record import Record
from ...data.windows import WindowTokenizer
from ..settings import ModelSettings

_FEATURES = Features({"windows": List(List(Value("int32"))), "truncated": Value("bool")})
_CHUNK = 64
_BATCH = 512
"""Rows that are collected before they are written to disk, and read from there at once."""
ARROW, SIZES = "windows.arrow", "sizes.i64"


class WindowTable:
    """Windows of N records, in the order of the records.

    `longest`, `n_windows` and `tokens` are int64 (N,): the longest window, the count of windows and the sum of
    their lengths, special tokens included.
    """

    def __init__(self, dataset: Dataset, sizes: np.ndarray, *, pad_id: int) -> None:
        self.dataset = dataset
        self.pad_id = pad_id
        self.longest, self.n_windows, self.tokens = sizes

    def __len__(self) -> int:
        return len(self.dataset)

    def windows(self, records: Sequence[int]) -> list[list[list[int]]]:
        """Token ids of every window of each record."""
        return self.dataset[list(records)]["windows"]


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """A window table with the labels (N, K) of its rows: records or, for training, mostly single windows of them.

    `alternatives` are groups of alternatives, such as a record in several wordings, each the rows of one text: an epoch
    takes one alternative of each group. They come first in the table; an epoch takes every row after them. `texts`
    int64 (N,) is the number of the text that each row belongs to, None where every row is a text.
    """

    table: WindowTable
    labels: LabelMatrix
    alternatives: Sequence[Sequence[Sequence[int]]] = ()
    texts: np.ndarray | None = None


def window_tokenizer(path: Path, model: ModelSettings) -> WindowTokenizer:
    """The run's tokenizer with its window settings."""
    return WindowTokenizer.from_file(
        path,
        window_tokens=model.window_tokens,
        stride_tokens=model.stride_tokens,
        max_windows=model.max_windows,
    )


def _rows(records: Iterable[Record], tokenizer: WindowTokenizer) -> Iterator[dict[str, Any]]:
    stream = iter(records)
    while chunk := list(islice(stream, _CHUNK)):
        cleaned = [clean_parts(record.text, record.hidden_from) for record in chunk]
        texts, hidden = [each.text for each, _ in cleaned], [start for _, start in cleaned]
        for windows in tokenizer.encode_batch(texts, hidden):
            yield {"windows": [w.ids for w in windows.windows], "truncated": windows.truncated}


def write_window_table(rows: Iterable[dict[str, Any]], folder: Path) -> None:
    """Write rows of windows one by one into files in `folder`; only their sizes are kept in memory."""
    sizes = [array("q") for _ in range(3)]
    with ArrowWriter(features=_FEATURES, path=str(folder / ARROW), writer_batch_size=_BATCH) as writer:
        for row in rows:
            lengths = [len(window) for window in row["windows"]]
            for column, size in zip(sizes, (max(lengths), len(lengths), sum(lengths)), strict=True):
                column.append(size)
            writer.write(row)
        writer.finalize()
    (folder / SIZES).write_bytes(b"".join(column.tobytes() for column in sizes))


def build_window_table(records: Iterable[Record], tokenizer: WindowTokenizer, folder: Path) -> WindowTable:
    """Clean and tokenise `records` into `folder`, atomically, and open the table.

    Training and scoring clean text with the same function, so the model sees what it was trained on.
    """
    with atomic_folder(folder) as temporary:
        write_window_table(_rows(records, tokenizer), temporary)
    return open_window_table(folder, pad_id=tokenizer.pad_id)


def open_window_table(folder: Path, *, pad_id: int) -> WindowTable:
    """Open what `build_window_table` wrote, as a memory map."""
    dataset = Dataset.from_file(str(folder / ARROW))
    sizes = np.memmap(folder / SIZES, dtype=np.int64, mode="r").reshape(3, len(dataset))
    return WindowTable(dataset, sizes, pad_id=pad_id)
