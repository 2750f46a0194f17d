"""The `label-audit` command: one subcommand per step of an audit."""

import sys
from collections.abc import Sequence

from .commands import Command, run_command

_COMMANDS = {
    "scan": Command(
        "audit.cli.scan", "rank the labels that may be wrong, from out-of-fold probabilities", extra="audit"
    ),
    "review": Command("audit.cli.review", "look at them, in the terminal or on a web page", extra="audit"),
    "apply": Command(
        "audit.cli.apply", "write corrected records, with the provenance of each change", extra="audit"
    ),
    "revert": Command("audit.cli.revert", "restore the data, byte for byte", extra="audit"),
    "report": Command(
        "audit.cli.report",
        "what the answers show, as one HTML file; --retrain measures what corrections are worth",
        extra="audit",
    ),
    "export": Command("audit.cli.export", "tasks for Label Studio, Argilla or a table", extra="audit"),
    "import": Command(
        "audit.cli.import_answers", "answers from Label Studio, Argilla or a table", extra="audit"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status: 0 only if it did what was asked, 2 for a user's error."""
    return run_command(
        "label-audit",
        "Finds labels that may be wrong, shows them to people, and gives back better data.",
        _COMMANDS,
        sys.argv[1:] if arguments is None else arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
