"""Fetching a few pages politely and safely: robots.txt, caps on bytes, pages and time, HTML and plain text only."""

import http.client
import socket
import ssl
import time
from dataclasses import dataclass, field
from urllib.parse import urljoin
from urllib.robotparser import RobotFileParser

from ....data.records.decoding import decode_text
from .guard import Guard, LookupRefused, Target

AGENT = "merchantguard"
_TYPES = ("text/html", "application/xhtml+xml", "text/plain")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Caps of one case's look-up: bytes of a page, redirects, seconds of a request and of all together."""

    page_bytes: int = 2_000_000
    redirects: int = 4
    seconds: float = 10.0
    total_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page: the address it came from in the end, and its text or HTML."""

    url: str
    content: str
    is_html: bool


class _Pinned(http.client.HTTPConnection):
    """Connects to the checked address and names the host."""

    def __init__(self, target: Target, timeout: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout)
        self._target = target

    def connect(self) -> None:
        raw = socket.create_connection((self._target.address, self._target.port), self.timeout)
        if self._target.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=self._target.host)
        else:
            self.sock = raw


@dataclass
class Fetcher:
    """Fetches pages of one merchant."""

    guard: Guard
    limits: FetchLimits = field(default_factory=FetchLimits)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.limits.total_seconds
        self._robots: dict[str, RobotFileParser | None] = {}

    def fetch(self, url: str) -> FetchedPage:
        """A page.

        :raises LookupRefused: if it may not be fetched, or is no page of text.
        """
        for _ in range(self.limits.redirects + 1):
            target = self.guard.check(url)
            if not self._may(target):
                raise LookupRefused(f"{url[:200]!r}: robots.txt does not allow it")
            status, headers, body = self._request(target)
            if status in _REDIRECTS and headers.get("location"):
                url = urljoin(url, headers["location"])
                continue
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if status != 200 or kind not in _TYPES:
                raise LookupRefused(
                    f"{url[:200]!r}: status {status}, type {kind or 'unknown'}; a page of text is needed"
                )
            is_html = kind != "text/plain"
            return FetchedPage(url, decode_text(body, markup=is_html).text, is_html)
        raise LookupRefused(f"{url[:200]!r}: redirects more than {self.limits.redirects} times")

    def _may(self, target: Target) -> bool:
        """Whether robots.txt allows it; a site that cannot give it (5xx, no answer) allows nothing, 4xx everything."""
        site = f"{target.scheme}://{target.host}:{target.port}"
        if site not in self._robots:
            self._robots[site] = self._read_robots(f"{site}/robots.txt")
        rules = self._robots[site]
        return rules is not None and rules.can_fetch(AGENT, target.url)

    def _read_robots(self, url: str) -> RobotFileParser | None:
        rules = RobotFileParser()
        for _ in range(self.limits.redirects + 1):
            status, headers, body = self._request(self.guard.check(url))
            if status in _REDIRECTS and headers.get("location"):
                url = urljoin(url, headers["location"])
                continue
            if status >= 500:
                return None
            rules.parse(body.decode("utf-8", "replace").splitlines() if status == 200 else [])
            return rules
        return None

    def _request(self, target: Target) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and the first bytes of the body; the clock runs over the whole body."""
        end = min(self._end, time.monotonic() + self.limits.seconds)
        connection = _Pinned(target, max(end - time.monotonic(), 0.01))
        try:
            connection.request("GET", target.path, headers={"User-Agent": AGENT, "Accept": ", ".join(_TYPES)})
            response = connection.getresponse()
            body = b""
            while len(body) < self.limits.page_bytes:
                if time.monotonic() > end:
                    raise LookupRefused(f"{target.url[:200]!r}: takes too long")
                block = response.read1(min(65536, self.limits.page_bytes - len(body)))
                if not block:
                    break
                body += block
            return response.status, {name.lower(): value for name, value in response.getheaders()}, body
        except (OSError, http.client.HTTPException) as error:
            raise LookupRefused(f"{target.url[:200]!r}: no answer ({type(error).__name__})") from error
        finally:
            connection.close()
