from collections import Counter
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merchantguard.train.batching.batches import (
    StepPlan,
    collate,
    length_batches,
    padding_share,
    record_logits,
    share,
)
from merchantguard.train.batching.window_table import WindowTable


class FakeTable(WindowTable):
    """A window table in memory: only lengths matter for planning."""

    def __init__(self, records: list[list[int]]) -> None:
        self.records = records
        self.pad_id = 0
        self.longest = np.array([max(r) for r in records])
        self.n_windows = np.array([len(r) for r in records])
        self.tokens = np.array([sum(r) for r in records])

    def __len__(self) -> int:
        return len(self.records)

    def windows(self, records: list[int]) -> list[list[list[int]]]:
        return [[[7] * length for length in self.records[r]] for r in records]


lengths = st.lists(st.lists(st.integers(2, 64), min_size=1, max_size=4), min_size=4, max_size=60)


@given(lengths, st.integers(1, 6), st.integers(1, 5), st.integers(0, 5), st.booleans())
@settings(max_examples=80, deadline=None)
def test_an_epoch_holds_every_record_once_in_steps_that_processes_can_share(
    records: list[list[int]], per_step: int, world: int, epoch: int, packed: bool
) -> None:
    plan = StepPlan(FakeTable(records), budget=128, most=5, per_step=per_step, seed=1, pool=2, packed=packed)
    steps = list(plan.steps(epoch))
    assert all(all(step) for step in steps)
    seen: Counter[int] = Counter()
    for step in steps:
        shares = [share(step, rank=rank, world=world) for rank in range(world)]
        assert len({len(mine) for mine in shares}) == 1  # gradients are averaged once per step
        seen.update(record for mine in shares for batch in mine for record in batch)
        assert sum(not batch for mine in shares for batch in mine) < world
    assert seen == Counter(range(len(records)))
    assert steps == list(plan.steps(epoch))


@given(lengths)
@settings(max_examples=80, deadline=None)
def test_batches_keep_the_token_budget_unless_one_record_exceeds_it(records: list[list[int]]) -> None:
    table = FakeTable(records)
    for batch in length_batches(table, budget=100):
        padded = table.longest[batch].max() * table.n_windows[batch].sum()
        assert padded <= 100 or len(batch) == 1


def test_epochs_differ_and_seeds_differ() -> None:
    table = FakeTable([[length] for length in range(2, 60)])
    plans = [StepPlan(table, budget=256, most=4, seed=seed) for seed in (0, 1)]
    assert list(plans[0].steps(0)) != list(plans[0].steps(1))
    assert list(plans[0].steps(0)) != list(plans[1].steps(0))


def test_an_epoch_takes_one_alternative_of_a_group_and_the_next_epoch_the_next() -> None:
    table = FakeTable([[length] for length in range(2, 8)])
    plan = StepPlan(table, budget=64, most=4, alternatives=[[[0]], [[1], [2]], [[3], [4], [5]]])
    taken = [sorted(row for step in plan.steps(e) for batch in step for row in batch) for e in range(6)]
    assert all(len(rows) == 3 and rows[0] == 0 for rows in taken)
    assert sorted({rows[1] for rows in taken}) == [1, 2]
    assert sorted({rows[2] for rows in taken}) == [3, 4, 5]
    assert taken[0] != taken[1]


def test_an_alternative_may_be_several_rows() -> None:
    table = FakeTable([[length] for length in range(2, 8)])
    plan = StepPlan(table, budget=64, most=4, alternatives=[[[0, 1], [2]], [[3, 4, 5]]])
    taken = [sorted(row for step in plan.steps(e) for batch in step for row in batch) for e in range(2)]
    assert taken == [[0, 1, 3, 4, 5], [2, 3, 4, 5]]


def test_collate_groups_similar_lengths_and_keeps_the_owner() -> None:
    batch = collate(FakeTable([[4, 5], [2]]), [1, 0])
    assert [ids.tolist() for ids, _ in batch.groups] == [[[7, 7, 7, 7, 7], [7, 7, 7, 7, 0]], [[7, 7]]]
    assert [mask.sum(1).tolist() for _, mask in batch.groups] == [[5, 4], [2]]
    assert batch.record_of_window.tolist() == [1, 1, 0]


def test_record_logits_equal_those_of_each_record_alone() -> None:
    table = FakeTable([[4, 9], [2], [5, 5, 30]])

    def model(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (ids * mask).sum(1, keepdim=True).float()

    together = record_logits(model, collate(table, [2, 0, 1]))
    alone = [record_logits(model, collate(table, [r])) for r in (2, 0, 1)]
    assert together.tolist() == torch.cat(alone).tolist() == [[210.0], [63.0], [14.0]]


def test_padding_stays_under_a_tenth_on_the_corpus(tmp_path: Path, tiny_base: Path) -> None:
    from merchantguard.data.records.readers import read_records
    from merchantguard.data.shipped import corpus_paths
    from merchantguard.data.taxonomy import load_taxonomy
    from merchantguard.data.windows import WindowTokenizer
    from merchantguard.train.batching.window_table import build_window_table

    records = read_records(corpus_paths(), load_taxonomy()).records
    tokenizer = WindowTokenizer.from_file(
        tiny_base / "tokenizer.json", window_tokens=256, stride_tokens=64, max_windows=64
    )
    table = build_window_table(records, tokenizer, tmp_path / "windows")
    plan = StepPlan(table, budget=4096, most=16)
    shares = [padding_share(table, [b for step in plan.steps(e) for b in step]) for e in range(3)]
    assert max(shares) < 0.10
