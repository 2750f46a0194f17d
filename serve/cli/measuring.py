"""Measuring a bundle on a machine: texts per second, latency under load, memory, and the machine's own peak.

Evidence is always off: its cost depends on how many texts have findings, not on the machine.
"""

import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...core.extras import require
from ...data.windows import WindowTokenizer
from ..assessment import Assessment
from ..engine.batching import chunked, padded_length, plan_batches
from ..evidence import EvidenceOptions
from ..online.microbatcher import MicroBatcher, QueueFull
from ..preprocess import encode_texts
from ..scorer import TEXTS_AT_ONCE, Scorer

_GEMM_SIZE = 1536
_PRODUCTS = ("MatMul", "Gemm", "Attention")


@dataclass(frozen=True, slots=True)
class Setting:
    """How a bundle is run: the variant, cores, and tokens (padding included) of one run of the model."""

    variant: str
    threads: int
    batch_tokens: int


OnPass = Callable[[Setting], None]
"""Called before each pass over the texts."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """The speed of a setting over all texts at once.

    :param seconds: of each pass; the rates are those of the median.
    :param padding: padding tokens per token of a text.
    :param of_peak: share of the GEMM peak; None where it is not known.
    """

    setting: Setting
    seconds: tuple[float, ...]
    texts_per_second: float
    tokens_per_second: float
    padding: float
    of_peak: float | None


@dataclass(frozen=True, slots=True)
class Gemm:
    """The machine's peak: GFLOP/s of a large matrix product in float32, and how many cores it kept busy."""

    gflops: float
    busy_cores: float


@dataclass(frozen=True, slots=True)
class Memory:
    """A process that only scores: seconds to load, resident megabytes (10^6 bytes) after that, and at most."""

    setting: Setting
    load_seconds: float
    loaded_mb: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Online:
    """Texts that arrive one by one.

    Latency counts from the time a text is due, so that a delayed caller does not hide it.

    :param rate: texts per second that arrive, of which `achieved` are answered.
    :param rejected: share of the texts that find the queue full; the latencies are those of the others.
    """

    setting: Setting
    rate: float
    texts: int
    achieved: float
    p50_ms: float
    p99_ms: float
    rejected: float


@dataclass(frozen=True)
class Workload:
    """The texts, no two equal, and how many tokens each of their windows has."""

    texts: tuple[str, ...]
    lengths: tuple[tuple[int, ...], ...]
    window_tokens: int

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: WindowTokenizer, *, window_tokens: int) -> "Workload":
        """Clean the texts and cut them as the scorer does; equal texts count once, as they are scored once."""
        different = tuple(dict.fromkeys(texts))
        lengths = [tuple(map(len, encoded.ids)) for encoded in encode_texts(different, tokenizer)]
        return cls(different, tuple(lengths), window_tokens)

    @property
    def windows(self) -> int:
        """Windows of all texts."""
        return sum(map(len, self.lengths))

    @cached_property
    def tokens(self) -> int:
        """Tokens of all windows, without padding."""
        return sum(map(sum, self.lengths))

    def padding(self, batch_tokens: int) -> float:
        """Padding tokens per token, if windows are batched as the scorer batches them."""
        padded = first = 0
        blanks = [""] * len(self.lengths)
        for chunk in chunked(blanks, texts_at_once=TEXTS_AT_ONCE, characters_at_once=1):
            lengths = [length for text in self.lengths[first : first + len(chunk)] for length in text]
            first += len(chunk)
            for rows in plan_batches(lengths, batch_tokens=batch_tokens):
                longest = max(lengths[row] for row in rows)
                padded += len(rows) * min(padded_length(longest), self.window_tokens)
        return padded / self.tokens - 1


