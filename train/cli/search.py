"""Search for settings on the validation split: trials are pruned, a stopped search goes on, the best becomes a config."""

import argparse
import sys
from pathlib import Path

from ..batching.dataset import load_split_records
from ..report.search_report import format_trials, write_search
from ..search.search import BEST, Search, Trial
from ..search.space import load_space
from ..settings import load_settings
from .train import quiet_libraries

EPILOG = """examples:
  merchantguard search configs/minilm.yaml --out searches/lora --trials 20 \\
      --space '{lora.rank: [4, 8, 16], optim.learning_rate: {low: 1.0e-4, high: 5.0e-3, log: true}}'
  merchantguard search configs/minilm.yaml --out searches/lora --trials 40 --space space.yaml   # the same goes on
  merchantguard train searches/lora/best.yaml --out runs/best
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard search`."""
    parser.add_argument("config", type=Path, help="settings file: what stays as it is")
    parser.add_argument(
        "overrides", nargs="*", metavar="group.key=value", help="settings that override the file's"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the search's folder; one that exists goes on"
    )
    parser.add_argument("--space", required=True, help="YAML file, or YAML: settings to choices or ranges")
    parser.add_argument("--trials", type=int, default=20, help="trials in all, with those already there (20)")
    parser.add_argument(
        "--data", nargs="+", metavar="FILE", help="record files; default: data.records, or the corpus"
    )


def _say(trial: Trial) -> None:
    figure = "" if trial.figure is None else f", validation AP {trial.figure:.4f}"
    values = ", ".join(f"{name}={value}" for name, value in trial.values.items())
    print(f"trial {trial.number} {trial.state}{figure}: {values}", file=sys.stderr)


def main(args: argparse.Namespace) -> int:
    """Search as asked; the trials and the path of the best settings go to standard output."""
    quiet_libraries()
    settings = load_settings(args.config, overrides=list(args.overrides))
    if args.data:
        records = {"records": tuple(args.data)}
        settings = settings.model_copy(update={"data": settings.data.model_copy(update=records)})
    space = load_space(args.space, settings)
    data = load_split_records(settings.data, strict=False, rejects=args.out / "rejects.jsonl")
    search = Search(settings, data, space, args.out)
    trials = search.run(args.trials, report=_say)
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
