"""Measure how fast this machine scores with a bundle, and name the best setting."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import count, groupby, product
from pathlib import Path

from ...core.arguments import positive_count, positive_counts, positive_number
from ...core.errors import RecordError, SettingsError, StorageError
from ...core.files import write_json
from ...core.progress import progress
from ...data.records.readers import RowFault
from ...data.shipped import corpus_paths
from ..bundle import MODEL, Bundle
from ..bundle_reader import read_bundle
from ..engine.variants import unsupported_reason
from ..engine.workers import usable_cores
from ..scorer import load_tokenizer
from .inputs import read_inputs
from .measuring import (
    Bulk,
    Gemm,
    Memory,
    Online,
    Setting,
    Workload,
    flops_per_token,
    load_for,
    measure_bulk,
    measure_gemm,
    measure_memory,
    measure_online,
    score_all,
    spread,
)

EPILOG = """\
examples:
  merchantguard bench bundle/
  merchantguard bench bundle/ --data merchants.jsonl --texts 1000 --json figures.json
  merchantguard bench bundle/ --threads 1,2 --batch-tokens 256,512,1024,4096
  merchantguard bench bundle/ --rate 20 --seconds 60

bulk: all texts at once, with every variant that runs here, number of threads and size of batch.
online: texts that arrive one by one at random times, with the best of these settings.
evidence (the spans of a finding) is off: texts with findings take longer with it.
run it while nothing else runs: other programs use the cores, too.
"""

# Share of the bulk rate that is asked for online: near 1 every queue grows long.
_LOAD = 0.8
# Share of the cores that a machine with nothing else to do keeps busy.
_BUSY = 0.8

Show = Callable[[str], None]
"""Shows what is measured next."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All measurements.

    :param flops: of one token; None where they cannot be counted.
    :param left_out: variants that do not run here, and why.
    """

    bundle: str
    texts: int
    windows: int
    tokens: int
    cores: int
    gemm: Gemm
    flops: int | None
    left_out: Mapping[str, str]
    bulk: Sequence[Bulk]
    memory: Sequence[Memory]
    online: Online


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard bench` to a parser."""
    parser.add_argument("bundle", type=Path, help="folder that `merchantguard export` wrote")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="texts like those to be scored (default: the shipped corpus)",
    )
    parser.add_argument(
        "--texts", type=positive_count, default=256, help="most texts to use (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=positive_counts, help="numbers of cores to try, such as 1,2,4 (default: 1 and all)"
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive_counts,
        default="512,1024",
        help="sizes of batches to try (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats", type=positive_count, default=3, help="timed passes (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=positive_number, help=f"texts per second online (default: {_LOAD} of the bulk rate)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=10.0, help="length of online (default: 10)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file for all figures")


def main(args: argparse.Namespace) -> int:
    """Measure, print the tables and return the exit status.

    :raises MerchantGuardError: if the bundle, a file or an argument is not usable, or there are no texts.
    """
    if args.json and args.json.is_dir():
        raise StorageError(f"--json {args.json}: is a folder; name a file")
    if args.threads and args.threads[-1] > usable_cores():
        raise SettingsError(f"--threads {args.threads[-1]}: this process may use {usable_cores()} cores")
    bundle = read_bundle(args.bundle)
    texts = spread(_read(args.data), args.texts)
    if not texts:
        raise RecordError("--data: holds no usable record")
    work = Workload.of(texts, load_tokenizer(bundle), window_tokens=bundle.window_tokens)
    figures = _measure(args, bundle, work)
    print(_report(figures, args.bundle))
    if args.json:
        write_json(args.json, asdict(figures) | {"best": asdict(figures.bulk[0].setting)})
    return 0


def _read(names: Sequence[str] | None) -> Iterator[str]:
    def on_fault(fault: RowFault, _: str) -> None:
        print(f"left out: {fault}", file=sys.stderr)

    files = names or [str(path) for path in corpus_paths()]
    return (record.text for record in read_inputs(files, stdin_format="jsonl", on_fault=on_fault))


def _measure(args: argparse.Namespace, bundle: Bundle, work: Workload) -> Figures:
    reasons = {variant.name: unsupported_reason(variant) for variant in bundle.variants}
    variants = [name for name, reason in reasons.items() if not reason]
    # Of the plain graph: the others compute the same products by nodes of other types.
    flops = flops_per_token(bundle.path / MODEL)
    threads = args.threads or sorted({1, usable_cores()})
    settings = [Setting(*each) for each in product(variants, threads, args.batch_tokens)]
    steps = count()
    with progress("bench", total=2 + len(settings) * (args.repeats + 1) + len(variants)) as update:

        def show(what: str) -> None:
            update(next(steps), what)

        show("the machine's peak")
        gemm = measure_gemm()
        bulk = _measure_bulk(args, settings, work, flops, gemm, show)
        online = _measure_online(args, bulk[0], work, show)
        memory = _measure_memory(args.bundle, bulk, work, show)
    return Figures(
        bundle=bundle.label,
        texts=len(work.texts),
        windows=work.windows,
        tokens=work.tokens,
        cores=usable_cores(),
        gemm=gemm,
        flops=flops,
        left_out={name: reason for name, reason in reasons.items() if reason},
        bulk=bulk,
        memory=memory,
        online=online,
    )


