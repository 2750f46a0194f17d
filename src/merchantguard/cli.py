"""The `merchantguard` command: one subcommand per job, each imported only when it is asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from . import __version__


@dataclass(frozen=True, slots=True)
class _Command:
    module: str
    """Module that offers `add_arguments(parser)`, `main(args) -> int` and, for --help, `EPILOG`."""
    summary: str


_COMMANDS = {
    "quickstart": _Command("quickstart", "train, export and score the examples: everything once"),
    "train": _Command("train.cli", "train, calibrate, certify and evaluate a run"),
    "evaluate": _Command("train.evaluate_cli", "figures and a report of a run on other records"),
    "export": _Command("export.cli", "turn a run into a bundle, through the parity gate"),
    "score": _Command("serve.cli", "score files with a bundle"),
    "bench": _Command(
        "serve.bench_cli",
        "what this machine can do with a bundle: texts per second, latency, the best setting",
    ),
}


def _usage() -> str:
    lines = [f"  {name:<12}{command.summary}" for name, command in _COMMANDS.items()]
    return (
        "usage: merchantguard COMMAND ...\n\nReads merchants' own text and says which policies it violates.\n\n"
        + "\n".join(lines)
        + "\n\nmerchantguard COMMAND --help shows a command's options and examples.\n"
    )


def _run(name: str, arguments: Sequence[str]) -> int:
    # A string, not an import statement: the root knows the folders' names but needs none of their libraries.
    module = importlib.import_module(f"{__package__}.{_COMMANDS[name].module}")
    parser = argparse.ArgumentParser(
        prog=f"merchantguard {name}",
        description=module.__doc__,
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    result: int = module.main(parser.parse_intermixed_args(arguments))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; gives the exit status: 0 only when it did what was asked, 2 for a user's error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] == "--version":
        print(f"merchantguard {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help") or given[0] not in _COMMANDS:
        known = not given or given[0] in ("-h", "--help")
        if not known:
            print(f"merchantguard: {given[0]!r} is not a command\n", file=sys.stderr)
        print(_usage(), file=sys.stdout if known else sys.stderr, end="")
        return 0 if given and known else 2
    errors = importlib.import_module(f"{__package__}.data.errors")
    try:
        return _run(given[0], given[1:])
    except errors.MerchantGuardError as error:
        print(f"merchantguard {given[0]}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1  # the reader of a pipe, such as `head`, has seen enough
    except KeyboardInterrupt:
        print(f"merchantguard {given[0]}: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
