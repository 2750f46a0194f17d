"""The review page: the path of a reviewer, hostile texts, hostile requests, and a real server."""

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from starlette.testclient import TestClient

from merchantguard.audit.review.review_queue import Assignment
from merchantguard.audit.review.session import Session
from merchantguard.audit.review.web.app import SessionRegistry, make_app
from merchantguard.audit.sampling.mix import Mix
from merchantguard.audit.storage.items import Item, Reason
from merchantguard.audit.storage.journal import Journal
from merchantguard.core.errors import AuditError, StorageError

PORT = 8765
HOME = f"http://127.0.0.1:{PORT}"
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)> {{ 7*7 }} {% raw %} "
    "javascript:alert(4) \u202egnp.exe\u202c \x00\x1b[31m &lt;b&gt; </div></section></main> crimson"
)


def _write(write_audit: Callable[..., Path], junk: int) -> Path:
    """Four items: a hostile text, a pair that contradicts itself, much junk, a plain one."""
    rows = [
        {"id": "<b>hostile</b>", "text": HOSTILE, "labels": [], "domain": "<i>x</i>.example"},
        {"id": "one", "text": "we sell crimson paint", "labels": ["crimson"]},
        {"id": "two", "text": "we rent crimson paint", "labels": []},
        {"id": "long", "text": "<p>junk " * junk + "crimson" + " tail" * junk, "labels": []},
        {"id": "plain", "text": "walrus", "labels": []},
    ]
    reason = (Reason("margin", "<u>the model doubts it</u>", 0.25),)
    items = [
        Item("<b>hostile</b>", "crimson", False, "missing_positive", 0.9, 0.875, 9.0, reasons=reason),
        Item("one", "crimson", True, "contradicting_duplicates", 0.5, 0.5, 5.0, other_record="two"),
        Item("long", "crimson", True, "wrong_positive", 0.5, 0.5, 1.0),
        Item("plain", "walrus", True, "wrong_positive", 0.5, 0.5, 0.5, other_policy="crimson"),
    ]
    return write_audit(rows, items, duplicates=[0, 1, 1, 2, 3])


@pytest.fixture
def audit(write_audit: Callable[..., Path]) -> Path:
    """An audit of four items."""
    return _write(write_audit, junk=2_000)


@pytest.fixture
def client(audit: Path) -> Iterator[TestClient]:
    """A browser at the page, nobody signed in."""
    registry = SessionRegistry(audit, mix=Mix(0, 0, 0, 0.0))
    with TestClient(make_app(registry, port=PORT), base_url=HOME, headers={"origin": HOME}) as client:
        yield client


