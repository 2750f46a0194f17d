"""Protects the review page: only requests from this page, in a browser on this machine, get through.

Another website can make a browser send requests here, and with DNS rebinding it can even read the responses. So the Host and any
Origin must be this server's own, and a request that changes something must have an Origin and carry the page's token (`app.py`).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MAX_BODY_BYTES = 100_000

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer": that would make browsers send forms with the Origin "null".
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware that refuses foreign requests and adds security headers."""

    def __init__(self, application: Application, *, port: int) -> None:
        self._application = application
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._application(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        status, reason = self._fault(scope)
        if not status:
            await self._application(scope, receive, send_safely)
            return
        content = f"{reason}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(content))]
        await send_safely({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _fault(self, scope: Message) -> tuple[int, str]:
        """The status and reason of a refusal; status 0 lets the request through."""
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        if len(headers.get(b"host", ())) != 1 or headers[b"host"][0].lower() not in self._hosts:
            return 403, "refused: this page is only available on this machine (foreign Host)"
        changes = scope["method"] not in ("GET", "HEAD")
        origins = headers.get(b"origin", [])
        if any(origin.lower().removeprefix("http://") not in self._hosts for origin in origins):
            return 403, "refused: the request comes from another page (foreign Origin)"
        if changes and not origins:
            return 403, "refused: the request does not say which page it comes from (no Origin)"
        if any(site not in ("same-origin", "none") for site in headers.get(b"sec-fetch-site", ())):
            return 403, "refused: the request comes from another site"
        return _body_fault(headers.get(b"content-length", [])) if changes else (0, "")


def _body_fault(lengths: list[str]) -> tuple[int, str]:
    if len(lengths) != 1 or not lengths[0].isdecimal():
        return 411, "refused: the request does not say how long it is"
    if int(lengths[0]) > MAX_BODY_BYTES:
        return 413, f"refused: longer than {MAX_BODY_BYTES:,} bytes"
    return 0, ""
