"""The command line as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from merchantguard.audit_cli import _COMMANDS as _AUDIT_COMMANDS
from merchantguard.cli import _COMMANDS
from merchantguard.cli import main as command

ROOT = Path(__file__).parents[1]
COMMANDS = ("quickstart", "train", "search", "evaluate", "compare", "export", "score", "bench")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert name in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command([name, "--help"])
    assert stopped.value.code == 0
    assert f"merchantguard {name} " in capsys.readouterr().out.partition("example")[2]


def test_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["trian"]) == 2
    assert "'trian' is not a command" in capsys.readouterr().err
    assert command([]) == 2


def test_a_users_error_is_shown_without_a_traceback(tmp_path: Path) -> None:
    call = [
        sys.executable,
        "-m",
        "merchantguard.cli",
        "export",
        str(tmp_path / "nothing"),
        str(tmp_path / "bundle"),
    ]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is not a finished run" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_the_quickstart_goes_from_corpus_to_scored_pages(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quickstart"
    tiny = [
        f"model.base={tiny_base}",
        "model.sha256=null",
        "model.window_tokens=32",
        "model.stride_tokens=8",
        "model.max_windows=4",
        "optim.max_steps=6",
        "optim.mixed_precision=no",
    ]
    call = ["quickstart", "--out", str(out), "--examples", str(ROOT / "examples"), "--set", *tiny]
    assert command(call) == 0
    shown = capsys.readouterr().out
    assert str(out / "run" / "report.html") in shown
    assert "summit-circle.html" in shown
    assert (out / "run" / "report.html").is_file()
    bundle = json.loads((out / "bundle" / "bundle.json").read_text())
    assert all(parity["max_difference"] <= 1e-4 for parity in bundle["parity"])
    # The second time the run is there: nothing is trained again.
    assert command(call) == 0
    assert "is already finished" in capsys.readouterr().err


# As after `pip install merchantguard`: of other people's packages only those of the scoring path, and what they need.
_BASE_INSTALL = """
import importlib.metadata, re, sys
needed, todo = set(), ["numpy", "onnxruntime", "tokenizers"]
while todo:
    name = todo.pop().lower().replace("_", "-")
    if name in needed:
        continue
    needed.add(name)
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        continue
    todo += [re.match("[A-Za-z0-9._-]+", line)[0] for line in lines if "extra ==" not in line]
away = {
    module
    for module, owners in importlib.metadata.packages_distributions().items()
    if not {owner.lower().replace("_", "-") for owner in owners} & (needed | {"merchantguard"})
}
class Away:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in away:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Away())
from merchantguard import audit_cli, cli
for program, module in {"merchantguard": cli, "label-audit": audit_cli}.items():
    for name in module._COMMANDS:
        print(f"== {program} {name}", file=sys.stderr)
        try:
            status = module.main([name, "--help"])
        except SystemExit as stopped:
            status = stopped.code
        print(f"status {status}", file=sys.stderr)
"""


def test_the_base_install_names_the_missing_extra_of_every_command() -> None:
    call = [sys.executable, "-c", _BASE_INSTALL]
    result = subprocess.run(call, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    shown = result.stderr.split("== ")[1:]
    assert len(shown) == len(_COMMANDS) + len(_AUDIT_COMMANDS)
    assert any("pip install" in each for each in shown)
    for each in shown:
        named = "pip install 'merchantguard[" in each and "status 2" in each
        assert named or "status 0" in each, each
