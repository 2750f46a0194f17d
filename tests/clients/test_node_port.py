"""The Node port against the Python reference: clean text, windows, probabilities, decisions, spans."""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from merchantguard.core.files import read_json, write_json
from merchantguard.export.golden import GOLDEN, write_golden
from merchantguard.serve.bundle import document_digest
from merchantguard.serve.bundle_reader import read_bundle

NODE = Path(__file__).parents[2] / "clients" / "node"
Compare = Callable[[Path, Path], tuple[int, dict[str, Any], str]]


@pytest.fixture
def compare(need: Callable[[str, str], str]) -> Compare:
    """Runs the port's own comparison: exit status, summary and differences."""
    node = need("node", "nodejs")
    if not NODE.joinpath("node_modules", "tokenizers").is_dir():
        pytest.skip("clients/node/node_modules is missing: npm ci --prefix clients/node (.ci/run does)")

    def run(bundle: Path, golden: Path) -> tuple[int, dict[str, Any], str]:
        command = [node, str(NODE / "test" / "golden.js"), str(bundle), str(golden)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
        return done.returncode, json.loads(done.stdout or "{}"), done.stderr

    return run


@pytest.fixture(scope="module")
def texts(odd_texts: Callable[..., list[str]], junk: Callable[..., str]) -> list[str]:
    return [*odd_texts(1000), *(junk(800, seed) for seed in range(40)), junk(1_000_000)]


@pytest.mark.slow
def test_a_thousand_texts(
    compare: Compare, make_bundle: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", attribution=True)
    write_golden(read_bundle(bundle), tmp_path, texts)
    status, summary, differences = compare(bundle, tmp_path / GOLDEN)
    assert (status, differences) == (0, "")
    assert summary["rows"] == len(texts)
    assert summary["furthest"] <= 1e-4


@pytest.mark.parametrize("pooling", ["max", "attention"])
def test_evidence_that_is_searched_for(
    compare: Compare, make_bundle: Callable[..., Path], texts: list[str], tmp_path: Path, pooling: str
) -> None:
    crimson = [
        f"{text[:300]}. We sell crimson goods.\nThe walrus is copper. {text[:200]}" for text in texts[:60]
    ]
    bundle = make_bundle(tmp_path / "bundle", pooling=pooling, languages=["en"])
    write_golden(read_bundle(bundle), tmp_path, [*texts[:40], *crimson])
    assert sum(bool(json.loads(line)["findings"]) for line in (tmp_path / GOLDEN).open()) > 10
    status, summary, differences = compare(bundle, tmp_path / GOLDEN)
    assert (status, differences) == (0, "")
    assert summary["rows"] == 100


def test_a_difference_is_found(compare: Compare, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    write_golden(read_bundle(bundle), tmp_path, ["We sell crimson goods."])
    row = json.loads((tmp_path / GOLDEN).read_text(encoding="utf-8"))
    row["probabilities"] = {key: abs(value - 2e-4) for key, value in row["probabilities"].items()}
    (tmp_path / GOLDEN).write_text(json.dumps(row) + "\n", encoding="utf-8")
    status, summary, _ = compare(bundle, tmp_path / GOLDEN)
    assert status == 1
    assert summary["differences"] == len(row["probabilities"])


def _edited(document: dict[str, Any]) -> None:
    document["any_violation"] = {"review": 0.9}


def _other_version(document: dict[str, Any]) -> None:
    document["format_version"] = 2


def _outside(document: dict[str, Any]) -> None:
    document["files"]["../secret"] = "0" * 64
    document["digest"] = document_digest(document)


def _damaged(document: dict[str, Any]) -> None:
    document["files"]["model.onnx"] = "0" * 64
    document["digest"] = document_digest(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_edited, "digest is not that of the content"),
        (_other_version, "format_version is 2"),
        (_outside, '"../secret" is not a plain name'),
        (_damaged, "model.onnx: SHA-256"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(
    compare: Compare,
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    bundle = make_bundle(tmp_path / "bundle", name="caf\u00e9 \U0001f600")
    document = read_json(bundle / "bundle.json")
    document["digest"] = document_digest(document)
    write_json(bundle / "bundle.json", document)
    write_golden(read_bundle(bundle), tmp_path, ["text"])
    assert compare(bundle, tmp_path / GOLDEN)[0] == 0  # whole: the digest is understood, numbers and all
    change(document)
    write_json(bundle / "bundle.json", document)
    status, _, differences = compare(bundle, tmp_path / GOLDEN)
    assert status == 1
    assert message in differences


def test_the_tables_are_those_of_the_reference() -> None:
    stored = read_json(NODE / "data" / "unicode.json")
    if unicodedata.unidata_version != stored["unicode"]:
        pytest.skip(
            f"this Python knows Unicode {unicodedata.unidata_version}, the tables {stored['unicode']}"
        )
    made = subprocess.run(
        [sys.executable, str(NODE / "make_tables.py")], capture_output=True, check=True, timeout=120
    )
    assert json.loads(made.stdout) == stored
