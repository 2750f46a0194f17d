"""Search for settings on the validation split; a stopped search can be continued, and the best becomes a config."""

import argparse
import sys
from pathlib import Path

from ...core.arguments import positive_count
from ..batching.dataset import load_split_records
from ..search.report import format_trials, write_search
from ..search.search import BEST, Search, Trial
from ..search.space import load_space
from .options import add_data, add_overrides, chosen_settings, quiet_libraries

EPILOG = """examples:
  merchantguard search configs/minilm.yaml --out searches/lora --trials 20 \\
      --space '{lora.rank: [4, 8, 16], optim.learning_rate: {low: 1.0e-4, high: 5.0e-3, log: true}}'
  merchantguard search configs/minilm.yaml --out searches/lora --trials 40 --space space.yaml   # continued
  merchantguard train searches/lora/best.yaml --out runs/best
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard search`."""
    parser.add_argument("config", type=Path, help="settings file: everything that is not searched")
    add_overrides(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="the search's folder; a search in it is continued"
    )
    parser.add_argument(
        "--space", required=True, help="YAML file, or YAML: choices or a range for each setting"
    )
    parser.add_argument(
        "--trials", type=positive_count, default=20, help="trials in all, earlier ones included (20)"
    )
    add_data(parser)


def _print_trial(trial: Trial) -> None:
    figure = "" if trial.figure is None else f", validation AP {trial.figure:.4f}"
    values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
    print(f"trial {trial.number} {trial.state}{figure}: {values}", file=sys.stderr)


def main(args: argparse.Namespace) -> int:
    """Search as asked; the trials and the path of the best settings go to standard output."""
    quiet_libraries()
    settings = chosen_settings(args.config, args.overrides, args.data)
    space = load_space(args.space, settings)
    data = load_split_records(settings.data, strict=False, rejects=args.out / "rejects.jsonl")
    search = Search(settings, data, space, args.out)
    trials = search.run(args.trials, on_trial=_print_trial)
    best = args.out / BEST
    write_search(
        args.out / "search.html",
        trials,
        title=f"{settings.name}: search",
        errors=search.errors(),
        best=best.read_text(encoding="utf-8"),
    )
    print(format_trials(trials))
    print(best)
    return 0
