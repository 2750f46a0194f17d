"""Cases, a policy and an OpenAI-compatible endpoint that answers as a test says."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from merchantguard.data.taxonomy import Policy, Taxonomy
from merchantguard.operate.adjudicate.case import Case

# Tests are not a package: they import what stands here by this name.
sys.modules["conftest_adjudicate"] = sys.modules[__name__]

POLICY = Policy("whey", "Steroids", "prohibited", "anabolic steroids for sale", "whey powder, food")
TAXONOMY = Taxonomy(1, (POLICY,))
TEXT = (
    "Home | Shop | Contact\nWe sell whey protein powder in every flavour.\n"
    "Buy R-140 trenbolone vials without a prescription today.\nOrders ship within two days.\n"
)


def make_case(name: str = "m1", text: str = TEXT, **given: Any) -> Case:
    start = text.find("R-140")
    spans = ((start, start + 24),) if start >= 0 else ()
    return Case(
        **{
            "record": name,
            "policy": "whey",
            "text": text,
            "probability": 0.4,
            "spans": spans,
            "merchant": name,
        }
        | given
    )


def scores(texts: Sequence[str], policy: str) -> np.ndarray:
    """An encoder that knows one word."""
    return np.array([3.0 if "trenbolone" in text else -6.0 for text in texts])


@dataclass
class Endpoint:
    """What the endpoint does: `answers` are taken in turn, the last one again and again."""

    url: str = ""
    answers: list[Callable[[dict[str, Any]], tuple[int, Any]]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    billed: dict[str, Any] = field(default_factory=dict)
    calls: int = 0


def completion(
    content: str, *, finish: str = "stop", model: str = "build-1", probability: float | None = 0.9
) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content},
    }
    if probability is not None:
        first = [
            {"token": "viol", "logprob": float(np.log(probability))},
            {"token": "compl", "logprob": float(np.log(1 - probability))},
        ]
        words = ['{"', "verdict", '":', ' "', "viol", 'ates"']
        choice["logprobs"] = {
            "content": [
                {"token": word, "logprob": -0.1, "top_logprobs": first if word == "viol" else []}
                for word in words
            ]
        }
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def code_of(body: dict[str, Any]) -> str:
    return str(body["messages"][1]["content"]).rsplit("Code: ", 1)[1].split()[0]


def answered(verdict: str, quotes: list[str], **given: Any) -> Callable[[dict[str, Any]], tuple[int, Any]]:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion(
            json.dumps({"verdict": verdict, "quotes": quotes, "end_code": code_of(body)}), **given
        )

    return answer


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()
    mutex = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers.get("Idempotency-Key", "")
            with mutex:
                number = state.calls
                state.calls += 1
                state.bodies.append(body)
            status, document = state.answers[min(number, len(state.answers) - 1)](body)
            if status == 200:
                # An endpoint with idempotency keys charges a key once and gives the same answer again.
                document = state.billed.setdefault(key, document)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
