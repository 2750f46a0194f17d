from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchantguard.serve.engine.batching import WindowRunner, chunked, padded_length, plan_batches
from merchantguard.serve.engine.onnx_model import Outputs
from merchantguard.serve.engine.workers import Workers


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 2000))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = [batch.tolist() for batch in plan_batches(lengths, batch_tokens=budget)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = padded_length(max(lengths[row] for row in batch))
        assert len(batch) == 1 or len(batch) * longest <= budget


class Echo:
    """Gives the sum of ids and the number of tokens of each window, and as attribution the ids themselves, to see that
    rows find their way back."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> Outputs:
        self.shapes.append(input_ids.shape)
        sums = (input_ids * attention_mask).sum(axis=1)
        logits = np.stack([sums, attention_mask.sum(axis=1)], axis=1).astype(np.float32)
        return Outputs(logits, attribution=input_ids[:, :, None].astype(np.float32))  # type: ignore[arg-type]


@given(
    st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=20), min_size=1, max_size=30),
    st.integers(1, 3),
)
def test_windows_come_back_in_their_order(windows: list[list[int]], workers: int) -> None:
    model = Echo()
    runner = WindowRunner(model, Workers(workers), pad_id=7, window_tokens=20)
    found = runner.run(windows, batch_tokens=64)
    assert found.scores is None
    assert found.logits.tolist() == [[sum(window), len(window)] for window in windows]
    assert found.attribution is not None
    for window, added in zip(windows, found.attribution, strict=True):
        assert added[: len(window), 0].tolist() == window
    assert max(shape[1] for shape in model.shapes) <= 20


def test_chunks_are_bounded_by_number_and_characters() -> None:
    texts = ["a", "b", "c", "dd", "eeeee", "f"]
    chunks = list(chunked(texts, texts_at_once=2, characters_at_once=4))
    assert chunks == [["a", "b"], ["c", "dd"], ["eeeee"], ["f"]]


def test_the_first_chunks_are_small() -> None:
    sizes = [len(chunk) for chunk in chunked(["a"] * 300, texts_at_once=100, characters_at_once=1000)]
    assert sizes == [32, 64, 100, 100, 4]


def test_an_endless_iterable_is_read_one_chunk_at_a_time() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "text"

    chunks = chunked(endless(), texts_at_once=5, characters_at_once=1000)
    assert next(chunks) == ["text"] * 5
    assert read <= 6


def test_what_came_before_a_wrong_item_is_handed_out_first() -> None:
    chunks = chunked(["a", "b", b"c", "d"], texts_at_once=10, characters_at_once=100)  # type: ignore[list-item]
    assert next(chunks) == ["a", "b"]
    with pytest.raises(TypeError, match=r"texts\[2\] must be a str, not bytes"):
        next(chunks)
