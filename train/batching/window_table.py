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
from ...data.cleaning.text import clean
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
    """A window table with the labels (N, K) of its records.

    For training a model with a gate the labels have one more column, "some violation". `alternatives` are groups of
    rows, such as a record in several wordings, of which an epoch takes one; empty where an epoch takes every row.
    """

    table: WindowTable
    labels: LabelMatrix
    alternatives: Sequence[Sequence[int]] = ()


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
        texts = [clean(record.text).text for record in chunk]
        for windows in tokenizer.encode_batch(texts):
            yield {"windows": [w.ids for w in windows.windows], "truncated": windows.truncated}


def write_window_table(records: Iterable[Record], tokenizer: WindowTokenizer, folder: Path) -> None:
    """Clean and tokenise `records` one by one into files in `folder`; only their sizes are kept in memory.

    Training and scoring clean text with the same function, so the model sees what it was trained on.
    """
    sizes = [array("q") for _ in range(3)]
    with ArrowWriter(features=_FEATURES, path=str(folder / ARROW), writer_batch_size=_BATCH) as writer:
        for row in _rows(records, tokenizer):
            lengths = [len(window) for window in row["windows"]]
            for column, size in zip(sizes, (max(lengths), len(lengths), sum(lengths)), strict=True):
                column.append(size)
            writer.write(row)
        writer.finalize()
    (folder / SIZES).write_bytes(b"".join(column.tobytes() for column in sizes))


def build_window_table(records: Iterable[Record], tokenizer: WindowTokenizer, folder: Path) -> WindowTable:
    """Write the windows of `records` to `folder`, atomically, and open them."""
    with atomic_folder(folder) as temporary:
        write_window_table(records, tokenizer, temporary)
    return open_window_table(folder, pad_id=tokenizer.pad_id)


def open_window_table(folder: Path, *, pad_id: int) -> WindowTable:
    """Open what `build_window_table` wrote, as a memory map."""
    dataset = Dataset.from_file(str(folder / ARROW))
    sizes = np.memmap(folder / SIZES, dtype=np.int64, mode="r").reshape(3, len(dataset))
    return WindowTable(dataset, sizes, pad_id=pad_id)
