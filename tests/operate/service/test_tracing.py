"""Spans of requests: in the caller's trace, with route and status, without text."""

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from merchantguard.operate.service.app import Service
from merchantguard.operate.service.settings import ServiceSettings
from merchantguard.operate.service.tracing import Traced


@pytest.mark.parametrize(("given", "status"), [("We sell crimson goods.", 200), (5, 422)])
def test_a_request_is_a_span_of_the_callers_trace(service_bundle: Path, given: object, status: int) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    service = Service(ServiceSettings(service_bundle, threads=1))
    try:
        client = TestClient(Traced(service.application, provider))
        headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "x-request-id": "r-1"}
        assert client.post("/v1/assess", json={"input": given}, headers=headers).status_code == status
        assert client.get("/livez").status_code == 200
    finally:
        service.close()
    [span] = exporter.get_finished_spans()
    assert span.name == "POST /v1/assess"
    assert span.context is not None
    assert f"{span.context.trace_id:x}" == "a" * 32
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["merchantguard.request_id"] == "r-1"
    assert "crimson" not in span.to_json()
