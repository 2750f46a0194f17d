"""Windows end to end instead of padded: one long row, or a few even rows where attention needs a mask.

Documents packed this way must not see each other. Restarting position ids is not enough: SDPA and eager attention do not
keep documents apart by position (tests/train/batching/test_packing.py shows how wrong that is); `packed_attention.py` does.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Layout = Literal["flat", "rows"]
# The number of rows is the largest, so rows are the narrowest, that leaves at most this share empty.
_MOST_PADDING = 0.03


class Packed(NamedTuple):
    """D documents (windows) in B rows of L tokens; a tuple, so that accelerate's wrappers pass it on.

    `input_ids`, `position_ids` (from 0 in each document) and `documents` are int64 (B, L); `documents` numbers the
    documents from 0 in the given order and is D on padding; `starts` int64 (D,) is where each document starts in the
    flattened rows, and `longest` is the length of the longest.
    """

    input_ids: Tensor
    position_ids: Tensor
    documents: Tensor
    starts: Tensor
    longest: int

    def to(self, device: torch.device) -> "Packed":
        """The same documents on another device."""
        return self._replace(
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            documents=self.documents.to(device),
            starts=self.starts.to(device),
        )

    @property
    def cu_seqlens(self) -> Tensor:
        """Where documents start in one flat row, and where the last one ends, int32 (D + 1,), as varlen kernels need it."""
        end = self.starts.new_tensor([self.input_ids.numel()])
        return torch.cat([self.starts, end]).to(torch.int32)


def pack_windows(windows: Sequence[Sequence[int]], *, pad_id: int, layout: Layout) -> Packed:
    """Place windows (token ids) end to end: "flat" in one row without padding, "rows" in even rows."""
    lengths = [len(window) for window in windows]
    rows = [list(range(len(windows)))] if layout == "flat" else even_rows(lengths)
    width = max(sum(lengths[d] for d in row) for row in rows)
    shape = (len(rows), width)
    ids = np.full(shape, pad_id, dtype=np.int64)
    positions, documents = np.zeros(shape, dtype=np.int64), np.full(shape, len(windows), dtype=np.int64)
    starts = np.zeros(len(windows), dtype=np.int64)
    for number, row in enumerate(rows):
        place = 0
        for document in row:
            span = slice(place, place + lengths[document])
            ids[number, span] = windows[document]
            positions[number, span] = np.arange(lengths[document])
            documents[number, span] = document
            starts[document] = number * width + place
            place = span.stop
    return Packed(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(documents),
        torch.from_numpy(starts),
        longest=max(lengths),
    )


def even_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Positions of `lengths` in rows of nearly equal sums: the most rows that leave at most 3 % of the rectangle empty.

    Longest first, each goes to the row with the most room left (Graham 1969); a single row needs no padding.
    """
    total = sum(lengths)
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    for count in range(max(1, total // max(lengths)), 0, -1):
        rows: list[list[int]] = [[] for _ in range(count)]
        loads = [0] * count
        for position in order:
            lightest = loads.index(min(loads))
            rows[lightest].append(position)
            loads[lightest] += lengths[position]
        if total >= (1.0 - _MOST_PADDING) * count * max(loads):
            return rows
    raise AssertionError("one row always fits")


def best_fit(order: Sequence[int], sizes: np.ndarray, *, budget: int, most: int) -> list[list[int]]:
    """Items in bins of at most `budget` in sum and `most` in number, by best-fit decreasing (Johnson 1974).

    An item larger than the budget gets a bin of its own.

    :param order: the items, as indices of `sizes`; among equal sizes the earlier one goes first.
    """
    bins: list[list[int]] = []
    open_: list[tuple[int, int]] = []  # (room left, bin), least room first
    for item in sorted(order, key=lambda i: -int(sizes[i])):
        size = int(sizes[item])
        place = bisect_left(open_, (size, -1))
        if place == len(open_):
            number, room = len(bins), max(budget - size, 0)
            bins.append([item])
        else:
            room, number = open_.pop(place)
            room -= size
            bins[number].append(item)
        if room > 0 and len(bins[number]) < most:
            insort(open_, (room, number))
    return bins
