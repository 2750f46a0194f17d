"""Scoring needs only numpy, onnxruntime and tokenizers; and every package is shipped."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = [
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "pandas",
    "sklearn",
    "scipy",
    "onnx",
    "pyarrow",
    "yaml",
    "rich",
    "pydantic",
]


@pytest.mark.parametrize("module", ["merchantguard", "merchantguard.serve", "merchantguard.serve.cli.score"])
def test_scoring_imports_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_export_help_imports_nothing_heavy() -> None:
    program = f"import sys, merchantguard.export.cli; print(*sorted(set({HEAVY}) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []


def test_every_package_on_disk_is_listed_in_pyproject() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = settings["package-dir"]
    on_disk = set[str]()
    for package in (
        "merchantguard.data",
        "merchantguard.train",
        "merchantguard.serve",
        "merchantguard.export",
        "merchantguard.core",
        "merchantguard.audit",
        "merchantguard.operate",
    ):
        root = ROOT / folders[package]
        for path in root.rglob("__init__.py"):
            on_disk.add(".".join([package, *path.parent.relative_to(root).parts]))
    on_disk |= {"merchantguard", "merchantguard.configs"}
    assert set(settings["packages"]) == on_disk
    # setuptools maps each package separately: one that is listed but not mapped is not found.
    assert set(folders) == on_disk


def test_the_light_requirements_stay_light() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert names == {"numpy", "onnxruntime", "tokenizers"}
