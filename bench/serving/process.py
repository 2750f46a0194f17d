"""Running a peer's script in its own process group, which is ended whatever happens."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).with_name("peers")
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
_TAIL = 1500
_END_SECONDS = 20


class PeerFailed(Exception):
    """A peer could not be measured; the message says why, with the end of what it printed."""


def run_script(
    python: str,
    script: str,
    folder: Path,
    job: Mapping[str, Any],
    *,
    arguments: tuple[str, ...],
    timeout: float,
) -> dict[str, Any]:
    """Run `PYTHON script MODEL_FOLDER INPUT OUTPUT arguments...` and read what it wrote.

    :raises PeerFailed: if it cannot be started, fails or takes longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        source, target, log = (Path(name) / each for each in ("input.json", "output.json", "log"))
        source.write_text(json.dumps(job), encoding="utf-8")
        command = [python, str(SCRIPTS / script), str(folder), str(source), str(target), *arguments]
        with open(log, "wb") as stream:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    cwd=name,
                    env=os.environ | _ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                raise PeerFailed(f"{python} cannot be started ({error.strerror})") from error
            status = _wait(process, timeout)
        if status != 0 or not target.is_file():
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
            why = f"took longer than {timeout:g} s" if status is None else f"ended with status {status}"
            raise PeerFailed(f"{why}: {said or 'it printed nothing'}")
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return found


def _wait(process: "subprocess.Popen[bytes]", timeout: float) -> int | None:
    """The exit status, None after a timeout; the rest of the group is ended, on an interrupt too."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end_group(process)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask the group to end, so that servers can clean up, then kill the rest of it."""
    with suppress(ProcessLookupError):  # no process is left
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
