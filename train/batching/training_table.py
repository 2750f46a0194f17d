"""The training table on disk: windows and labels of all texts, written in one pass and mapped into memory.

Memory holds a few bytes per row (the order of an epoch), whatever the number of texts.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import atomic_folder, read_json, write_json
from ...core.labels import LabelMatrix
from ...data.taxonomy import Taxonomy
from ...data.windows import WindowTokenizer
from .localize import TrainingText, window_rows
from .window_table import LabelledWindows, open_window_table, write_window_table

VALUES, MASK, TEXTS, SHAPE = "labels.f32", "mask.u8", "texts.i64", "labels.json"
WEIGHTS = "weights.f32"
"""Only where some text of the groups is weak."""

Groups = Sequence[Sequence[TrainingText]]
"""Groups of alternative texts; an epoch takes one of each group, in turn."""


def training_table(
    groups: Groups,
    more: Iterable[TrainingText],
    taxonomy: Taxonomy,
    tokenizer: WindowTokenizer,
    folder: Path,
) -> LabelledWindows:
    """Windows and labels of the texts of `groups`, then of `more`, written to `folder` or opened if they are there."""
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            texts = chain((text for group in groups for text in group), more)
            weighted = any(text.weak for group in groups for text in group)
            rows = _storing_labels(texts, taxonomy, tokenizer, temporary, weighted=weighted)
            write_window_table(rows, temporary)
            write_json(temporary / SHAPE, {"columns": len(taxonomy)})
    return _open(folder, groups, pad_id=tokenizer.pad_id)


def _storing_labels(
    texts: Iterable[TrainingText],
    taxonomy: Taxonomy,
    tokenizer: WindowTokenizer,
    folder: Path,
    *,
    weighted: bool,
) -> Iterator[dict[str, Any]]:
    """Yield rows of windows and write their labels and the numbers of their texts to `folder` along the way."""
    numbers = array("q")
    ones = np.ones(len(taxonomy), dtype=np.float32)
    with ExitStack() as stack:
        values, mask = (stack.enter_context(open(folder / name, "wb")) for name in (VALUES, MASK))
        weights = stack.enter_context(open(folder / WEIGHTS, "wb")) if weighted else None
        for number, rows in enumerate(window_rows(texts, taxonomy, tokenizer)):
            for row in rows:
                values.write(row.values.tobytes())
                mask.write(row.mask.astype(np.uint8).tobytes())
                if weights is not None:
                    weights.write((ones if row.weights is None else row.weights).tobytes())
                numbers.append(number)
                yield {"windows": row.windows, "truncated": False}
    (folder / TEXTS).write_bytes(numbers.tobytes())


def _open(folder: Path, groups: Groups, *, pad_id: int) -> LabelledWindows:
    table = open_window_table(folder, pad_id=pad_id)
    shape = (len(table), int(read_json(folder / SHAPE)["columns"]))
    values = np.memmap(folder / VALUES, dtype=np.float32, mode="r", shape=shape)
    mask = np.memmap(folder / MASK, dtype=np.uint8, mode="r", shape=shape).view(np.bool_)
    texts = np.memmap(folder / TEXTS, dtype=np.int64, mode="r")
    path = folder / WEIGHTS
    weights = np.memmap(path, dtype=np.float32, mode="r", shape=shape) if path.is_file() else None
    return LabelledWindows(table, LabelMatrix(values, mask, weights), _alternatives(groups, texts), texts)


def _alternatives(groups: Groups, texts: np.ndarray) -> list[list[list[int]]]:
    """The rows of each text of each group; `texts` rises, as rows are written text by text."""
    counts = [len(group) for group in groups]
    bounds = np.searchsorted(texts, np.arange(sum(counts) + 1)).tolist()
    found, first = [], 0
    for count in counts:
        found.append([list(range(bounds[t], bounds[t + 1])) for t in range(first, first + count)])
        first += count
    return found
