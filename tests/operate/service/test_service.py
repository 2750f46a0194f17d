"""The service as its callers see it: over HTTP, against a real server."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from merchantguard.core.errors import BundleError, SettingsError
from merchantguard.operate.actions import load_table
from merchantguard.operate.log import read_log
from merchantguard.operate.service.app import Service
from merchantguard.operate.service.settings import ServiceSettings, read_keys
from merchantguard.serve import MicroBatcher

Serving = Callable[..., contextlib.AbstractContextManager[tuple[str, Service]]]
KEY, OTHER, ADMIN = "k" * 20, "o" * 20, "a" * 20


def assess(client: httpx2.Client, given: Any, **options: Any) -> httpx2.Response:
    return client.post("/v1/assess", json={"input": given}, **options)


def test_a_text_and_a_list_with_a_bad_item(served: httpx2.Client) -> None:
    [one] = assess(served, "We sell crimson goods in every town.").json()["results"]
    assert (one["decision"], one["findings"][0]["policy"]) == ("block", "alpha")
    assert one["findings"][0]["spans"][0]["text"]
    page = {"url": "https://shop.example/", "text": "A walrus comes with each order."}
    given = [
        "Call us.",
        7,
        {"id": "r1", "pages": [page]},
        {"id": "r2", "html": 3},
        {"id": [1], "text": "x"},
        {},
    ]
    answer = assess(served, given)
    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [each["index"] for each in results] == [0, 1, 2, 3, 4, 5]
    assert results[0]["decision"] == "clear"
    assert results[1]["error"] == {
        "type": "invalid",
        "message": "input[1]: must be a text or a record, not int",
    }
    assert results[2]["id"] == "r1"
    assert results[2]["findings"][0]["policy"] == "beta"
    assert results[2]["findings"][0]["spans"][0]["url"] == "https://shop.example/"
    assert "html" in results[3]["error"]["message"]
    assert "id" in results[4]["error"]["message"]
    assert results[5]["error"]["type"] == "invalid"


def test_pages_are_read_as_everywhere_hidden_text_apart_and_shells_never_clear(served: httpx2.Client) -> None:
    hidden = (
        "<p>We sell goods in every town and post them.</p><p hidden>We sell crimson goods in every town.</p>"
    )
    shell = [{"html": f"<title>Shop {word}</title>Loading..."} for word in ("one", "two", "three")]
    found, thin = assess(served, [{"html": hidden}, {"pages": shell}]).json()["results"]
    assert found["findings"][0]["policy"] == "alpha"
    assert all(span["hidden"] for span in found["findings"][0]["spans"])
    assert (thin["decision"], thin["warnings"]) == ("review", ["thin_page"])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b"[1]", "body"),
        (b"{}", "input"),
        (b'{"input": "x", "deadline_ms": -1}', "deadline_ms"),
        (b'{"input": "x", "deadline_ms": 1' + b"0" * 400 + b"}", "deadline_ms"),
        (b'{"input": "x", "other": 1}', "other"),
        (b'{"input": []}', "input"),
        (b'{"input": 3}', "input"),
        (b'{"input": ' + b"[" * 100_000, "body"),
    ],
)
def test_a_wrong_request_names_the_field(served: httpx2.Client, content: bytes, named: str) -> None:
    answer = served.post("/v1/assess", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert named in answer.json()["error"]["message"]


def test_unknown_routes_and_methods_have_the_same_form_of_error(served: httpx2.Client) -> None:
    assert served.get("/v2/nothing").json()["error"]["type"] == "not_found"
    assert served.get("/v1/assess").status_code == 405


@pytest.mark.parametrize(
    "text", ["lone \ud800 crimson \udfff", "\x00\x07crimson", "", "\U0001f600" * 50 + " crimson"]
)
def test_odd_text_is_assessed(served: httpx2.Client, text: str) -> None:
    content = json.dumps({"input": [text, {"text": text, "id": "\ud800"}, {"text": text, "id": 1}]}).encode()
    answer = served.post("/v1/assess", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert first["decision"] == ("block" if "crimson" in text else "clear")
    assert third["decision"] == (first["decision"] if text else None)  # a record needs a text
    assert "error" in second
    content = json.dumps({"input": text}).encode()
    moderated = served.post("/v1/moderations", content=content, headers={"content-type": "application/json"})
    assert moderated.status_code == 200


def test_the_openai_client_works_and_tries_again_after_429(
    serving: Serving, service_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(service_bundle, keys=(KEY,)) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=3)
        result = client.moderations.create(input=["We sell crimson goods.", "Call us."])
        assert [each.flagged for each in result.results] == [True, False]
        assert result.results[0].categories.model_extra == {"alpha": True, "beta": False, "gamma": False}
        assert result.results[0].category_scores.model_extra["alpha"] > 0.9  # type: ignore[index]
        assert result.results[0].decision == "block"  # type: ignore[attr-defined]
        calls: list[float] = []
        original = MicroBatcher.submit

        def full_twice(self: MicroBatcher, text: str, **given: Any) -> Any:
            calls.append(time.monotonic())
            if len(calls) <= 2:
                from merchantguard.serve import QueueFull

                raise QueueFull("full")
            return original(self, text, **given)

        monkeypatch.setattr(MicroBatcher, "submit", full_twice)
        assert client.moderations.create(input="Call us.").results[0].flagged is False
        assert len(calls) == 3
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).moderations.create(input="x")


def test_keys_guard_every_route_but_health(serving: Serving, service_bundle: Path) -> None:
    with (
        serving(service_bundle, keys=(KEY, OTHER), admin_keys=(ADMIN,)) as (url, _),
        httpx2.Client(base_url=url) as client,
    ):
        routes = client.get("/openapi.json", headers={"x-api-key": KEY}).json()["paths"]
        for path, methods in {**routes, "/openapi.json": {"get": {}}, "/docs": {"get": {}}}.items():
            for method in methods:
                status = client.request(method, path).status_code
                assert (status == 401) == (path not in ("/livez", "/readyz")), (method, path, status)
        for key in (KEY, OTHER, ADMIN):
            assert client.get("/v1/model", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert client.post("/v1/model", headers={"x-api-key": KEY}).status_code == 401
        assert client.post("/v1/model", headers={"x-api-key": ADMIN}).status_code == 200
        assert client.get("/v1/model", headers={"authorization": f"Basic {KEY}"}).status_code == 401


def test_without_admin_keys_nobody_exchanges_the_bundle(served: httpx2.Client) -> None:
    assert served.post("/v1/model").status_code == 403


def test_other_addresses_need_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no API keys"):
        ServiceSettings(tmp_path, host="0.0.0.0").check()
    ServiceSettings(tmp_path, host="0.0.0.0", keys=(KEY,)).check()
    ServiceSettings(tmp_path, host="0.0.0.0", allow_open=True).check()
    with pytest.raises(SettingsError, match="shorter than 16"):
        ServiceSettings(tmp_path, keys=("short",)).check()
    file = tmp_path / "keys.txt"
    file.write_text(f"# rotated monthly\n{KEY}\n\n{OTHER}\n")
    monkeypatch.setenv("KEYS_HERE", f"{OTHER}, {ADMIN}")
    assert read_keys(file, "KEYS_HERE") == (OTHER, ADMIN, KEY)
    file.write_text("# none\n")
    with pytest.raises(SettingsError, match="no API key in the file"):
        read_keys(file, "NO_SUCH")
    assert KEY not in repr(ServiceSettings(tmp_path, keys=(KEY,)))


def test_too_large_a_body_is_refused_while_it_is_read(serving: Serving, service_bundle: Path) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        for _ in range(10_000):
            sent += 10_000
            yield b" " * 10_000

    with serving(service_bundle, max_body_bytes=50_000) as (url, _), httpx2.Client(base_url=url) as client:
        answer = client.post("/v1/assess", json={"input": "x" * 60_000})
        assert answer.status_code == 413
        assert "50,000 bytes" in answer.json()["error"]["message"]
        with contextlib.suppress(httpx2.TransportError):
            assert client.post("/v1/assess", content=endless()).status_code == 413
        assert sent < 50_000_000
        assert assess(client, "Call us.").status_code == 200


def test_identifiers_come_back_and_the_log_has_no_text(
    served: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with caplog.at_level(logging.INFO, logger="merchantguard.service"):
        answer = assess(served, "secret crimson", headers={"X-Request-ID": "abc-1", "traceparent": trace})
        again = assess(served, 5, headers={"X-Request-ID": "two words", "traceparent": "nonsense"})
        time.sleep(0.1)
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("abc-1", trace)
    assert answer.json()["request_id"] == "abc-1"
    assert len(again.headers["x-request-id"]) == 36
    assert "traceparent" not in again.headers
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert lines[0]["request_id"] == "abc-1"
    assert lines[0]["traceparent"] == trace
    assert (lines[0]["route"], lines[0]["status"], lines[0]["items"]) == ("/v1/assess", 200, 1)
    assert lines[1]["status"] == 422
    assert "secret" not in caplog.text


def slow_runs(monkeypatch: pytest.MonkeyPatch, service: Service, seconds: float) -> threading.Event:
    """Makes every run of the model wait; the event lets them go."""
    gate = threading.Event()
    runner = service.host.current.scorer.runner
    run = runner.run_batch

    def waiting(windows: Any) -> Any:
        gate.wait(seconds)
        return run(windows)

    monkeypatch.setattr(runner, "run_batch", waiting)
    return gate


def test_deadlines_and_a_full_queue(
    serving: Serving, service_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(service_bundle, queue_tokens=40) as (url, service),
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        gate = slow_runs(monkeypatch, service, 20)
        running = threading.Thread(target=lambda: assess(client, "Call us first."))
        running.start()
        while not service.host.current.batcher.stats().batches:
            time.sleep(0.01)
        assert assess(client, "Call us.", headers={"X-Deadline-Ms": "50"}).status_code == 504
        assert client.post("/v1/assess", json={"input": "Call us.", "deadline_ms": 50}).status_code == 504
        assert assess(client, "Call us.", headers={"X-Deadline-Ms": "soon"}).status_code == 422
        answers: list[httpx2.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(assess(client, ["Call or write. " * 3] * 6)))
        waiting.start()
        while service.host.current.batcher.stats().queued_tokens < 20:
            time.sleep(0.01)
        refused = assess(client, ["Call us or write a letter, we answer within two days."] * 3)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        gate.set()
        running.join()
        waiting.join()
        kinds = [(each["error"] or {}).get("type", each["decision"]) for each in answers[0].json()["results"]]
        assert answers[0].status_code == 200
        assert set(kinds) == {"clear", "queue_full"}


def test_a_client_that_goes_away_withdraws_its_text(
    serving: Serving, service_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(service_bundle) as (url, service), httpx2.Client(base_url=url, timeout=30) as client:
        gate = slow_runs(monkeypatch, service, 20)
        running = threading.Thread(target=lambda: assess(client, "Call us first."))
        running.start()
        batcher = service.host.current.batcher
        while not batcher.stats().batches:
            time.sleep(0.01)
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"input": "Write a letter."}).encode()
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /v1/assess HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            line.sendall(head.encode() + body)
            while not batcher.stats().queued_requests:
                time.sleep(0.01)
        limit = time.monotonic() + 10
        while batcher.stats().queued_requests and time.monotonic() < limit:
            time.sleep(0.01)
        assert batcher.stats().outcomes["cancelled"] == 1
        gate.set()
        running.join()


def test_a_fault_of_the_engine_is_an_error_and_not_a_clear(
    serving: Serving, service_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(service_bundle) as (url, service), httpx2.Client(base_url=url) as client:
        runner = service.host.current.scorer.runner
        run = runner.run_batch
        monkeypatch.setattr(
            runner, "run_batch", lambda windows: (_ for _ in ()).throw(RuntimeError("engine"))
        )
        answer = assess(client, "Call us.")
        assert answer.status_code == 500
        assert "engine" not in answer.text

        def not_finite(windows: Any) -> Any:
            outputs = run(windows)
            outputs.logits[:] = np.nan
            return outputs

        monkeypatch.setattr(runner, "run_batch", not_finite)
        assert assess(client, "Call us now.").status_code == 500
        assert client.post("/v1/moderations", json={"input": "Call us then."}).status_code == 500
        monkeypatch.setattr(runner, "run_batch", run)
        assert assess(client, "Call us.").status_code == 200


def test_decisions_are_logged_before_they_are_given_out(
    serving: Serving, service_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.yaml"
    table.write_text(
        "version: 7\nrules:\n"
        "  - {name: certified, when: {decision: [block], certificate: [policy, pooled]}, action: block}\n"
        "  - {name: look, when: {decision: [review, block]}, action: review}\n"
        "  - {name: rest, action: none}\n"
    )
    assert load_table(table).version == "7"
    log = tmp_path / "log"
    with (
        serving(service_bundle, log=log, actions=table, audit_share=0.5) as (url, service),
        httpx2.Client(base_url=url) as client,
    ):
        given = {"id": 5, "merchant_id": "m1", "text": "We sell crimson goods."}
        [result] = assess(client, given, headers={"X-Request-ID": "find-me"}).json()["results"]
        assert result["action"] == {
            "action": "block",
            "rule": "certified",
            "table_version": "7",
            "documents": [],
        }
        [entry] = read_log(log)
        assert entry.decision_id == result["decision_id"]
        assert (entry.request_id, entry.merchant_id, entry.record_id) == ("find-me", "m1", "5")  # type: ignore[union-attr]
        assert entry.selection == {"audit": 0.5}  # type: ignore[union-attr]
        assert entry.text is None  # type: ignore[union-attr]
        assert service.log is not None
        from merchantguard.operate.log import LogFull

        monkeypatch.setattr(service.log, "append", lambda entry: (_ for _ in ()).throw(LogFull("full")))
        refused = assess(client, given)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers


def test_metrics_and_health(serving: Serving, service_bundle: Path) -> None:
    with serving(service_bundle) as (url, service), httpx2.Client(base_url=url) as client:
        assess(client, ["We sell crimson goods.", 5])
        client.get("/nothing")
        text = client.get("/metrics").text
        assert 'merchantguard_http_requests_total{route="/v1/assess",status="200"} 1.0' in text
        assert 'route="other",status="404"' in text
        assert 'merchantguard_decisions_total{bundle="tiny@1",decision="block",variant="plain"} 1.0' in text
        assert 'merchantguard_item_errors_total{type="invalid"} 1.0' in text
        assert f'digest="{service.host.current.digest}"' in text
        assert "# HELP merchantguard_wait_seconds" in text
        for name in ("queue_tokens", "batch_fill_bucket", "latency_seconds_count"):
            assert f"merchantguard_{name}" in text
        assert (
            client.get("/livez").status_code
            == client.get("/readyz").status_code
            == client.get("/health").status_code
            == 200
        )
        service.host.current.batcher.close()
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 503


def test_the_bundle_is_exchanged_and_a_bad_one_refused(
    serving: Serving, golden_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    first = golden_bundle(tmp_path / "bundle")
    second = golden_bundle(tmp_path / "second", version="2")
    broken = golden_bundle(tmp_path / "broken", version="3")
    (broken / "model.onnx").write_bytes(b"nothing")
    wrong = golden_bundle(tmp_path / "wrong", version="4", window_tokens=19)
    (wrong / "golden.jsonl").unlink()
    with (
        serving(first, admin_keys=(ADMIN,)) as (url, service),
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        headers = {"x-api-key": ADMIN}
        stop, statuses = threading.Event(), list[int]()

        def load() -> None:
            with httpx2.Client(base_url=url, timeout=30) as own:
                while not stop.is_set():
                    statuses.append(assess(own, "We sell crimson goods.").status_code)

        callers = [threading.Thread(target=load) for _ in range(3)]
        [caller.start() for caller in callers]
        for number in range(6):
            path = (second, first)[number % 2]
            assert client.post("/v1/model", json={"path": str(path)}, headers=headers).status_code == 200
        for bad in (broken, wrong, tmp_path / "none"):
            refused = client.post("/v1/model", json={"path": str(bad)}, headers=headers)
            assert refused.status_code == 409
            assert str(bad) in refused.json()["error"]["message"]
            assert client.get("/readyz").status_code == 200
        stop.set()
        [caller.join() for caller in callers]
        assert set(statuses) == {200}
        model = client.get("/v1/model").json()
        assert (model["version"], model["swaps"], model["refused"]) == ("1", 6, 3)
        assert service.host.current.scorer.bundle.version == "1"


def test_a_bundle_without_golden_texts_or_with_wrong_ones_does_not_start(
    golden_bundle: Callable[..., Path], make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="does not start without a test"):
        Service(ServiceSettings(make_bundle(tmp_path / "none")))


def test_a_watched_folder(serving: Serving, golden_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = golden_bundle(tmp_path / "bundle")
    with serving(bundle, watch=0.05) as (_, service):
        golden_bundle(bundle, version="2")
        limit = time.monotonic() + 20
        while service.host.current.scorer.bundle.version != "2" and time.monotonic() < limit:
            time.sleep(0.02)
        assert service.host.current.scorer.bundle.version == "2"


def test_an_absurd_deadline_does_not_end_the_thread_that_scores(
    served: httpx2.Client, serving: Serving, service_bundle: Path
) -> None:
    assert assess(served, "Call us.", headers={"X-Deadline-Ms": "9" * 18}).status_code == 422
    with serving(service_bundle) as (_, service):
        batcher = service.host.current.batcher
        for deadline in (1e12, 1e300):
            assert batcher.submit("Call us.", deadline=deadline).result(timeout=20).decision == "clear"
        assert batcher.alive
