"""The service as a process: signals, restarts, and its promise that nothing accepted is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from merchantguard.cli import main
from merchantguard.operate.log import read_log, verify
from merchantguard.serve.decision_record import DecisionRecord

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Process:
    """A running `merchantguard serve`; `lines` are its log so far."""

    def __init__(self, *arguments: str) -> None:
        command = [
            sys.executable,
            "-m",
            "merchantguard.cli",
            "serve",
            *arguments,
            "--port",
            "0",
            "--threads",
            "1",
        ]
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self.lines: list[dict[str, Any]] = []
        self.other_lines: list[
            str
        ] = []  # what is no JSON: every line of a service's log is to be read by machines
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.url = self.wait_for("listening")["url"]

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.other_lines.append(line)

    def wait_for(self, event: str, seconds: float = 60) -> dict[str, Any]:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for line in self.lines:
                if line.get("event") == event or str(line.get("message", "")).startswith(event):
                    return line
            assert self.popen.poll() is None, self.lines
            time.sleep(0.02)
        raise AssertionError(f"no {event!r} in {self.lines}")


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        started.append(Process(*map(str, arguments)))
        return started[-1]

    yield begin
    for process in started:
        process.popen.kill()
        process.popen.wait()
        process.reader.join(timeout=10)
        # A last line without its end was cut off by the kill.
        assert [line for line in process.other_lines if line.endswith("\n")] == []


@contextmanager
def callers(url: str, count: int = 2) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Callers that assess without pause; yields the statuses and answers."""
    stop, answers = threading.Event(), list[tuple[int, dict[str, Any]]]()

    def call() -> None:
        with httpx2.Client(base_url=url, timeout=30) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/assess", json={"input": "We sell crimson goods."})
                except httpx2.TransportError:
                    return  # the service is gone, or takes no more connections
                answers.append((answer.status_code, answer.json()))

    threads = [threading.Thread(target=call) for _ in range(count)]
    [thread.start() for thread in threads]
    try:
        yield answers
    finally:
        stop.set()
        [thread.join() for thread in threads]


def test_term_makes_it_unready_then_refuses_then_ends(
    start: Callable[..., Process], service_bundle: Path, tmp_path: Path
) -> None:
    process = start(service_bundle, "--pause", "0.6", "--drain", "5", "--log", tmp_path / "log")
    with httpx2.Client(base_url=process.url) as client, callers(process.url) as answers:
        assert client.get("/readyz").status_code == 200
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("stopping")
        assert client.get("/readyz").json() == {"status": "draining"}
        assert client.get("/livez").status_code == 200
        assert client.post("/v1/assess", json={"input": "Call us."}).status_code == 200  # within the pause
        assert process.popen.wait(timeout=20) == 0
    statuses = [status for status, _ in answers]
    assert statuses.count(200) > 2
    assert set(statuses) <= {200, 503}
    assert verify(tmp_path / "log").faults == ()
    given = {answer["results"][0]["decision_id"] for status, answer in answers if status == 200}
    assert given <= {entry.decision_id for entry in read_log(tmp_path / "log")}


def test_a_kill_loses_no_decision_that_was_given_out(
    start: Callable[..., Process], service_bundle: Path, tmp_path: Path
) -> None:
    given = set[str]()
    for _ in range(2):
        process = start(service_bundle, "--log", tmp_path / "log")
        with callers(process.url, 3) as answers:
            time.sleep(0.7)
            process.popen.kill()
            process.popen.wait()
        given |= {answer["results"][0]["decision_id"] for status, answer in answers if status == 200}
    logged = [entry.decision_id for entry in read_log(tmp_path / "log") if isinstance(entry, DecisionRecord)]
    assert len(given) > 10
    assert given <= set(logged)
    assert len(logged) == len(set(logged))


def test_hup_exchanges_the_bundle(
    start: Callable[..., Process], golden_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = golden_bundle(tmp_path / "bundle")
    process = start(bundle)
    golden_bundle(bundle, version="2")
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("bundle in use: tiny@2")
    assert httpx2.get(f"{process.url}/v1/model").json()["version"] == "2"
    (bundle / "model.onnx").write_bytes(b"nothing")
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("bundle refused")
    assert httpx2.post(f"{process.url}/v1/assess", json={"input": "Call us."}).status_code == 200


def test_it_refuses_to_be_open_to_others(service_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(service_bundle), "--host", "0.0.0.0"]) == 2
    assert "no API keys" in capsys.readouterr().err


@pytest.mark.slow
def test_no_request_of_the_description_ends_in_a_5xx(
    start: Callable[..., Process], service_bundle: Path
) -> None:
    process = start(service_bundle)
    schema = schemathesis.openapi.from_url(f"{process.url}/openapi.json")
    seen: list[int] = []

    for operation in schema.get_all_operations():
        run_operation(operation.ok(), seen)
    assert len(seen) > 50
    assert httpx2.get(f"{process.url}/readyz").status_code == 200


def run_operation(operation: Any, seen: list[int]) -> None:
    """Generate requests for one operation and call the service with each."""

    @given(case=operation.as_strategy())
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def call(case: schemathesis.Case) -> None:
        answer = case.call(timeout=30)
        seen.append(answer.status_code)
        assert answer.status_code < 500 or answer.status_code == 504, (
            answer.text
        )  # deadlines of a millisecond pass

    call()
