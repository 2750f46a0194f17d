"""Which windows go through the model together."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...data.site_text import SiteText
from .onnx_model import Ids, Model, Outputs
from .workers import Calls, Workers

# Lengths are rounded up to this, so that few different shapes reach the engine, which keeps memory for each.
_LENGTH_STEP = 4
_FIRST_CHUNK = 32


class WindowRunner:
    """Runs windows of token ids through a model, sorted into batches, by several workers at once."""

    def __init__(self, model: Model, workers: Workers, *, pad_id: int, window_tokens: int) -> None:
        self.workers = workers
        self._model = model
        self._pad_id = pad_id
        self._window_tokens = window_tokens

    def run(self, windows: Sequence[Sequence[int]], *, batch_tokens: int) -> Outputs:
        """The model's outputs for windows of token ids, in the order given.

        Windows of like length share a batch of at most `batch_tokens` tokens, padding included; a longer
        window goes alone.
        """
        return self.start(windows, batch_tokens=batch_tokens).result()

    def start(self, windows: Sequence[Sequence[int]], *, batch_tokens: int) -> "Running":
        """Start what `run` does: the workers go on while the caller does something else."""
        # The longest first: the last batches are short, and no worker waits long for another.
        plan = list(plan_batches([len(window) for window in windows], batch_tokens=batch_tokens))[::-1]
        batches = [[windows[row] for row in rows] for rows in plan]
        return Running(plan, self.workers.start(self.run_batch, batches))

    def run_batch(self, windows: Sequence[Sequence[int]]) -> Outputs:
        """The model's outputs for windows that go through it in one run."""
        return self._model.run(*pad_windows(windows, self._pad_id, self._window_tokens))


class Running:
    """Windows on their way through the model."""

    def __init__(self, plan: Sequence[NDArray[np.int64]], calls: Calls[Outputs]) -> None:
        self._plan, self._calls = plan, calls

    def wait(self) -> None:
        """Wait until no batch is running or queued; `result` raises the faults."""
        self._calls.wait()

    def result(self) -> Outputs:
        """The model's outputs for the windows, in their order."""
        found = self._calls.result()
        back = np.argsort(np.concatenate(self._plan))
        scores = [each.scores for each in found if each.scores is not None]
        attribution = [rows for each in found if each.attribution is not None for rows in each.attribution]
        return Outputs(
            logits=np.concatenate([each.logits for each in found])[back],
            scores=np.concatenate(scores)[back] if scores else None,
            attribution=[attribution[row] for row in back] if attribution else None,
        )


def plan_batches(lengths: Sequence[int], *, batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Cut the row numbers, sorted by length, into batches of at most `batch_tokens` padded tokens."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    for end, row in enumerate(order):
        if (end - start + 1) * padded_length(lengths[row]) > batch_tokens and end > start:
            yield order[start:end]
            start = end
    if len(order):
        yield order[start:]


def chunked(
    texts: Iterable[str | SiteText], *, texts_at_once: int, characters_at_once: int
) -> Iterator[list[str | SiteText]]:
    """Read `texts` in chunks bounded by number and by characters; a longer text is its own chunk.

    The first chunks are smaller, each twice the one before, so that the model has something to do while the rest is
    read. Texts read before a fault are yielded before it is raised.

    :raises TypeError: naming the index of what is not a string.
    """
    chunk: list[str | SiteText] = []
    size, most = 0, min(_FIRST_CHUNK, texts_at_once)
    for index, text in enumerate(texts):
        if not isinstance(text, str | SiteText):
            if chunk:
                yield chunk
            raise TypeError(f"texts[{index}] must be a str, not {type(text).__name__}")
        if chunk and (len(chunk) == most or size + len(text) > characters_at_once):
            yield chunk
            chunk, size, most = [], 0, min(2 * most, texts_at_once)
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def padded_length(length: int) -> int:
    """The length to which a window of `length` tokens is padded, before it is capped at the model's window size."""
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def pad_windows(windows: Sequence[Sequence[int]], pad_id: int, window_tokens: int) -> tuple[Ids, Ids]:
    """Token ids and mask (B, T) of windows, padded to one of a few lengths but never past `window_tokens`."""
    lengths = [len(window) for window in windows]
    # Not past the window: a model may have no position for the token after its last.
    longest = max(1, *lengths, min(padded_length(max(lengths)), window_tokens))
    input_ids = np.full((len(windows), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(windows), longest), dtype=np.int64)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = window
        attention_mask[row, : len(window)] = 1
    return input_ids, attention_mask
