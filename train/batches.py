"""Micro-batches of whole records under a token budget, lengths alike so that little is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .windows import WindowTable


@dataclass(frozen=True, slots=True)
class Batch:
    """The windows of some records, padded to the longest.

    `input_ids` and `attention_mask` are int64 (B, T); `record_of_window` int64 (B,) counts from 0 within the
    batch; `records` holds the R rows of the window table.
    """

    input_ids: Tensor
    attention_mask: Tensor
    record_of_window: Tensor
    records: tuple[int, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.record_of_window.to(device),
            self.records,
        )


def collate(table: WindowTable, records: Sequence[int]) -> Batch:
    """Pad the windows of `records` into one batch."""
    per_record = table.windows(records)
    windows = [window for windows in per_record for window in windows]
    owner = [row for row, windows in enumerate(per_record) for _ in windows]
    longest = max(len(window) for window in windows)
    ids = np.full((len(windows), longest), table.pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), torch.tensor(owner), tuple(records))


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
    """All records once, longest first, cut by padded tokens: the cheapest order for prediction."""
    order = np.lexsort((np.arange(len(table)), -table.longest))
    return _cut(order.tolist(), table.longest, table.n_windows, budget, most or len(table))


class StepPlan:
    """The optimizer steps of an epoch, each a group of micro-batches, the same for the same seed and epoch.

    Records are shuffled, sorted by length within pools of `pool` batches, cut by budget, and the batches are
    shuffled again: near-equal lengths keep padding low, the pools keep batches random.

    :param budget: most padded tokens in a micro-batch; a single longer record still forms a batch.
    :param most: most records in a micro-batch.
    :param accumulate: micro-batches of one process to a step.
    :param world: number of processes; a step holds `accumulate * world` micro-batches.
    """

    def __init__(
        self,
        table: WindowTable,
        *,
        budget: int,
        most: int,
        accumulate: int = 1,
        world: int = 1,
        seed: int = 0,
        pool: int = 24,
    ) -> None:
        if len(table) < world:
            raise ValueError(f"{len(table)} records cannot be shared by {world} processes")
        self.table, self.budget, self.most = table, budget, most
        self.accumulate, self.world, self.seed, self.pool = accumulate, world, seed, pool

    def _micro_batches(self, random: np.random.Generator) -> list[list[int]]:
        order = random.permutation(len(self.table))
        longest, n_windows = self.table.longest, self.table.n_windows
        batches: list[list[int]] = []
        size = self.pool * self.most
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            chunk = chunk[np.argsort(longest[chunk], kind="stable")]
            batches += _cut(chunk.tolist(), longest, n_windows, self.budget, self.most)
        return [batches[i] for i in random.permutation(len(batches))]

    def epoch(self, number: int) -> list[list[list[int]]]:
        """Steps of epoch `number`: lists of micro-batches, their count a multiple of `world`."""
        random = np.random.default_rng([self.seed, number])
        batches = self._micro_batches(random)
        per_step = self.accumulate * self.world
        steps = [batches[i : i + per_step] for i in range(0, len(batches), per_step)]
        while len(steps[-1]) % self.world:
            largest = max(range(len(steps[-1])), key=lambda i: len(steps[-1][i]))
            whole = steps[-1].pop(largest)
            if len(whole) == 1:  # nothing to share out: the step before takes it
                steps[-1].append(whole)
                return self._merge_last(steps)
            steps[-1] += [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        return steps

    def _merge_last(self, steps: list[list[list[int]]]) -> list[list[list[int]]]:
        last = [record for batch in steps[-1] for record in batch]
        shares = [list(s) for s in np.array_split(np.array(last), self.world)]
        if all(shares):
            steps[-1] = [[int(r) for r in share] for share in shares]
            return steps
        if len(steps) == 1:
            raise ValueError(f"{len(last)} records cannot be shared by {self.world} processes")
        steps[-2][0].extend(last)
        return steps[:-1]


def padding_share(table: WindowTable, batches: Sequence[Sequence[int]]) -> float:
    """Share of the padded tokens of `batches` that is padding."""
    padded = sum(
        int(table.longest[list(batch)].max()) * int(table.n_windows[list(batch)].sum()) for batch in batches
    )
    real = sum(int(table.tokens[list(batch)].sum()) for batch in batches)
    return 1.0 - real / padded


def iterate(table: WindowTable, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Collate batch after batch."""
    for batch in batches:
        yield collate(table, batch)
