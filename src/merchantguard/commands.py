"""Command lines with subcommands, each imported only when it is called."""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import __version__


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: `module` offers `add_arguments(parser)`, `main(args) -> int` and, for --help, `EPILOG`.

    `extra` is what pip installs for it.
    """

    module: str
    summary: str
    extra: str = "cli"


def run_command(program: str, purpose: str, commands: Mapping[str, Command], arguments: Sequence[str]) -> int:
    """Run the subcommand that the first argument names; returns the exit status, 2 for a user's error."""
    given = list(arguments)
    if given and given[0] == "--version":
        print(f"{program} {__version__}")
        return 0
    if not given or given[0] in ("-h", "--help") or given[0] not in commands:
        known = not given or given[0] in ("-h", "--help")
        if not known:
            print(f"{program}: {given[0]!r} is not a command\n", file=sys.stderr)
        print(_usage(program, purpose, commands), file=sys.stdout if known else sys.stderr, end="")
        return 0 if given and known else 2
    errors = importlib.import_module(f"{__package__}.core.errors")
    try:
        return _run(program, given[0], commands[given[0]], given[1:])
    except errors.MerchantGuardError as error:
        print(f"{program} {given[0]}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", __package__):
            raise  # a fault of this package, which no installation mends
        extra = commands[given[0]].extra
        print(
            f"{program} {given[0]}: `{missing}` is required: pip install 'merchantguard[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        return 1  # the reader of a pipe, such as `head`, has seen enough
    except KeyboardInterrupt:
        print(f"{program} {given[0]}: interrupted", file=sys.stderr)
        return 130


def _usage(program: str, purpose: str, commands: Mapping[str, Command]) -> str:
    lines = [f"  {name:<12}{command.summary}" for name, command in commands.items()]
    return (
        f"usage: {program} COMMAND ...\n\n{purpose}\n\n"
        + "\n".join(lines)
        + f"\n\n{program} COMMAND --help shows a command's options and examples.\n"
    )


def _run(program: str, name: str, command: Command, arguments: Sequence[str]) -> int:
    # By name, so that --help needs none of the folders' libraries.
    module = importlib.import_module(f"{__package__}.{command.module}")
    parser = argparse.ArgumentParser(
        prog=f"{program} {name}",
        description=module.__doc__,
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    # Options may stand between files, which argparse cannot do for commands with subcommands.
    parse = parser.parse_args if parser._subparsers is not None else parser.parse_intermixed_args
    result: int = module.main(parse(arguments))
    return result
