"""The `merchantguard` command: one subcommand per task."""

import sys
from collections.abc import Sequence

from .commands import Command, run_command

_COMMANDS = {
    "quickstart": Command(
        "quickstart", "train, export and score the example pages: the whole way once", extra="export"
    ),
    "check": Command(
        "data.check.cli", "what record files hold and what that is enough for, before training", extra="train"
    ),
    "train": Command("train.cli.train", "train, calibrate, certify and evaluate a run", extra="train"),
    "search": Command(
        "train.cli.search",
        "search for settings on the validation split and write the best as a config",
        extra="search",
    ),
    "evaluate": Command(
        "train.cli.evaluate", "figures and a report of a run on other records", extra="train"
    ),
    "compare": Command(
        "train.cli.compare", "compare two runs on the same records: which figures differ", extra="train"
    ),
    "recalibrate": Command(
        "operate.recalibration.cli",
        "fit a bundle's thresholds to your own records, without training",
        extra="operate,train",
    ),
    "export": Command("export.cli", "turn a run into a bundle, through the parity gate", extra="export"),
    "score": Command("serve.cli.score", "score files with a bundle"),
    "behaviour": Command(
        "serve.cli.behaviour", "test a bundle on plain offers and ordinary lines, changed and framed"
    ),
    "serve": Command("operate.service.cli", "serve a bundle over HTTP", extra="http"),
    "actions": Command(
        "operate.actions.cli", "check an action table, try it on a log, decide appeals", extra="operate"
    ),
    "log": Command("operate.log.cli", "verify, search and export a decision log", extra="operate"),
    "adjudicate": Command(
        "operate.adjudicate.cli",
        "ask a language model about uncertain cases; certify it, learn from it",
        extra="llm",
    ),
    "monitor": Command(
        "operate.monitor.cli",
        "precision, recall, drift and alarms in production, from a decision log",
        extra="operate",
    ),
    "queue": Command(
        "operate.queue.cli",
        "what reviewers see next, their answers, and what another queue would find",
        extra="operate",
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
