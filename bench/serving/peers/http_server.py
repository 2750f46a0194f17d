"""Measuring a real server process on the loopback interface, with clients in another process.

A server peer is run twice: as a peer it sweeps the layouts below, and with `--serve CONFIG` it is the server.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from closed_loop import post
from harness import Job, peak_mb, rss_mb

BATCH_WAIT_SECONDS = 0.01
_READY_SECONDS = 180
_END_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Config:
    """One server: `workers` processes of `threads` threads each, up to `batch` requests together."""

    folder: str
    engine: str
    window_tokens: int
    port: int
    workers: int
    threads: int
    batch: int

    @property
    def setting(self) -> str:
        """In words, for the table."""
        return f"{self.engine}, {self.workers} x {self.threads} threads, batch {self.batch}"


def served_config() -> Config | None:
    """The configuration that this process serves; None in the process that runs the sweep."""
    return Config(**json.loads(sys.argv[2])) if sys.argv[1] == "--serve" else None


def sweep(job: Job, *, script: str, path: str) -> dict[str, Any]:
    """Measure a worker per core with a thread each, and one worker with all threads, at batch sizes 1 and 8.

    A layout that cannot be measured is a note; all failing is an error.
    """
    layouts = list(dict.fromkeys([(job.threads, 1), (1, job.threads)]))
    settings, notes = [], []
    for engine in job.options["engines"]:
        for workers, threads in layouts:
            for batch in (1, 8):
                free = _free_port()
                config = Config(str(job.folder), engine, job.window_tokens, free, workers, threads, batch)
                try:
                    settings.append({"setting": config.setting} | _measure(job, config, script, path))
                except RuntimeError as error:
                    notes.append(f"{config.setting}: {error}")
    if not settings:
        raise RuntimeError("; ".join(notes))
    return {"settings": settings, "notes": notes}


def _measure(job: Job, config: Config, script: str, path: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        source, target = Path(folder) / "input.json", Path(folder) / "output.json"
        source.write_text(json.dumps({k: v for k, v in asdict(job).items() if k != "folder"}))
        started = time.perf_counter()
        with _server(script, config, Path(folder) / "server.log") as server:
            _wait_until_ready(server, config.port, path, job.windows[0])
            found: dict[str, Any] = {"load_seconds": time.perf_counter() - started}
            family = [server.pid, *descendants(server.pid)]
            found["rss_mb"] = sum(rss_mb(pid) for pid in family)
            client = Path(__file__).with_name("closed_loop.py")
            command = [sys.executable, str(client), str(config.port), path, str(source), str(target)]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr.strip()[-1000:])
            found["peak_mb"] = sum(peak_mb(pid) for pid in family)
        return found | dict(json.loads(target.read_text()))


@contextmanager
def _server(script: str, config: Config, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process; it and its children are always ended, and a failure shows its log."""
    with open(log, "wb") as stream:
        command = [sys.executable, script, "--serve", json.dumps(asdict(config))]
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=log.parent)
        try:
            yield server
        except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
            tail = log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
            raise RuntimeError(f"{error}; the server said: {tail}") from error
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    family = {pid: _born(pid) for pid in descendants(server.pid)}
    server.terminate()
    try:
        server.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for pid, born in family.items():
        # The id of a process that has ended may already belong to another one.
        if born is not None and _born(pid) == born:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _born(pid: int) -> str | None:
    """When a process started, in ticks since boot; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def descendants(pid: int) -> list[int]:
    """The children of a process, and their children (Linux)."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, path: str, windows: list[str]) -> None:
    """Ask until the server answers; RuntimeError if it ends or takes too long."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.wait_for(post(reader, writer, path, {"windows": windows}), timeout=60)
        finally:
            writer.close()

    deadline = time.perf_counter() + _READY_SECONDS
    while True:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with status {server.returncode}")
        try:
            return asyncio.run(ask())
        except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"the server did not answer in {_READY_SECONDS} s: {error}") from error
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
