"""Training speed of our loop and of transformers.Trainer with the same weights, data, precision and micro-batch.

cd bench && python -m training.throughput                                        # MiniLM on a CPU
cd bench && python -m training.throughput --device cuda --model bert-base        # random weights of that size
cd bench && python -m training.throughput --device cuda --model modernbert-base --window-tokens 512 --batch-records 64

Each contender runs in a process of its own, in turn, `--repeats` times; ratios are relative to the baseline of the same
repeat. On a CPU that is also used by others, trust the ratio by CPU time. Tokens do not include padding. MFU is 4 N FLOPs
per token for LoRA and 6 N for full fine-tuning (N: weights outside the embeddings; PaLM, appendix B, without the attention
term) divided by the chip's peak: that of the data sheet for known GPUs, otherwise that of a matrix product.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from guard import guarded

from merchantguard.core.errors import RunError

from . import throughput_runs as runs

CONTENDERS = {
    "ours": "ours, similar lengths",
    "ours-packed": "ours, packed",
    "trainer": "Trainer, padded",
    "trainer-grouped": "Trainer, group_by_length",
}
_BASELINE = "trainer"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default="minilm", help="minilm, bert-base, modernbert-base or a folder")
    parser.add_argument("--precision", choices=("no", "bf16"), default=None, help="default: bf16 on a GPU")
    parser.add_argument("--full", action="store_true", help="full fine-tuning instead of LoRA")
    parser.add_argument("--window-tokens", type=int, default=256)
    parser.add_argument("--batch-records", type=int, default=16, help="windows in a micro-batch")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (20), after 2 untimed ones")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="compiled layers in ours")
    parser.add_argument("--only", nargs="+", choices=tuple(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--out", type=Path, help="write every run's figures as JSON")
    parser.add_argument("--run", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_apart(contender: str, base: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in a process of its own.

    :raises RunError: if it fails, with the end of its messages.
    """
    options = ["--device", args.device, "--precision", args.precision, "--run", contender, "--base", base]
    for name in ("window_tokens", "batch_records", "steps"):
        options += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    options += ["--full"] * args.full + ["--compile"] * args.compile
    call = [sys.executable, "-m", "training.throughput", *options]
    bench = Path(__file__).parents[1]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=bench)
    if done.returncode:
        raise RunError(f"{CONTENDERS[contender]} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| contender | tokens/s | of Trainer, padded | by CPU time | MFU | peak memory | padding |",
        "|---|---|---|---|---|---|---|",
    ]
    for contender, rows in found.items():
        speed = median(row["tokens_per_second"] for row in rows)
        lines.append(
            f"| {CONTENDERS[contender]} | {speed:,.0f} | {_ratio(rows, found.get(_BASELINE, []), 'tokens_per_second')} | "
            f"{_ratio(rows, found.get(_BASELINE, []), 'tokens_per_cpu_second')} | "
            f"{median(row['mfu'] for row in rows):.1%} | {rows[0]['peak_memory'] / 2**20:,.0f} MiB | "
            f"{rows[0]['padding']:.1%} |"
        )
    return "\n".join(lines)


def _ratio(rows: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]], speed: str) -> str:
    """Median over the repeats of the speed relative to the baseline in the same repeat."""
    if not baseline:
        return "-"
    ratios = [row[speed] / base[speed] for row, base in zip(rows, baseline, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> int:
    args = arguments()
    args.precision = args.precision or ("bf16" if args.device == "cuda" else "no")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise RunError(
            "--device cuda: torch sees no GPU here; run it where there is one, or with --device cpu"
        )
    if args.run:
        print(json.dumps(runs.measure(args.run, args.base, args)))
        return 0
    found: dict[str, list[dict[str, Any]]] = {contender: [] for contender in args.only}
    with tempfile.TemporaryDirectory() as folder:
        base = runs.prepare_base(args.model, Path(folder))
        for repeat in range(args.repeats):
            for contender in args.only:
                print(f"repeat {repeat + 1}, {CONTENDERS[contender]} ...", file=sys.stderr)
                found[contender].append(run_apart(contender, base, args))
                print(json.dumps(found[contender][-1]), file=sys.stderr)
    first = next(iter(found.values()))[0]
    print(
        f"{args.model} on {first['device']}, {'full' if args.full else 'LoRA'}, precision {args.precision}, "
        f"{args.batch_records} windows of up to {args.window_tokens} tokens a micro-batch ({first['lengths']}), "
        f"peak {first['peak_flops'] / 1e12:.2f} TFLOP/s ({first['peak_source']})\n"
    )
    print(table(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
