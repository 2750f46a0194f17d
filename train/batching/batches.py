"""Micro-batches of whole records under a token budget, of similar lengths so that there is little padding."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.packing import Layout, Packed, best_fit, even_rows, pack_windows
from ..model.policy_model import pool_windows
from .window_table import WindowTable

# Windows shorter than this share of a group's longest start a new group: the last window of a long text is short, and
# padding it to full length wastes more than a second, smaller call costs.
_SHORTEST_IN_GROUP = 0.75
# Number of records whose batches are planned and shuffled together.
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class Batch:
    """The windows of some records in groups of similar length, each padded to its longest window, or packed.

    `groups` are pairs of input_ids and attention_mask, int64 (B_g, T_g), empty where the windows are `packed`;
    `record_of_window` int64 (B,) numbers the records from 0, over the windows of all groups in order; `records` are the
    R rows of the table.
    """

    groups: tuple[tuple[Tensor, Tensor], ...]
    record_of_window: Tensor
    records: tuple[int, ...]
    packed: Packed | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        groups = tuple((ids.to(device), mask.to(device)) for ids, mask in self.groups)
        packed = None if self.packed is None else self.packed.to(device)
        return Batch(groups, self.record_of_window.to(device), self.records, packed)


def record_logits(model: Callable[..., Any], batch: Batch) -> Tensor:
    """Pooled logits (R, K) of a batch's records."""
    if batch.packed is not None:
        packed = batch.packed
        output = model(packed.input_ids, packed.documents, packed)
        return pool_windows(output, batch.record_of_window, len(batch.records))
    outputs = [model(ids, mask) for ids, mask in batch.groups]
    if isinstance(outputs[0], tuple):
        joined: Any = tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
    else:
        joined = torch.cat(outputs)
    return pool_windows(joined, batch.record_of_window, len(batch.records))


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Positions of the windows by group, longest first."""
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda p: -lengths[p]):
        if not groups or lengths[position] < _SHORTEST_IN_GROUP * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(position)
    return groups


def padded(windows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 (B, T), of windows padded to the longest."""
    ids = np.full((len(windows), max(map(len, windows))), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


def collate(
    table: WindowTable, records: Sequence[int], *, layout: Layout | None = None, one_group: bool = False
) -> Batch:
    """Put the windows of `records` into one batch, packed in `layout` or padded without one.

    :param one_group: pad all windows to the longest. Sharded models need it, as all processes must call them equally often.
    """
    per_record = table.windows(records)
    windows = [window for windows in per_record for window in windows]
    owner = [row for row, windows in enumerate(per_record) for _ in windows]
    if layout is not None:
        packed = pack_windows(windows, pad_id=table.pad_id, layout=layout)
        return Batch((), torch.tensor(owner), tuple(records), packed)
    lengths = [len(window) for window in windows]
    order = [list(range(len(windows)))] if one_group else length_groups(lengths)
    groups = tuple(padded([windows[p] for p in group], table.pad_id) for group in order)
    return Batch(groups, torch.tensor([owner[p] for group in order for p in group]), tuple(records))


def _cut(
    order: Sequence[int], longest: np.ndarray, n_windows: np.ndarray, budget: int, most: int
) -> list[list[int]]:
    batches: list[list[int]] = []
    current: list[int] = []
    width = windows = 0
    for record in order:
        wider = max(width, int(longest[record]))
        if current and (wider * (windows + int(n_windows[record])) > budget or len(current) >= most):
            batches.append(current)
            current, windows, wider = [], 0, int(longest[record])
        current.append(record)
        windows += int(n_windows[record])
        width = wider
    if current:
        batches.append(current)
    return batches


def length_batches(table: WindowTable, *, budget: int, most: int | None = None) -> list[list[int]]:
    """Every record once, longest first, cut by padded tokens: the cheapest order for prediction."""
    order = np.lexsort((np.arange(len(table)), -table.longest))
    return _cut(order.tolist(), table.longest, table.n_windows, budget, most or len(table))


class StepPlan:
    """The optimizer steps of an epoch, each a group of micro-batches; the same seed and epoch give the same steps.

    Records are shuffled, sorted by length within pools of `pool` batches and cut by budget, and the batches are shuffled
    again: similar lengths keep padding low, and pools keep batches random. Packed batches need no similar lengths: there
    best-fit decreasing fills the records of a pool into batches.

    :param budget: maximum of padded tokens in a micro-batch (of tokens, if packed); a longer record is a batch by itself.
    :param most: maximum of records in a micro-batch.
    :param per_step: micro-batches per step, of all processes together.
    :param alternatives: `LabelledWindows.alternatives`: an epoch takes the rows of one alternative of each group, in turn.
    :param packed: whether micro-batches are packed.
    """

    def __init__(
        self,
        table: WindowTable,
        *,
        budget: int,
        most: int,
        per_step: int = 1,
        seed: int = 0,
        pool: int = 24,
        alternatives: Sequence[Sequence[Sequence[int]]] = (),
        packed: bool = False,
    ) -> None:
        self.packed = packed
        self.alternatives = alternatives
        self.singles_from = sum(len(rows) for group in alternatives for rows in group)
        self.table, self.budget, self.most = table, budget, most
        self.per_step, self.seed, self.pool = per_step, seed, pool

    def _order(self, number: int, random: np.random.Generator) -> np.ndarray:
        chosen = [
            row
            for place, group in enumerate(self.alternatives)
            for row in group[(number + place) % len(group)]
        ]
        rows = np.concatenate(
            [np.array(chosen, dtype=np.int64), np.arange(self.singles_from, len(self.table))]
        )
        shuffled: np.ndarray = rows[random.permutation(len(rows))]
        return shuffled

    def _micro_batches(self, order: np.ndarray, random: np.random.Generator) -> list[list[int]]:
        longest, n_windows = self.table.longest, self.table.n_windows
        batches: list[list[int]] = []
        size = self.pool * self.most
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            if self.packed:
                batches += best_fit(chunk.tolist(), self.table.tokens, budget=self.budget, most=self.most)
                continue
            chunk = chunk[np.argsort(longest[chunk], kind="stable")]
            batches += _cut(chunk.tolist(), longest, n_windows, self.budget, self.most)
        return [batches[i] for i in random.permutation(len(batches))]

    def steps(self, number: int) -> Iterator[list[list[int]]]:
        """Steps of epoch `number`, each a list of micro-batches, the same for any number of processes.

        They are planned one block of records at a time: an epoch of millions takes no more memory than its order.
        """
        random = np.random.default_rng([self.seed, number])
        order = self._order(number, random)
        for start in range(0, len(order), _BLOCK):
            batches = self._micro_batches(order[start : start + _BLOCK], random)
            for first in range(0, len(batches), self.per_step):
                yield batches[first : first + self.per_step]


def share(step: Sequence[list[int]], *, rank: int, world: int) -> list[list[int]]:
    """The micro-batches of process `rank` of `world`; every process gets the same number.

    To make them even the largest are split, which changes gradients only by rounding; where even single records are too
    few, empty micro-batches fill up.
    """
    batches = list(step)
    while len(batches) % world:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        if len(batches[largest]) == 1:
            batches += [[] for _ in range(-len(batches) % world)]
            break
        records = batches.pop(largest)
        batches += [records[: len(records) // 2], records[len(records) // 2 :]]
    return batches[rank::world]


def _computed_tokens(lengths: Sequence[int], layout: Layout | None) -> int:
    """Number of tokens in the rectangles of windows of these lengths."""
    if layout == "flat":
        return sum(lengths)
    if layout == "rows":
        rows = even_rows(lengths)
        return len(rows) * max(sum(lengths[place] for place in row) for row in rows)
    return sum(lengths[group[0]] * len(group) for group in length_groups(lengths))


def padding_share(
    table: WindowTable, batches: Sequence[Sequence[int]], *, layout: Layout | None = None
) -> float:
    """Share of padding among the tokens that `batches` compute, packed in `layout` or padded without one."""
    padded = real = 0
    for batch in batches:
        lengths = [len(window) for windows in table.windows(batch) for window in windows]
        padded += _computed_tokens(lengths, layout)
        real += sum(lengths)
    return 1.0 - real / padded
