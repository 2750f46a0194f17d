"""Write the reference pages that come from the code: settings, command lines, Python API.

python docs/generate.py           # write them
python docs/generate.py --check   # exit status 1 if one of them is out of date
"""

import argparse
import ast
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from merchantguard import audit_cli, cli, serve
from merchantguard.commands import Command
from merchantguard.serve.online.stats import Histogram, Stats
from merchantguard.train import settings

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- Written by docs/generate.py from the code: edit the docstrings and help texts there. -->\n"
# `Positive`, `Share` and the like are written with the limits of their values.
_LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def settings_page() -> str:
    """All settings, a table for each group: name, type, default, what it does."""
    top = _attribute_docstrings(settings.Settings)
    lines = [
        "# Settings",
        "",
        _NOTE,
        "A settings file is YAML with one mapping per group; any value can be overridden on the command line as",
        "`group.key=value`. The resolved settings, defaults included, are written to `settings.yaml` in the run's folder.",
        "",
        *_fields_table("", settings.Settings, top),
    ]
    for name, field in settings.Settings.model_fields.items():
        if _is_group(field.annotation):
            lines += ["", f"## `{name}`", "", _joined(field.annotation.__doc__), ""]
            lines += _fields_table(f"{name}.", field.annotation, _attribute_docstrings(field.annotation))
    return "\n".join(lines) + "\n"