def spread(texts: Iterable[str], count: int) -> list[str]:
    """At most `count` of the texts, evenly spread and in order; at most twice as many are in memory."""
    kept: list[str] = []
    step = 1
    for index, text in enumerate(texts):
        if index % step:
            continue
        kept.append(text)
        if len(kept) > 2 * count:
            kept, step = kept[::2], 2 * step
    count = min(count, len(kept))
    return [kept[place * len(kept) // count] for place in range(count)]


def measure_gemm(*, repeats: int = 5) -> Gemm:
    """Time float32 products of two 1536 x 1536 matrices by numpy, on all cores that its BLAS uses.

    A model in bfloat16 can exceed 100 % of it. If it keeps fewer cores busy than there are, other programs or a limit
    (OMP_NUM_THREADS, a container's quota) slow it down.
    """
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((_GEMM_SIZE, _GEMM_SIZE), dtype=np.float32) for _ in range(2))
    np.matmul(left, right)  # the first call starts the threads
    seconds, cores = [], []
    for _ in range(repeats):
        started, cpu = time.perf_counter(), time.process_time()
        np.matmul(left, right)
        seconds.append(time.perf_counter() - started)
        cores.append((time.process_time() - cpu) / seconds[-1])
    return Gemm(2 * _GEMM_SIZE**3 / statistics.median(seconds) / 1e9, statistics.median(cores))


def flops_per_token(graph: Path) -> int | None:
    """2 per weight of the ONNX graph's matrix products; None without `onnx`, which reads graphs.

    The products of tokens with tokens in attention do not count, so it is a little less than what is computed.
    """
    if find_spec("onnx") is None:
        return None
    content = require("onnx", "export").load(str(graph), load_external_data=False).graph
    sizes = {each.name: math.prod(each.dims) for each in content.initializer if len(each.dims) > 1}
    products = [node for node in content.node if node.op_type in _PRODUCTS]
    weights = sum(sizes.get(name, 0) for node in products for name in node.input)
    return 2 * weights or None


def load_for(bundle: Path, setting: Setting) -> Scorer:
    """The scorer of a setting, evidence off.

    :raises BundleError: as `Scorer.load`.
    """
    return Scorer.load(
        bundle, threads=setting.threads, variant=setting.variant, evidence=EvidenceOptions(spans=0)
    )


def measure_bulk(
    scorer: Scorer,
    settings: Iterable[Setting],
    work: Workload,
    *,
    repeats: int,
    flops: int | None,
    gemm: Gemm,
    on_pass: OnPass,
) -> Iterator[Bulk]:
    """Score all texts at once with each setting, once to warm up and `repeats` times for the median.

    :param scorer: has the variant and threads of all the settings.
    :param flops: of one token.
    :param on_pass: called before each pass.
    """
    for setting in settings:
        seconds = []
        for _ in range(repeats + 1):
            on_pass(setting)
            started = time.perf_counter()
            score_all(scorer, work.texts, setting.batch_tokens)
            seconds.append(time.perf_counter() - started)
        median = statistics.median(seconds[1:])
        yield Bulk(
            setting,
            tuple(seconds[1:]),
            texts_per_second=len(work.texts) / median,
            tokens_per_second=work.tokens / median,
            padding=work.padding(setting.batch_tokens),
            of_peak=None if flops is None else flops * work.tokens / median / (gemm.gflops * 1e9),
        )


def score_all(scorer: Scorer, texts: Sequence[str], batch_tokens: int) -> None:
    """One pass without the cache of an earlier one."""
    list(scorer.assess_many(texts, batch_tokens=batch_tokens, texts_at_once=TEXTS_AT_ONCE, remember=0))


def measure_online(
    scorer: Scorer, setting: Setting, texts: Sequence[str], *, rate: float, seconds: float, seed: int = 0
) -> Online:
    """Submit texts to a micro-batcher at random times, whether or not earlier ones are answered; then wait for all.

    :param rate: texts per second.
    :raises Exception: the engine's, if it fails on a text.
    """
    random = np.random.default_rng(seed)
    count = max(1, round(rate * seconds))
    # Uniform times, sorted: Poisson arrivals, given their number.
    due = np.sort(random.uniform(0, seconds, count)).tolist()
    chosen = random.integers(len(texts), size=count).tolist()
    latencies: list[float] = []
    futures: list[Future[Assessment]] = []
    start = time.perf_counter()
    with MicroBatcher(scorer, batch_tokens=setting.batch_tokens) as batcher:
        for moment, number in zip(due, chosen, strict=True):
            time.sleep(max(0.0, start + moment - time.perf_counter()))
            try:
                future = batcher.submit(texts[number])
            except QueueFull:
                continue
            future.add_done_callback(partial(_note, latencies, start + moment))
            futures.append(future)
    lasted = max(seconds, time.perf_counter() - start)
    for future in futures:
        future.result()
    p50, p99 = (np.percentile(latencies, (50, 99)) * 1000).tolist()
    return Online(setting, rate, count, len(futures) / lasted, p50, p99, 1 - len(futures) / count)


def _note(latencies: list[float], due: float, _: "Future[Assessment]") -> None:
    latencies.append(time.perf_counter() - due)


def measure_memory(bundle: Path, setting: Setting, texts: Sequence[str]) -> Memory | None:
    """Load the bundle and score the texts once in a new process; None if the system kills it or gives no figures."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure_memory_here, bundle, setting, texts).result()
        except BrokenProcessPool:
            return None


def _measure_memory_here(bundle: Path, setting: Setting, texts: Sequence[str]) -> Memory | None:
    started = time.perf_counter()
    scorer = load_for(bundle, setting)
    load_seconds = time.perf_counter() - started
    loaded = _resident_mb()
    score_all(scorer, texts, setting.batch_tokens)
    peak = _resident_mb()
    return None if loaded is None or peak is None else Memory(setting, load_seconds, loaded[0], peak[1])


def _resident_mb() -> tuple[float, float] | None:
    """This process's resident megabytes, now and at most; twice the second where only that is known."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        now, most = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
        return now, most
    except (OSError, KeyError):
        pass  # not Linux, or a sandbox without these figures
    if find_spec("resource") is None:
        return None
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most = highest * (1 if sys.platform == "darwin" else 1024) / 1e6
    return most, most