class _Elements(HTMLParser):
    """Collects a page's elements with their attributes, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _parsed(page: str) -> _Elements:
    parser = _Elements()
    parser.feed(page)
    return parser


def _token(page: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', page)
    assert found
    return found[1]


def _item(page: str) -> str:
    found = re.search(r'name="item" value="(\d+)"', page)
    assert found
    return found[1]


def _begin(client: TestClient, name: str = "ada") -> str:
    page = client.get("/").text
    return client.post("/reviewer", data={"name": name, "token": _token(page)}).text


def _answer(client: TestClient, page: str, answer: str) -> str:
    data = {"item": _item(page), "answer": answer, "token": _token(page)}
    return client.post("/answer", data=data).text


def _written(audit: Path) -> list[tuple[str, str, str]]:
    return [(answer.reviewer, answer.record, answer.answer) for answer in Journal(audit).answers()]


def test_the_path_of_a_reviewer(client: TestClient, audit: Path) -> None:
    assert client.get("/review").url.path == "/"  # first say who you are
    page = _begin(client)
    assert "87.5%" not in page
    assert "doubts" not in page
    shown = _answer(client, page, "has")
    assert "87.5%" in shown
    assert "&lt;u&gt;the model doubts it&lt;/u&gt;" in shown
    # The same key twice writes one answer and shows the same page.
    assert "87.5%" in _answer(client, page, "has_not")
    assert _written(audit) == [("ada", "<b>hostile</b>", "has")]
    page = client.get("/review").text
    assert _item(page) == _item(client.get("/review").text) == "2"
    assert page.count('class="pane"') == 2
    assert '<mark class="differs">rent</mark>' in page
    page = client.post("/undo", data={"token": _token(page)}).text
    assert _item(page) == "1"
    page = client.post("/comment", data={"token": _token(page), "comment": " odd <b>one</b> "}).text
    assert "odd &lt;b&gt;one&lt;/b&gt;" in _answer(client, page, "cannot_tell")
    page = client.get("/review").text
    for answer in ("skip", "skip", "has"):
        page = _answer(client, page, answer)
    assert "Possible correct label" in page
    assert "There is nothing left for you" in client.get("/review").text
    kinds = [answer for _, _, answer in _written(audit)]
    assert kinds == ["has", "undo", "comment", "cannot_tell", "skip", "skip", "has"]


def test_hostile_text_is_inert(client: TestClient) -> None:
    page = _begin(client)
    parsed = _parsed(page)
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in parsed.text
    assert "⟨RLO⟩gnp.exe⟨PDF⟩ ⟨U+0000⟩⟨U+001B⟩[31m &lt;b&gt;" in parsed.text
    assert "{{ 7*7 }} {% raw %}" in parsed.text
    assert {tag for tag, _ in parsed.elements}.isdisjoint(
        {"img", "svg", "b", "i", "u", "iframe", "style", "object"}
    )
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")
    assert "\u202e" not in page
    assert "\x00" not in page


def test_five_megabytes_are_shown_in_parts_around_what_matters(
    client: TestClient, write_audit: Callable[..., Path]
) -> None:
    _write(write_audit, junk=400_000)  # before the first request opens it
    page = _begin(client)
    for _ in range(2):
        page = _answer(client, page, "skip")
    assert _item(page) == "3"
    assert len(page) < 60_000
    assert '<mark class="word">crimson</mark>' in page
    more = re.search(r'hx-get="(/more\?side=0&amp;start=(\d\d+)[^"]*)"', page)
    assert more
    part = client.get(more[1].replace("&amp;", "&")).text
    assert "tail tail" in part
    assert f"start={int(more[2]) + 6_000}" in part
    assert "<p>" not in client.get("/more?side=0&start=0").text
    for bad in ("side=7&start=0", "side=0&start=0&answered=99", "side=x&start=0"):
        assert client.get(f"/more?{bad}").status_code in (409, 422)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/review", {"host": "evil.example"}),
        ("GET", "/review", {"host": f"127.0.0.1.evil.example:{PORT}"}),
        ("GET", "/review", {"host": "127.0.0.1:1"}),
        ("GET", "/static/review.js", {"host": "evil.example"}),
        ("GET", "/review", {"origin": "http://evil.example"}),
        ("GET", "/review", {"sec-fetch-site": "cross-site"}),
        ("POST", "/undo", {"origin": "http://evil.example"}),
        ("POST", "/undo", {"origin": "null"}),
        ("POST", "/undo", {"origin": f"https://127.0.0.1:{PORT}"}),
        ("POST", "/undo", {"sec-fetch-site": "same-site"}),
        ("POST", "/undo", {"origin": None}),
    ],
)
def test_foreign_requests_are_refused(
    client: TestClient, audit: Path, method: str, path: str, headers: dict[str, str | None]
) -> None:
    page = _begin(client)
    _answer(client, page, "has")
    for name, value in headers.items():
        client.headers.pop(name, None)
        if value is not None:
            client.headers[name] = value
    answer = client.request(method, path, data={"token": _token(page)} if method == "POST" else None)
    assert answer.status_code == 403
    assert "refused" in answer.text
    assert "crimson" not in answer.text
    assert len(_written(audit)) == 1


def test_forms_without_the_pages_token_write_nothing(client: TestClient, audit: Path) -> None:
    page = _begin(client)
    for token in ("", "x", "ü", _token(page)[:-1]):
        data = {"item": _item(page), "answer": "has", "token": token, "comment": "x"}
        for path in ("/answer", "/undo", "/comment"):
            assert client.post(path, data=data).status_code in (409, 422)
        assert client.post("/reviewer", data={"name": "eve", "token": token}).status_code in (409, 422)
    good = {"token": _token(page)}
    assert client.post("/answer", data=good | {"item": "1", "answer": "undo"}).status_code == 409
    assert client.post("/answer", data=good | {"item": "1", "answer": "<b>"}).status_code == 422
    assert client.post("/comment", data=good | {"comment": "x" * 200_000}).status_code == 413
    assert client.post("/comment", data=good | {"comment": "x" * 20_000}).status_code == 409
    assert client.get("/answered/1").status_code == 409
    assert _written(audit) == []


def test_every_response_forbids_what_the_page_does_not_need(client: TestClient) -> None:
    for path in (
        "/",
        "/static/review.css",
        "/static/htmx.min.js",
        "/static/nothing",
        "/nowhere",
        "/answered/9",
    ):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    assert client.get("/static/../web.py").status_code == 404
    assert client.get("/openapi.json").status_code == 404


def test_two_browsers_are_two_reviewers(client: TestClient, audit: Path) -> None:
    first = _begin(client, "ada")
    client.cookies.clear()
    second = _begin(client, "bob")
    assert (_item(first), _item(second)) == ("1", "2")
    _answer(client, second, "has")
    client.cookies.clear()
    first = _begin(client, "ada")
    assert _item(first) == "1"
    _answer(client, first, "has_not")
    assert _written(audit) == [("bob", "one", "has"), ("ada", "<b>hostile</b>", "has_not")]


def test_adjudication_shows_all_sides_before_the_answer(audit: Path) -> None:
    for reviewer, answer in (("bob", "has"), ("cem", "has_not")):
        session = Session(audit, reviewer)
        card = session.card(Assignment(4, "first"))
        session.answer(card, answer, f"{reviewer} <b>thinks</b>")  # type: ignore[arg-type]
        session.close()
    registry = SessionRegistry(audit, reviewer="eve", adjudicate=True)
    with TestClient(make_app(registry, port=PORT), base_url=HOME, headers={"origin": HOME}) as client:
        page = client.get("/").text
        text = _parsed(page).text
        assert text.index("bob <b>thinks</b>") < text.index("cem <b>thinks</b>")
        assert "Current label" not in text
        _answer(client, page, "has")
        assert "There are no disputes left" in client.get("/review").text
    assert _written(audit)[-1] == ("eve", "plain", "has")


def test_a_full_disk_is_said_and_the_item_stays(
    client: TestClient, audit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _begin(client)

    def full(self: Journal, answer: object) -> None:
        raise StorageError("journal.db: no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        answer = client.post("/answer", data={"item": "1", "answer": "has", "token": _token(page)})
        assert answer.status_code == 507
        assert "no space left" in answer.text
    assert _item(client.get("/review").text) == "1"
    assert "87.5%" in _answer(client, page, "has")
    assert len(_written(audit)) == 1


def test_a_folder_without_an_audit_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="label-audit scan"):
        SessionRegistry(tmp_path)


@pytest.fixture
def server(audit: Path) -> Iterator["subprocess.Popen[str]"]:
    """The command itself, on a free port."""
    command = [sys.executable, "-m", "merchantguard.audit_cli", "review", str(audit), "--web", "--port", "0"]
    with subprocess.Popen([*command, "--reviewer", "ada"], stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_real_server_answers_on_this_machine_only_and_survives_a_kill(
    server: "subprocess.Popen[str]", audit: Path
) -> None:
    assert server.stderr is not None
    address = re.search(r"http://127\.0\.0\.1:(\d+)/", server.stderr.readline())
    assert address
    port = int(address[1])
    sockets = psutil.Process(server.pid).net_connections("tcp")
    assert [each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN] == ["127.0.0.1"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/review")
    page = connection.getresponse().read().decode()
    form = urlencode({"item": _item(page), "answer": "has", "token": _token(page)})
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{port}"}
    connection.request("POST", "/answer", form, headers)
    response = connection.getresponse()
    assert (response.status, response.headers["location"]) == (303, "/answered/1")
    # Acknowledged, so it is on the disk: nothing that happens to the process now takes it away.
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert _written(audit) == [("ada", "<b>hostile</b>", "has")]


def test_the_last_label_goes_only_after_anything_else(audit: Path, client: TestClient) -> None:
    page = _begin(client)
    while "<bdi>one</bdi>" not in page:
        _answer(client, page, "skip")
        page = client.get("/review").text
    number = _item(page)
    page = _answer(client, page, "has_not")
    assert "violate anything else?" in page
    assert ("ada", "one", "has_not") not in _written(audit)
    data = {"item": number, "token": _token(page), "policy": "walrus"}
    assert "Current label" in client.post("/anything-else", data=data).text
    answers = [(each.policy, each.answer) for each in Journal(audit).answers() if each.record == "one"]
    assert answers == [("walrus", "has"), ("crimson", "has_not")]


def test_nothing_else_counts_too_and_unknown_policies_do_not(audit: Path, client: TestClient) -> None:
    page = _begin(client)
    while "<bdi>one</bdi>" not in page:
        _answer(client, page, "skip")
        page = client.get("/review").text
    number = _item(page)
    page = _answer(client, page, "has_not")
    data = {"item": number, "token": _token(page)}
    assert client.post("/anything-else", data=data | {"policy": "nonsense"}).status_code == 409
    assert ("ada", "one", "has_not") not in _written(audit)
    client.post("/anything-else", data=data)
    assert [each for each in _written(audit) if each[1] == "one"] == [("ada", "one", "has_not")]