def _is_group(annotation: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields_table(prefix: str, model: type[BaseModel], docs: Mapping[str, str]) -> list[str]:
    rows = [
        (f"`{prefix}{name}`", _type_text(model, name), f"`{_default(field)}`", docs.get(name, ""))
        for name, field in model.model_fields.items()
        if not _is_group(field.annotation)
    ]
    return _table(("setting", "values", "default", "meaning"), rows)


def _attribute_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The text that follows each field in the source of a class."""
    body = _class_source(model)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = _joined(text)
    return found


def _type_text(model: type[BaseModel], name: str) -> str:
    """The values a field takes, in words: its choices, or its type with its limits."""
    field = model.model_fields[name]
    text = _annotation_text(field.annotation)
    limits = [
        f"{sign} {getattr(item, key):g}"
        for item in field.metadata
        for key, sign in _LIMITS.items()
        if isinstance(getattr(item, key, None), int | float)
    ]
    return ", ".join([text, *limits])


def _annotation_text(annotation: object) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _annotation_text(arguments[0])
    if origin is tuple:
        return f"list of {_annotation_text(arguments[0])}"
    if arguments:
        return " or ".join(_annotation_text(argument) for argument in arguments)
    names = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", type(None): "`null`"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))  # type: ignore[call-overload]


def _default(field: typing.Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(str, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def commands_page() -> str:
    """Both command lines: for each subcommand its purpose, options and examples."""
    lines = [
        "# Command lines",
        "",
        _NOTE,
        "Every command has `--help`. Progress goes to standard error, results to standard output or to files. The exit status",
        "is 0 if the command did what was asked, and 2 for an error that the message explains, unless stated otherwise below.",
    ]
    for program, module in (("merchantguard", cli), ("label-audit", audit_cli)):
        for name, command in module._COMMANDS.items():
            lines += ["", f"## {program} {name}", "", *_command(f"{program} {name}", command)]
    return "\n".join(lines) + "\n"


def _command(program: str, command: Command) -> Iterator[str]:
    module = importlib.import_module(f"merchantguard.{command.module}")
    parser = argparse.ArgumentParser(prog=program)
    module.add_arguments(parser)
    yield from (_joined(module.__doc__), "")
    rows = [
        (_argument_text(action), _help_text(action, program))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help is not argparse.SUPPRESS
    ]
    yield from _table(("argument", "meaning"), rows)
    if epilog := getattr(module, "EPILOG", "").strip("\n"):
        yield from ("", "```text", epilog, "```")


def _argument_text(action: argparse.Action) -> str:
    """How an argument is written: `--out OUT`, `FILE ...`, or an optional one in brackets."""
    value = action.metavar if isinstance(action.metavar, str) else None
    if action.choices is not None and value is None:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = value or (action.dest.upper() if action.option_strings else action.dest)
    if action.nargs in ("*", "+"):
        value += " ..."
    if not action.option_strings:
        return f"`{value}`" if action.required else f"`[{value}]`"
    written = action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {value}"
    return f"`{written}`" + (" (required)" if action.required else "")


def _help_text(action: argparse.Action, program: str) -> str:
    return (action.help or "") % {**vars(action), "prog": program}


# Public to other modules of the package, of no use to its users.
_INTERNAL = {"MicroBatcher.reset", "Scorer.clear_early"}
PUBLIC = (*(getattr(serve, name) for name in serve.__all__), Stats, Histogram)


def python_page() -> str:
    """The public classes of `merchantguard.serve`, from their docstrings."""
    lines = [
        "# Python API",
        "",
        _NOTE,
        "`from merchantguard.serve import ...`. The package loads numpy, onnxruntime and tokenizers and nothing else of weight.",
        "How to use it in a service: [Score in a service](../how-to/service.md).",
    ]
    for kind in sorted(PUBLIC, key=lambda kind: kind.__name__):
        lines += ["", f"## {kind.__name__}", "", *_class(kind)]
    return "\n".join(lines) + "\n"


def _class(kind: type) -> Iterator[str]:
    source = _class_source(kind)
    if not issubclass(kind, Exception):
        yield from ("```python", f"class {kind.__name__}{_constructor(source)}", "```", "")
    yield from _docstring(kind.__doc__)
    for part in source.body:
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        place, text = f"{kind.__name__}.{part.name}", ast.get_docstring(part)
        if part.name.startswith("_") or place in _INTERNAL or not text:
            continue
        yield from ("", f"### {place}", "")
        if "property" not in {ast.unparse(each).removeprefix("cached_") for each in part.decorator_list}:
            word = "async " if isinstance(part, ast.AsyncFunctionDef) else ""
            returned = f" -> {_annotation(part.returns)}" if part.returns else ""
            yield from ("```python", f"{word}{part.name}({_parameters(part)}){returned}", "```", "")
        yield from _docstring(text)


def _class_source(kind: type) -> ast.ClassDef:
    [body] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    return body


def _constructor(source: ast.ClassDef) -> str:
    """The parameters of `__init__`, or the fields of a dataclass."""
    for part in source.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return f"({_parameters(part)})"
    fields = [
        ast.unparse(part)
        for part in source.body
        if isinstance(part, ast.AnnAssign) and "field(" not in ast.unparse(part)
    ]
    return f"({', '.join(fields)})"


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The parameters as they stand in the source, without `self` or `cls`."""
    given = function.args
    given.args = [each for each in given.args if each.arg not in ("self", "cls")]
    return ast.unparse(given)


def _annotation(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _docstring(text: str | None) -> Iterator[str]:
    """Markdown of a docstring with `:param x:` and `:raises X:` fields."""
    body, *fields = re.split(r"^:(?=param|raises|return)", inspect.cleandoc(text or ""), flags=re.MULTILINE)
    yield body.strip()
    if fields:
        yield ""
    for field in fields:
        head, _, meaning = field.partition(":")
        word, _, name = head.partition(" ")
        shown = f"raises `{name}`" if word == "raises" else f"`{name}`"
        yield f"- {shown}: {_joined(meaning)}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [head, ("---",) * len(head), *rows]]
    return ["| " + " | ".join(row) + " |" for row in cells] if rows else []


def _joined(text: str | None) -> str:
    return " ".join((text or "").split())


PAGES = {"settings.md": settings_page, "command-lines.md": commands_page, "python.md": python_page}


def outdated() -> list[Path]:
    """The generated pages whose content on the disk is not what the code says."""
    paths = {REFERENCE / name: page for name, page in PAGES.items()}
    return [
        path
        for path, page in paths.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != page()
    ]


def main() -> int:
    """Write the pages, or with --check name those that are out of date."""
    if sys.argv[1:] == ["--check"]:
        stale = outdated()
        for path in stale:
            print(f"{path}: out of date; run python docs/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