def _measure_bulk(
    args: argparse.Namespace,
    settings: Sequence[Setting],
    work: Workload,
    flops: int | None,
    gemm: Gemm,
    show: Show,
) -> list[Bulk]:
    """All settings, the fastest first; those with the same variant and threads share a scorer."""
    found: list[Bulk] = []
    for _, (*alike,) in groupby(settings, key=lambda each: (each.variant, each.threads)):
        found += measure_bulk(
            load_for(args.bundle, alike[0]),
            alike,
            work,
            repeats=args.repeats,
            flops=flops,
            gemm=gemm,
            on_pass=lambda setting: show(_words(setting)),
        )
    return sorted(found, key=lambda row: -row.texts_per_second)


def _measure_online(args: argparse.Namespace, best: Bulk, work: Workload, show: Show) -> Online:
    rate = args.rate or _LOAD * best.texts_per_second
    show(f"online, {rate:.1f} texts/s")
    scorer = load_for(args.bundle, best.setting)
    score_all(scorer, work.texts, best.setting.batch_tokens)  # the first runs of a model are slow
    return measure_online(scorer, best.setting, work.texts, rate=rate, seconds=args.seconds)


def _measure_memory(bundle: Path, bulk: Sequence[Bulk], work: Workload, show: Show) -> list[Memory]:
    """Each variant with its fastest setting, in its own process: memory that one keeps does not count for the next."""
    found = []
    for setting in {row.setting.variant: row.setting for row in reversed(bulk)}.values():
        show(f"memory of {setting.variant}")
        found.append(measure_memory(bundle, setting, work.texts))
    return [memory for memory in found if memory is not None]


def _report(figures: Figures, bundle: Path) -> str:
    """All figures as text, with the setting to use."""
    parts = [
        f"{figures.bundle}: {figures.texts:,} texts, {figures.windows:,} windows, {figures.tokens:,} tokens",
        _peak(figures),
        "bulk, the fastest first\n" + _bulk_table(figures.bulk),
        *(f"left out: {name}: {reason}" for name, reason in figures.left_out.items()),
        "online, random (Poisson) arrivals\n" + _online_table(figures.online),
        "memory, each variant in its own process\n" + _memory_table(figures.memory),
        _advice(figures.bulk[0], bundle),
    ]
    return "\n\n".join(parts)


def _peak(figures: Figures) -> str:
    gemm, cores = figures.gemm, figures.cores
    lines = [f"peak (numpy, float32): {gemm.gflops:.0f} GFLOP/s, {gemm.busy_cores:.1f} of {cores} cores busy"]
    if gemm.busy_cores < _BUSY * cores:
        lines.append("other programs, OMP_NUM_THREADS or a quota limited it: every figure may be too low")
    if find_spec("onnx") is None:
        lines.append("the share of it that a setting reaches needs onnx: pip install 'merchantguard[export]'")
    return "\n".join(lines)


def _bulk_table(rows: Sequence[Bulk]) -> str:
    def cells(row: Bulk) -> Sequence[str]:
        speeds = f"{row.texts_per_second:,.1f}", f"{row.tokens_per_second:,.0f}"
        return *speeds, f"{row.padding:.1%}", "-" if row.of_peak is None else f"{row.of_peak:.0%}"

    return _table(("texts/s", "tokens/s", "padding", "of peak"), [(row.setting, cells(row)) for row in rows])


def _online_table(row: Online) -> str:
    rates, latencies = (row.rate, row.achieved), (row.p50_ms, row.p99_ms)
    cells = [*(f"{rate:,.1f}" for rate in rates), *(f"{each:,.0f}" for each in latencies)]
    heads = ("asked/s", "answered/s", "p50, ms", "p99, ms", "rejected")
    return _table(heads, [(row.setting, [*cells, f"{row.rejected:.1%}"])])


def _memory_table(rows: Sequence[Memory]) -> str:
    if not rows:
        return "not known on this system"

    def cells(row: Memory) -> Sequence[str]:
        return f"{row.load_seconds:.1f}", f"{row.loaded_mb:,.0f}", f"{row.peak_mb:,.0f}"

    return _table(("load, s", "loaded, MB", "peak, MB"), [(row.setting, cells(row)) for row in rows])


def _table(heads: Sequence[str], rows: Sequence[tuple[Setting, Sequence[str]]]) -> str:
    """Aligned columns, the setting first."""
    lines = [("variant", "threads", "batch tokens", *heads)]
    lines += [(each.variant, str(each.threads), f"{each.batch_tokens:,}", *cells) for each, cells in rows]
    first, *rest = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([name.ljust(first), *map(str.rjust, line, rest)]) for name, *line in lines)


def _advice(best: Bulk, bundle: Path) -> str:
    setting = best.setting
    loaded = f"{json.dumps(str(bundle))}, variant={json.dumps(setting.variant)}, threads={setting.threads}"
    return (
        f"best here: {_words(setting)}: {best.texts_per_second:,.1f} texts/s, without evidence\n\n"
        f"    scorer = Scorer.load({loaded})\n"
        f"    scorer.assess_many(texts, batch_tokens={setting.batch_tokens})\n"
        f"    MicroBatcher(scorer, batch_tokens={setting.batch_tokens})"
    )


def _words(setting: Setting) -> str:
    threads = "1 thread" if setting.threads == 1 else f"{setting.threads} threads"
    return f"variant {setting.variant} on {threads}, batches of {setting.batch_tokens:,} tokens"
