"""The clients in Node, Java and Ruby against a running service, and against one that refuses at first."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from merchantguard.serve.scorer import Scorer

Ask = Callable[..., tuple[int, list[dict[str, Any]], str]]
Serving = Callable[..., AbstractContextManager[tuple[str, Any]]]

KEY = "a-long-random-key-of-the-tests"
RESULT = {"decision": "clear", "findings": []}


def test_results_are_those_of_the_scorer(ask: Ask, serving: Serving, service_bundle: Path) -> None:
    texts = [
        "We sell crimson goods.",
        "",
        "caf\u00e9 \U0001f600 crimson \u202e",
        "lone \ud800 half",
        "walrus " * 50,
    ]
    items: list[Any] = [*texts, {"id": "m-1", "text": "crimson"}, {"id": "bad"}, 7, *texts, *texts]
    with serving(service_bundle, keys=(KEY,)) as (url, _):
        status, results, messages = ask(url, items, key=KEY)
    assert (status, messages) == (0, "")
    assert [result["index"] for result in results] == list(range(len(items)))
    assert results[6]["error"]["type"] == results[7]["error"]["type"] == "invalid"
    scorer = Scorer.load(service_bundle, threads=1)
    for item, result in zip([*texts, "crimson"], results[:6], strict=True):
        assessment = scorer.assess(item)
        assert result["decision"] == assessment.decision
        expected = [[(span.start, span.end) for span in found.spans] for found in assessment.findings]
        assert [
            [(span["start"], span["end"]) for span in found["spans"]] for found in result["findings"]
        ] == expected
    assert any(result.get("findings") for result in results)
    assert results[5]["id"] == "m-1"


def test_all_items_wrong_are_errors_of_their_own(ask: Ask, serving: Serving, service_bundle: Path) -> None:
    with serving(service_bundle) as (url, _):
        status, results, _ = ask(url, [7, {"id": "no text"}])
    assert status == 0
    assert [result["error"]["type"] for result in results] == ["invalid", "invalid"]


def test_a_wrong_key_is_refused_at_once(ask: Ask, serving: Serving, service_bundle: Path) -> None:
    with serving(service_bundle, keys=(KEY,)) as (url, _):
        status, results, messages = ask(url, ["text"], key="another")
    assert (status, results) == (1, [])
    assert messages.startswith("401 unauthorized")


@contextmanager
def scripted(answers: list[tuple[int, dict[str, str], Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these answers in turn, the last one for ever; yields what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(
                {"headers": dict(self.headers.items()), "input": body["input"], "at": time.monotonic()}
            )
            status, headers, content = answers[min(len(asked), len(answers)) - 1]
            if status == 0:
                time.sleep(3)
                self.close_connection = True
                return
            data = json.dumps(content).encode() if not isinstance(content, bytes) else content
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """The test asserts what was asked; it needs no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _full(kind: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": "no room"}}


def test_retries_after_429_and_503_as_told(ask: Ask) -> None:
    answers = [
        (429, {"Retry-After": "1"}, _full("queue_full")),
        (503, {}, b"<html>a proxy's page</html>"),
        (200, {}, {"results": [RESULT]}),
    ]
    with scripted(answers) as (url, asked):
        status, results, messages = ask(url, ["text"])
    assert (status, messages) == (0, "")
    assert results == [RESULT | {"index": 0}]
    assert len(asked) == 3
    assert asked[1]["at"] - asked[0]["at"] >= 0.95
    headers = [{key.lower(): value for key, value in each["headers"].items()} for each in asked]
    assert len({each["x-request-id"] for each in headers}) == 1  # one request, however often it is sent
    left = [int(each["x-deadline-ms"]) for each in headers]
    assert 60_000 >= left[0] > left[1] > left[2] > 0


def test_items_without_room_are_sent_again_alone(ask: Ask) -> None:
    answers = [
        (200, {}, {"results": [RESULT, _full("queue_full"), RESULT]}),
        (200, {}, {"results": [RESULT | {"decision": "review"}]}),
    ]
    with scripted(answers) as (url, asked):
        status, results, _ = ask(url, ["a", "b", "c"])
    assert status == 0
    assert [each["input"] for each in asked] == [["a", "b", "c"], ["b"]]
    assert [each["decision"] for each in results] == ["clear", "review", "clear"]


def test_other_faults_are_not_retried(ask: Ask) -> None:
    with scripted([(500, {}, _full("internal_error"))]) as (url, asked):
        status, _, messages = ask(url, ["text"])
    assert (status, len(asked)) == (1, 1)
    assert messages.startswith("500 internal_error: no room")


def test_no_wait_beyond_the_deadline(ask: Ask) -> None:
    with scripted([(429, {"Retry-After": "30"}, _full("queue_full"))]) as (url, asked):
        started = time.monotonic()
        status, _, messages = ask(url, ["text"], deadline_ms=5_000)
    assert (status, len(asked)) == (1, 1)
    assert messages.startswith("429 queue_full")
    assert time.monotonic() - started < 20


def test_a_silent_service_is_given_up(ask: Ask) -> None:
    with scripted([(0, {}, None)]) as (url, asked):
        status, _, messages = ask(url, ["text"], deadline_ms=700)
    assert (status, len(asked)) == (1, 1)
    assert messages.startswith("0 deadline")


def test_nobody_there(ask: Ask) -> None:
    status, _, messages = ask("http://127.0.0.1:9", ["text"], deadline_ms=800)
    assert status == 1
    assert messages.startswith("0 unreachable")
