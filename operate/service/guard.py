"""What every request passes: keys, size, identifiers, counts and a log line without merchant text."""

import hmac
import json
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...serve.decision_record import uuid7
from .metrics import Metrics

_LOGGER = logging.getLogger("merchantguard.service")
OPEN_PATHS = ("/livez", "/readyz", "/health")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class TooLarge(HTTPException):
    """More bytes than a request may have. (Of this type, as the framework hides others that come while it reads a body.)"""


class Guard:
    """ASGI middleware around the application.

    :param keys: that may do everything but exchange the bundle; empty lets everybody.
    :param admin_keys: that may do everything.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Sequence[str],
        admin_keys: Sequence[str],
        max_body_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._keys, self._admin_keys = tuple(keys), tuple(admin_keys)
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event stream."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request = _Request(scope, headers)
        sender = _Sender(send, request)
        try:
            refused = self._refusal(scope, headers)
            if refused is not None:
                await _answer(sender, *refused)
            else:
                await self._app(scope, _Limited(receive, self._max_body_bytes), sender)
        except Exception:
            # One fault answers one request with 500; the service goes on.
            _LOGGER.exception("request %s failed", request.id)
            if not sender.started:
                await _answer(sender, 500, "internal_error", "the request failed; the log has the reason")
        finally:
            self._metrics.request(request.route, sender.status, time.monotonic() - request.born)
            _LOGGER.info(json.dumps(request.line(sender.status)))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        """Status, type and message of the answer to who may not come in."""
        path = scope["path"]
        if path in OPEN_PATHS:
            return None
        admin = path == "/v1/model" and scope["method"] != "GET"
        allowed = self._admin_keys if admin else (*self._keys, *self._admin_keys)
        if admin and not self._admin_keys:
            return (
                403,
                "forbidden",
                "this service has no admin keys, so its bundle cannot be exchanged over HTTP",
            )
        if not self._keys and not admin:
            allowed = ()
        if allowed and not _is_known(_given_key(headers), allowed):
            return 401, "unauthorized", "a valid API key is needed: Authorization: Bearer KEY"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return 413, "too_large", limit_text(self._max_body_bytes)
        return None


class _Request:
    """What is known of a request before its body is read."""

    def __init__(self, scope: Scope, headers: Headers) -> None:
        self.born = time.monotonic()
        given = headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else uuid7()
        trace = headers.get("traceparent", "")
        self.traceparent = trace if _TRACEPARENT.fullmatch(trace) else None
        self.method, self.path = scope["method"], scope["path"]
        self._scope = scope
        self.facts: dict[str, Any] = {}
        state = scope.setdefault("state", {})
        state["request_id"], state["facts"] = self.id, self.facts

    @property
    def route(self) -> str:
        """The route's pattern, not the path, so that strangers cannot add label values."""
        route = self._scope.get("route")
        return getattr(route, "path", None) or (self.path if self.path in OPEN_PATHS else "other")

    def line(self, status: int) -> dict[str, Any]:
        """The log line; it never holds text of a merchant."""
        return {
            "event": "request",
            "request_id": self.id,
            "traceparent": self.traceparent,
            "method": self.method,
            "route": self.route,
            "status": status,
            "seconds": round(time.monotonic() - self.born, 6),
            **self.facts,
        }


class _Sender:
    """Adds identifiers to an answer's headers and remembers its status."""

    def __init__(self, send: Send, request: _Request) -> None:
        self._send, self._request = send, request
        self.started = False
        self.status = 499  # the client went away first

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._request.id
            if self.status == 413:
                headers["connection"] = "close"  # what is left of the body is not read
            if self._request.traceparent:
                headers["traceparent"] = self._request.traceparent
        await self._send(message)


class _Limited:
    """Receives a body and stops at the limit, whatever its headers say."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._seen = receive, most, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            if self._seen > self._most:
                raise TooLarge(413, limit_text(self._most))
        return message


def limit_text(most: int) -> str:
    """What to tell whoever sends too much."""
    return f"the request has more than {most:,} bytes: send fewer items at once"


def _given_key(headers: Headers) -> str:
    authorization = headers.get("authorization", "")
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _is_known(key: str, allowed: Sequence[str]) -> bool:
    """Compare with every key, each in constant time."""
    given = key.encode("utf-8", "surrogatepass")
    # All of them, so that the time does not tell which one is close.
    matches = [hmac.compare_digest(given, each.encode("utf-8")) for each in allowed]
    return any(matches)


async def _answer(sender: _Sender, status: int, kind: str, message: str) -> None:
    body = json.dumps({"error": {"type": kind, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await sender({"type": "http.response.start", "status": status, "headers": headers})
    await sender({"type": "http.response.body", "body": body})
