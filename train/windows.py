"""The tokenised windows of records, kept on disk as an Arrow table by `datasets` and mapped into memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from ..data.files import atomic_folder
from ..data.record import Record
from ..data.text import clean
from ..data.windows import WindowTokenizer

_FEATURES = Features({"windows": List(List(Value("int32"))), "truncated": Value("bool")})
_CHUNK = 64


class WindowTable:
    """Windows of N records, in the order of the records.

    `longest`, `n_windows` and `tokens` are int64 (N,): the longest window, the count of windows and the sum of
    their lengths, special tokens included.
    """

    def __init__(self, dataset: Dataset, *, pad_id: int) -> None:
        self.dataset = dataset
        self.pad_id = pad_id
        lengths = [[len(w) for w in row] for row in dataset["windows"]]
        self.longest = np.array([max(row) for row in lengths], dtype=np.int64)
        self.n_windows = np.array([len(row) for row in lengths], dtype=np.int64)
        self.tokens = np.array([sum(row) for row in lengths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.dataset)

    def windows(self, records: Sequence[int]) -> list[list[list[int]]]:
        """Token ids of every window of each record."""
        return self.dataset[list(records)]["windows"]


def _rows(records: Sequence[Record], tokenizer: WindowTokenizer) -> Iterator[dict[str, Any]]:
    for start in range(0, len(records), _CHUNK):
        texts = [clean(record.text).text for record in records[start : start + _CHUNK]]
        for windows in tokenizer.encode_batch(texts):
            yield {"windows": [w.ids for w in windows.windows], "truncated": windows.truncated}


def build_window_table(records: Sequence[Record], tokenizer: WindowTokenizer, folder: Path) -> WindowTable:
    """Clean and tokenise `records` into `folder` and open it.

    Text is cleaned by the same function as in serving, so that the model meets what it was trained on.
    """
    dataset = Dataset.from_list(list(_rows(records, tokenizer)), features=_FEATURES)
    with atomic_folder(folder) as temporary:
        dataset.save_to_disk(str(temporary / "arrow"))
    return open_window_table(folder, pad_id=tokenizer.pad_id)


def open_window_table(folder: Path, *, pad_id: int) -> WindowTable:
    """Open what `build_window_table` wrote, mapped into memory."""
    return WindowTable(Dataset.load_from_disk(str(folder / "arrow")), pad_id=pad_id)
