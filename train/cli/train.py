"""Train a run: records in, a folder with adapter, calibration, certified thresholds, figures and report out."""

import argparse
import sys
from pathlib import Path

from datasets import disable_progress_bars as disable_dataset_bars
from transformers.utils.logging import disable_progress_bar as disable_weight_bars

from ..batching.dataset import load_split_records
from ..pipeline import train_run
from ..processes import process_state
from ..settings import load_settings

EPILOG = """examples:
  merchantguard train --out runs/first
  merchantguard train configs/minilm.yaml --out runs/mine --data records.jsonl optim.epochs=5 lora.rank=8
  merchantguard train configs/minilm.yaml --out runs/mine --resume
  accelerate launch -m merchantguard.train configs/ettin-150m.yaml --out runs/ettin
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard train`."""
    parser.add_argument("config", nargs="?", type=Path, help="settings file; without it the defaults apply")
    parser.add_argument(
        "overrides", nargs="*", metavar="group.key=value", help="settings that override the file's"
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--data", nargs="+", metavar="FILE", help="record files; default: data.records, or the corpus"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out, if any"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )


def quiet_libraries() -> None:
    """Leave the terminal to the job's own progress bar."""
    disable_dataset_bars()
    disable_weight_bars()


def main(args: argparse.Namespace) -> int:
    """Train as asked; the path of the run goes to standard output."""
    config, overrides = args.config, list(args.overrides)
    if config is not None and "=" in str(config):  # no file was named: the first word is an override
        config, overrides = None, [str(config), *overrides]
    settings = load_settings(config, overrides=overrides)
    if args.data:
        records = {"records": tuple(args.data)}
        settings = settings.model_copy(update={"data": settings.data.model_copy(update=records)})
    rejects = args.out / "rejects.jsonl"
    data = load_split_records(settings.data, strict=args.strict, rejects=rejects)
    if data.rejected:
        print(f"{data.rejected} bad rows were set aside in {rejects}", file=sys.stderr)
    quiet_libraries()
    run = train_run(settings, data, args.out, resume=args.resume)
    if process_state().is_main_process:
        print(run)
    return 0
