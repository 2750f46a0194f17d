"""Further pages: only of the merchant's domain, only from public addresses, within caps, and as robots.txt allows."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest_adjudicate import POLICY, make_case

from merchantguard.operate.adjudicate.lookup.choose import extended, further_pages
from merchantguard.operate.adjudicate.lookup.fetch import Fetcher, FetchLimits
from merchantguard.operate.adjudicate.lookup.guard import Guard, LookupRefused

HOME = (
    '<a href="/about">About us</a> <a href="/blog/cats">Cats</a> <a href="/p/anabolic">Anabolic vials</a>'
    '<a href="http://elsewhere.example/anabolic">Anabolic</a> <a href="/private/steroids">Steroids</a>'
    '<a href="/away">steroids here</a>'
)


class Site(BaseHTTPRequestHandler):
    seen: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append(self.path)
        pages = {
            "/robots.txt": (200, "text/plain", b"User-agent: *\nDisallow: /private/\n"),
            "/": (200, "text/html", HOME.encode()),
            "/about": (200, "text/html", b"<p>We are a family shop.</p>"),
            "/p/anabolic": (200, "text/html; charset=utf-8", b"<p>Trenbolone vials, ten for 40 euros.</p>"),
            "/big": (200, "text/plain", b"x" * 5_000_000),
            "/picture": (200, "image/png", b"png"),
            "/loop": (302, "/loop", b""),
            "/away": (302, "http://127.0.0.1:1/secret", b""),
            "/meta": (302, "http://169.254.169.254/latest/meta-data/", b""),
        }
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return
            return
        status, kind, body = pages.get(self.path, (404, "text/html", b"no"))
        self.send_response(status)
        self.send_header("Location" if status == 302 else "Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://shop.example:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def fetcher(site: str, **limits: float) -> Fetcher:
    port = int(site.rsplit(":", 1)[1])
    guard = Guard(
        "shop.example",
        allowed=("127.0.0.1/32",),
        ports=frozenset({port}),
        resolver=lambda host, port: ["127.0.0.1"],
    )
    return Fetcher(guard, FetchLimits(**limits))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.9", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1", "fe80::1",
     "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%eth0", "nonsense"],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    guard = Guard("shop.example", resolver=lambda host, port: ["93.184.216.34", address])
    with pytest.raises(LookupRefused, match="not a public address"):
        guard.check("https://shop.example/")


def test_a_public_address_of_the_domain_is_allowed_and_pinned() -> None:
    guard = Guard("www.shop.co.uk", resolver=lambda host, port: ["93.184.216.34"])
    assert guard.check("https://Store.shop.co.uk./a?b=1").address == "93.184.216.34"


@pytest.mark.parametrize(
    "url",
    ["ftp://shop.example/", "file:///etc/passwd", "https://other.example/", "https://shop.example.evil.example/", "https://shop.example:22/",
     "https://shop.example@evil.example/", "https://user:pw@shop.example/", "https://shop.example:99999/", "gopher://shop.example", "//shop.example",
     "https://co.uk/", "http://[::1]/", "http://2130706433/"],
)  # fmt: skip
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(LookupRefused):
        Guard("shop.example", resolver=lambda host, port: ["93.184.216.34"]).check(url)


def test_the_links_of_the_policy_are_followed_within_the_domain_and_robots(site: str) -> None:
    pages = list(further_pages(f"{site}/", POLICY, fetcher(site), most=3))
    assert [page.url.rsplit(":", 1)[1].partition("/")[2] for page in pages] == ["", "p/anabolic", "about"]
    assert "/private/steroids" not in Site.seen
    assert "/blog/cats" not in Site.seen
    longer = extended(make_case(text="A shop."), pages)
    assert longer is not None
    assert "Trenbolone vials, ten for 40 euros." in longer.text


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/away", "127.0.0.1"), ("/meta", "169.254.169.254"), ("/loop", "redirects"), ("/picture", "image/png"), ("/none", "404"),
     ("/private/x", "robots")],
)  # fmt: skip
def test_what_may_not_be_read_is_refused(site: str, path: str, reason: str) -> None:
    with pytest.raises(LookupRefused, match=reason):
        fetcher(site).fetch(site + path)


def test_bytes_and_time_have_caps(site: str) -> None:
    assert len(fetcher(site, page_bytes=1000).fetch(f"{site}/big").content) == 1000
    begin = time.monotonic()
    with pytest.raises(LookupRefused, match="too long"):
        fetcher(site, seconds=0.5).fetch(f"{site}/slow")
    assert time.monotonic() - begin < 4
