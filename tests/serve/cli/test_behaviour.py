import json
from pathlib import Path

import pytest

from merchantguard.cli import main


def _suite(folder: Path) -> Path:
    folder.mkdir()
    offers = [
        ("We sell crimson goods", "alpha"),
        ("A shy walrus", "beta"),
        ("Paper lanterns", "lanterns\u202e"),
    ]
    rows = [{"id": f"o{n}", "text": text, "labels": [policy]} for n, (text, policy) in enumerate(offers)]
    (folder / "offers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "frames.jsonl").write_text(json.dumps({"kind": "greeting", "before": "Hello.\n"}) + "\n")
    return folder


def test_a_suite_of_ones_own(bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "behaviour.json"
    assert main(["behaviour", str(bundle_path), "--suite", str(_suite(tmp_path / "suite")), "--out", str(out),
                 "--every", "1"]) == 0  # fmt: skip
    shown = capsys.readouterr()
    assert "plain offers found" in shown.out
    assert "100.0 % (2 of 2)" in shown.out
    assert "no such policy: lanterns" in shown.err
    assert "\u202e" not in shown.err
    figures = json.loads(out.read_text())
    assert figures["unknown_policies"] == ["lanterns\u202e"]
    assert figures["framed"]["greeting"] == {"right": 2, "of": 2, "share": 1.0}


def test_the_shipped_suite_has_none_of_these_policies(
    bundle_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["behaviour", str(bundle_path)]) == 0
    assert "ordinary lines sent to review" in capsys.readouterr().out


def test_a_folder_without_a_suite_is_a_users_error(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["behaviour", str(bundle_path), "--suite", str(tmp_path)]) == 2
    assert "no text to test with" in capsys.readouterr().err
