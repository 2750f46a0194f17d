"""The plan of the house, kept by a test: who may import whom, and how many modules a folder may hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "core": set(),
    "data": {"core"},
    "train": {"core", "data"},
    "serve": {"core", "data"},
    "export": {"core", "data", "train", "serve"},
    "audit": {"core", "data", "train", "serve", "export"},
    "operate": {"core", "data", "train", "serve", "export"},
}
"""What each folder may import. The command line and the quickstart, under src/, may import everything."""
FOLDERS = [name for name in ALLOWED if (ROOT / name).is_dir()]
MOST_MODULES = 13


def imports(source: str, package: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line and absolute name, in parts, of each import of a module that lies in `package`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # `from .. import serve` names a folder only behind the word import.
            yield from ((node.lineno, [*base, alias.name]) for alias in node.names)


def violations(folder: str, source: str, path: Path) -> Iterator[str]:
    """What `source`, the module `path` of `folder`, imports against the rule."""
    package = ["merchantguard", *path.parent.parts]
    for line, name in imports(source, package):
        target = name[1] if name[0] == "merchantguard" and len(name) > 1 else folder
        if target in ALLOWED and target != folder and target not in ALLOWED[folder]:
            may = ", ".join(sorted(ALLOWED[folder])) or "no other folder"
            yield f"{path}:{line}: {folder} imports {target}; {folder} may import {may}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_what_the_rule_allows(folder: str) -> None:
    found: list[str] = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        found += violations(folder, path.read_text(encoding="utf-8"), path.relative_to(ROOT))
    assert not found, "\n".join(["core <- data <- {train, serve} <- export <- {audit, operate}:", *found])


def test_no_folder_holds_too_many_modules() -> None:
    counts: dict[Path, int] = {}
    for folder in [*FOLDERS, "src"]:
        for path in (ROOT / folder).rglob("*.py"):
            counts[path.parent.relative_to(ROOT)] = counts.get(path.parent.relative_to(ROOT), 0) + 1
    full = [f"{folder}: {count} modules" for folder, count in sorted(counts.items()) if count > MOST_MODULES]
    assert not full, "\n".join([f"a folder holds at most {MOST_MODULES} modules; group them:", *full])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("from ...serve.scorer import Scorer", "serve"),
        ("from ... import serve", "serve"),
        ("import merchantguard.serve.scorer as s", "serve"),
        ("from merchantguard.audit import cli", "audit"),
        ("def late():\n    from ...export import build", "export"),
        ("from ...core.files import write_json", None),
        ("from ..calibration import thresholds", None),
        ("from ... import __version__", None),
        ("import numpy.core", None),
    ],
)
def test_the_rule_sees_every_kind_of_import(source: str, target: str | None) -> None:
    found = list(violations("train", source, Path("train/fitting/trainer.py")))
    line = source.count("\n") + 1
    expected = f"train/fitting/trainer.py:{line}: train imports {target}; train may import core, data"
    assert found == ([] if target is None else [expected])
