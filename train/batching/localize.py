"""Training rows: the windows of texts with labels of their own, where quotes say which window shows a violation.

A label applies to a record. In a record of several windows its quotes say which of them show it: those windows are
positive, and of the others nothing is known, or, where every violating passage is quoted, that they are negative.
A compliant record is compliant in every window. Records with a label that no quote shows stay whole: their windows are
pooled by the maximum, as in scoring.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ...core.labels import LabelMatrix
from ...data.cleaning.text import CleanText, clean_parts
from ...data.records.record import Record, label_matrix
from ...data.taxonomy import Taxonomy
from ...data.windows import Window, Windows, WindowTokenizer
from .weak import soft_targets

_CHUNK = 64
# A window shows a quote if it holds this share of it, or this many of its characters; less than the lower share of it
# is taken for nothing.
_MOST_OF_IT, _ENOUGH_CHARACTERS = 0.6, 90
_HARDLY_ANY = 0.05


@dataclass(frozen=True, slots=True)
class TrainingText:
    """A record to train on. `localized`: every violating passage of it is quoted. `weak`: its targets are soft."""

    record: Record
    localized: bool = False
    weak: bool = False


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One row of a training table: windows of token ids that are pooled together, mostly one, and their labels (K,).

    `weights` (K,): what its cells count; None, all alike.
    """

    windows: list[list[int]]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    weights: NDArray[np.float32] | None = None


def window_rows(
    texts: Iterable[TrainingText], taxonomy: Taxonomy, tokenizer: WindowTokenizer
) -> Iterator[list[WindowRow]]:
    """The rows of each text, in order; texts are cleaned and cut as in scoring."""
    stream = iter(texts)
    while chunk := list(islice(stream, _CHUNK)):
        parts = [clean_parts(text.record.text, text.record.hidden_from) for text in chunk]
        cleaned = [document for document, _ in parts]
        labels = label_matrix([text.record for text in chunk], taxonomy)
        encoded = tokenizer.encode_batch([each.text for each in cleaned], [start for _, start in parts])
        for number, (text, document, windows) in enumerate(zip(chunk, cleaned, encoded, strict=True)):
            yield _rows(text, document, windows, labels[number : number + 1], taxonomy)


def _rows(
    text: TrainingText, document: CleanText, windows: Windows, labels: LabelMatrix, taxonomy: Taxonomy
) -> list[WindowRow]:
    """The rows of one text from its windows and its labels (1, K)."""
    if text.weak:
        return [WindowRow([window.ids for window in windows.windows], *soft_targets(text.record, taxonomy))]
    values, mask = labels.values[0], labels.mask[0]
    spans = _quoted_spans(text.record, document)
    if len(windows.windows) == 1 or any(not spans.get(policy) for policy in text.record.labels):
        return [WindowRow([window.ids for window in windows.windows], values, mask)]
    rows = []
    for window in windows.windows:
        own, known = values.copy(), mask.copy()
        for policy in text.record.labels:
            column, shown = taxonomy.index(policy), _shown(window, spans[policy])
            own[column] = float(shown >= _MOST_OF_IT)
            known[column] = shown >= _MOST_OF_IT or (text.localized and shown <= _HARDLY_ANY)
        rows.append(WindowRow([window.ids], own, known))
    return rows


def _quoted_spans(record: Record, document: CleanText) -> dict[str, list[tuple[int, int]]]:
    """Where in the clean text the quotes of each policy stand, the first time that they occur."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for policy, quotes in record.evidence.items():
        for quote in quotes:
            start = record.text.find(quote)
            if start < 0:
                continue
            first, last = np.searchsorted(document.starts, [start, start + len(quote)]).tolist()
            spans.setdefault(policy, []).append((first, max(last, first + 1)))
    return spans


def _shown(window: Window, spans: Sequence[tuple[int, int]]) -> float:
    """The largest share of a quote that the window holds; 1 if it holds enough of it."""
    overlaps = [(min(end, window.end) - max(start, window.start), end - start) for start, end in spans]
    return max(1.0 if held >= _ENOUGH_CHARACTERS else max(held, 0) / length for held, length in overlaps)
