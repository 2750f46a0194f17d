"""Train a run: records in, a folder with adapter, calibration, certified thresholds, figures and report out."""

import argparse
import sys
from pathlib import Path

from ..batching.dataset import load_split_records
from ..pipeline import train_run
from ..processes import process_state
from ..run import SETTINGS
from .options import add_data, add_overrides, add_strict, chosen_settings, quiet_libraries

EPILOG = """examples:
  merchantguard train --out runs/first
  merchantguard train configs/minilm.yaml --out runs/mine --data records.jsonl optim.epochs=5 lora.rank=8
  merchantguard train --out runs/mine --resume
  accelerate launch -m merchantguard.train configs/ettin-150m.yaml --out runs/ettin
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard train`."""
    parser.add_argument("config", nargs="?", type=Path, help="settings file; without it the defaults apply")
    add_overrides(parser)
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    add_data(parser)
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in --out, if there is one"
    )
    add_strict(parser)


def main(args: argparse.Namespace) -> int:
    """Train as asked; the path of the run goes to standard output."""
    config, overrides = args.config, list(args.overrides)
    if config is not None and "=" in str(config):  # without a file the first argument is an override
        config, overrides = None, [str(config), *overrides]
    if args.resume and config is None and not overrides and not args.data:
        # An interrupted run goes on as it began.
        stored = args.out / SETTINGS
        config = stored if stored.is_file() else None
    settings = chosen_settings(config, overrides, args.data)
    rejects = args.out / "rejects.jsonl"
    data = load_split_records(settings.data, strict=args.strict, rejects=rejects)
    if data.rejected:
        print(f"{data.rejected} bad rows were set aside in {rejects}", file=sys.stderr)
    quiet_libraries()
    run = train_run(settings, data, args.out, resume=args.resume)
    if process_state().is_main_process:
        print(run)
    return 0
