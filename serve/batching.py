"""Which windows go through the model together."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .session import Floats, Ids, Model

# Lengths are rounded up to this, so that few different shapes reach ONNX Runtime, which keeps memory for each.
_LENGTH_STEP = 8


def run_windows(
    model: Model, windows: Sequence[Sequence[int]], *, pad_id: int, batch_tokens: int, window_tokens: int
) -> tuple[Floats, Floats | None]:
    """Logits (W, K) and scores (W, K), or None, of windows of token ids, in the order given.

    Windows of like length share a batch of at most `batch_tokens` tokens, padding included; a longer
    window goes alone.
    """
    logits: list[Floats] = []
    scores: list[Floats] = []
    batches = list(plan_batches([len(window) for window in windows], batch_tokens=batch_tokens))
    for batch in batches:
        found, found_scores = model.run(*_pad([windows[row] for row in batch], pad_id, window_tokens))
        logits.append(found)
        if found_scores is not None:
            scores.append(found_scores)
    back = np.argsort(np.concatenate(batches))
    return np.concatenate(logits)[back], np.concatenate(scores)[back] if scores else None


def plan_batches(lengths: Sequence[int], *, batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Cut the row numbers, sorted by length, into batches of at most `batch_tokens` padded tokens."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    start = 0
    for end, row in enumerate(order):
        if (end - start + 1) * _padded(lengths[row]) > batch_tokens and end > start:
            yield order[start:end]
            start = end
    if len(order):
        yield order[start:]


def chunked(texts: Iterable[str], *, texts_at_once: int, characters_at_once: int) -> Iterator[list[str]]:
    """Read `texts` in chunks bounded by number and by characters; a longer text is a chunk by itself.

    What was read before a fault is handed out first.

    :raises TypeError: naming the index of what is not a string.
    """
    chunk: list[str] = []
    size = 0
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            if chunk:
                yield chunk
            raise TypeError(f"texts[{index}] must be a str, not {type(text).__name__}")
        if chunk and (len(chunk) == texts_at_once or size + len(text) > characters_at_once):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def _padded(length: int) -> int:
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def _pad(windows: Sequence[Sequence[int]], pad_id: int, window_tokens: int) -> tuple[Ids, Ids]:
    lengths = [len(window) for window in windows]
    # Not past the window: a model may have no position for the token after its last.
    longest = max(1, *lengths, min(_padded(max(lengths)), window_tokens))
    input_ids = np.full((len(windows), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(windows), longest), dtype=np.int64)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = window
        attention_mask[row, : len(window)] = 1
    return input_ids, attention_mask
