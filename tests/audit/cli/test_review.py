"""The command `label-audit review`."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from merchantguard.audit_cli import main


def test_help_shows_keys_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["review", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "v violates, n does not violate" in shown
    assert "--bundle" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "label-audit scan"),
        (["--web"], "label-audit scan"),
        (["--reviewer", "a\nb"], "reviewer"),
        (["--web", "--reviewer", " "], "reviewer"),
    ],
)
def test_what_is_not_usable_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["review", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--port=70000", "--controls=9", "--second-share=2", "--gold=-1"])
def test_options_out_of_range_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(SystemExit):
        main(["review", str(tmp_path), option])


def test_a_port_that_is_taken_is_said(
    write_audit: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        audit = write_audit([{"id": "a", "text": "b", "labels": []}])
        assert main(["review", str(audit), "--web", "--port", str(port)]) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "library"), [("", "textual"), ("--web", "fastapi")])
def test_a_missing_extra_names_the_command_that_installs_it(
    tmp_path: Path, option: str, library: str
) -> None:
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from merchantguard.audit_cli import main\n"
        f"sys.exit(main(['review', {str(tmp_path)!r}] + [{option!r}] * bool({option!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"`{library}` is required: pip install 'merchantguard[audit]'" in done.stderr
