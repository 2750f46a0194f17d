import argparse
from pathlib import Path

import pytest

from merchantguard.core.errors import RunError
from merchantguard.export import cli
from merchantguard.serve import Scorer
from merchantguard.train import run as runs
from merchantguard.train.run import LoadedRun


def export(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.main(parser.parse_args(list(map(str, arguments))))


def test_export_prints_the_bundle_and_its_parity(
    run: LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "load_run", lambda path: run)
    assert export("runs/tiny", tmp_path / "bundle", "--no-fused") == 0
    output, errors = capsys.readouterr()
    assert output == f"{tmp_path / 'bundle'}\n"
    assert "model.onnx: probabilities within" in errors
    assert Scorer.load(tmp_path / "bundle", threads=1).assess("A walrus.").bundle == "tiny@1"


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        export(tmp_path, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
