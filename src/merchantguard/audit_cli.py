"""The `label-audit` command: one subcommand per step of an audit, each imported only when it is asked for."""

import sys
from collections.abc import Sequence

from .commands import Command, run_command

_COMMANDS = {
    "scan": Command("audit.cli.scan", "rank the labels that may be wrong, from out-of-fold probabilities"),
    "review": Command("audit.cli.review", "look at them, in the terminal or in a web page"),
    "apply": Command("audit.cli.apply", "write corrected records, with where each change comes from"),
    "revert": Command("audit.cli.revert", "give back the data as it was, to the byte"),
    "report": Command("audit.cli.report", "what the answers say: one HTML file, and --retrain"),
    "export": Command("audit.cli.export", "tasks for Label Studio, Argilla or a table"),
    "import": Command("audit.cli.import_answers", "answers from Label Studio, Argilla or a table"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; gives the exit status: 0 only when it did what was asked, 2 for a user's error."""
    return run_command(
        "label-audit",
        "Finds labels that may be wrong, shows them to people, and gives back better data.",
        _COMMANDS,
        sys.argv[1:] if arguments is None else arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
