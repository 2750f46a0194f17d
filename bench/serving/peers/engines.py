"""The two engines that peers run the classifier with: torch and plain ONNX Runtime."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from harness import batches_by_length

SERVER_BUDGET = 4096


class Engine(Protocol):
    """Classifies windows of text."""

    def classify(self, windows: Sequence[str], *, budget: int) -> list[list[float]]:
        """Logits of each window, in order; batches of at most `budget` padded tokens, one by one at 0."""
        ...


class TorchEngine:
    """transformers' own classes, the windows sorted by length; `precision` "bf16" runs under autocast."""

    def __init__(self, folder: Path, *, precision: str, window_tokens: int, threads: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        torch.set_num_threads(threads)
        self._torch, self._precision, self._most = torch, precision, window_tokens
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def classify(self, windows: Sequence[str], *, budget: int) -> list[list[float]]:
        """Logits of each window, in order."""
        torch = self._torch
        rows = self._tokenizer(list(windows), truncation=True, max_length=self._most)["input_ids"]
        found: list[list[float]] = [[] for _ in rows]
        low = torch.autocast("cpu", dtype=torch.bfloat16) if self._precision == "bf16" else nullcontext()
        with torch.inference_mode(), low:
            for batch in batches_by_length([len(row) for row in rows], budget):
                ids, mask = _pad([rows[row] for row in batch])
                output = self._model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
                for row, logits in zip(batch, output.logits.float().tolist(), strict=True):
                    found[row] = logits
        return found


class OnnxEngine:
    """A graph in ONNX Runtime, with default options unless `threads` are given."""

    def __init__(self, folder: Path, *, graph: str, window_tokens: int, threads: int | None = None) -> None:
        import numpy as np
        import onnxruntime
        from tokenizers import Tokenizer

        self._np = np
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window_tokens)
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        path = str(folder / graph)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def classify(self, windows: Sequence[str], *, budget: int) -> list[list[float]]:
        """Logits of each window, in order."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(windows))]
        found: list[list[float]] = [[] for _ in rows]
        for batch in batches_by_length([len(row) for row in rows], budget):
            ids, mask = (self._np.array(each, self._np.int64) for each in _pad([rows[row] for row in batch]))
            logits = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
            for row, values in zip(batch, logits.tolist(), strict=True):
                found[row] = values
        return found


def load_engine(name: str, folder: Path, *, window_tokens: int, threads: int) -> Engine:
    """The engine of a server: "onnx" runs the fused graph where there is one, "torch" bf16."""
    if name == "torch":
        return TorchEngine(folder, precision="bf16", window_tokens=window_tokens, threads=threads)
    graph = "model.fused.onnx" if (folder / "model.fused.onnx").is_file() else "model.onnx"
    return OnnxEngine(folder, graph=graph, window_tokens=window_tokens, threads=threads)


def classify_texts(engine: Engine, texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """The highest logit of each label over the windows of each text, as a server answers; windows share batches."""
    logits = engine.classify([window for windows in texts for window in windows], budget=SERVER_BUDGET)
    answers, start = [], 0
    for windows in texts:
        answers.append([max(column) for column in zip(*logits[start : start + len(windows)], strict=True)])
        start += len(windows)
    return answers


def _pad(rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    longest = max(len(row) for row in rows)
    ids = [[*row, *[0] * (longest - len(row))] for row in rows]
    return ids, [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
