"""The `merchantguard` command: one subcommand per task."""

import sys
from collections.abc import Sequence

from .commands import Command, run_command

_COMMANDS = {
    "quickstart": Command("quickstart", "train, export and score the example pages: the whole way once"),
    "train": Command("train.cli.train", "train, calibrate, certify and evaluate a run"),
    "search": Command(
        "train.cli.search", "search for settings on the validation split and write the best as a config"
    ),
    "evaluate": Command("train.cli.evaluate", "figures and a report of a run on other records"),
    "compare": Command("train.cli.compare", "compare two runs on the same records: which figures differ"),
    "recalibrate": Command(
        "operate.recalibration.cli", "fit a bundle's thresholds to your own records, without training"
    ),
    "export": Command("export.cli", "turn a run into a bundle, through the parity gate"),
    "score": Command("serve.cli.score", "score files with a bundle"),
    "behaviour": Command(
        "serve.cli.behaviour", "test a bundle on plain offers and ordinary lines, changed and framed"
    ),
    "serve": Command("operate.service.cli", "serve a bundle over HTTP"),
    "actions": Command("operate.actions.cli", "check an action table, try it on a log, decide appeals"),
    "log": Command("operate.log.cli", "verify, search and export a decision log"),
    "adjudicate": Command(
        "operate.adjudicate.cli", "ask a language model about uncertain cases; certify it, learn from it"
    ),
    "monitor": Command(
        "operate.monitor.cli", "precision, recall, drift and alarms in production, from a decision log"
    ),
    "bench": Command(
        "serve.cli.bench",
        "measure a bundle on this machine: texts per second, latency, the best setting",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status: 0 only if it did what was asked, 2 for a user's error."""
    return run_command(
        "merchantguard",
        "Reads merchants' own text and says which policies it violates.",
        _COMMANDS,
        sys.argv[1:] if arguments is None else arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
