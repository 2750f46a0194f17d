"""A small bundle with golden texts, and a service that runs it for real."""

import contextlib
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from merchantguard.core.files import read_json, sha256_file, write_json
from merchantguard.export.golden import GOLDEN, write_golden
from merchantguard.operate.service.app import Service
from merchantguard.operate.service.settings import ServiceSettings
from merchantguard.serve.bundle import document_digest
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.decision_record import DecisionRecord, LoggedFinding, now, uuid7

_SPEC = importlib.util.spec_from_file_location(
    "known_model", Path(__file__).parents[1] / "serve" / "conftest.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
_KNOWN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_KNOWN)
tokenizer, make_bundle, TEXTS = _KNOWN.tokenizer, _KNOWN.make_bundle, _KNOWN.TEXTS


@pytest.fixture(scope="session")
def golden_bundle(make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a bundle with golden texts; `changes` replace fields of bundle.json."""

    def make(folder: Path, **changes: Any) -> Path:
        make_bundle(folder, **changes)
        write_golden(read_bundle(folder), folder, TEXTS)
        document = read_json(folder / "bundle.json")
        document["files"][GOLDEN] = sha256_file(folder / GOLDEN)
        write_json(folder / "bundle.json", document | {"digest": document_digest(document)})
        return folder

    return make


@pytest.fixture(scope="session")
def service_bundle(golden_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_bundle(tmp_path_factory.mktemp("served") / "bundle")


@contextlib.contextmanager
def _served(settings: ServiceSettings) -> Iterator[tuple[str, Service]]:
    service = Service(settings)
    config = uvicorn.Config(service.application, port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", service
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        service.close()


@pytest.fixture(scope="session")
def serving() -> Callable[..., contextlib.AbstractContextManager[tuple[str, Service]]]:
    """Runs a service in a thread: gives its address and its state."""
    return lambda bundle, **given: _served(ServiceSettings(bundle, threads=1, **given))


@pytest.fixture
def served(
    serving: Callable[..., contextlib.AbstractContextManager[tuple[str, Service]]], service_bundle: Path
) -> Iterator[httpx2.Client]:
    with serving(service_bundle) as (url, _), httpx2.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def make_record() -> Callable[..., DecisionRecord]:
    def make(**given: Any) -> DecisionRecord:
        values: dict[str, Any] = {
            "decision_id": uuid7(),
            "time": now(),
            "bundle": "tiny",
            "bundle_version": "1",
            "bundle_digest": "ab" * 32,
            "variant": "plain",
            "cleaning_version": "3",
            "text_hmac": "cd" * 32,
            "text_length": 12,
            "windows": 1,
            "truncated": False,
            "probabilities": {"alpha": 0.75, "beta": 0.01},
            "any_violation": 0.76,
            "thresholds": {"alpha": (0.5, 0.9), "beta": (0.5, None)},
            "any_review": 0.2,
            "decision": "review",
            "findings": (LoggedFinding("alpha", 0.75, "review", None, ((0, 7),)),),
            "selection": {"audit": 0.05},
        }
        return DecisionRecord(**(values | given))

    return make
