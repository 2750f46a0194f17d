"""The review page: rendered on the server, for this machine only, with the same keys as in the terminal.

Pages are plain HTML that works without scripts; htmx only swaps them in place. All text is made safe to show and escaped by
the templates; scripts come from two static files and from nowhere else (`guard.py`).
"""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

import jinja2
import uvicorn
from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ....core.display import visible_line
from ....core.errors import AuditError, MerchantGuardError, StorageError
from ...sampling.mix import Mix
from ...storage.items import AnswerKind
from ...storage.journal import Journal
from ...storage.store import Scan
from .. import wording
from ..card import Card
from ..highlights import Evidence
from ..session import Session, checked_name
from .guard import Application, Guard

_HERE = Path(__file__).parent
_COOKIE = "reviewer"
_STATIC = {
    "review.css": "text/css; charset=utf-8",
    "review.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class SessionRegistry:
    """The sessions of all reviewers who use this server, and each one's current item."""

    def __init__(
        self,
        folder: Path,
        *,
        reviewer: str | None = None,
        adjudicate: bool = False,
        mix: Mix | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self.reviewer = reviewer
        # Every form must carry it, so that another website cannot submit one.
        self.token = secrets.token_urlsafe(24)
        self._open: Callable[[str], Session] = lambda name: Session(
            folder, name, adjudicate=adjudicate, mix=mix, evidence=evidence
        )
        self._sessions: dict[str, Session] = {}
        self._current: dict[str, Card] = {}
        # A folder without an audit is reported before anything is served.
        Scan(folder).close()
        Journal(folder).close()

    def session(self, name: str) -> Session:
        """The session of a reviewer."""
        if name not in self._sessions:
            self._sessions[name] = self._open(name)
        return self._sessions[name]

    def current(self, name: str) -> Card | None:
        """The item for a reviewer to answer: the same one until it is answered."""
        if name not in self._current and (card := self.session(name).next()) is not None:
            self._current[name] = card
        return self._current.get(name)

    def answer(self, name: str, number: int, kind: AnswerKind) -> int | None:
        """Write an answer and return its number, also if it is sent twice; None if the item is not the current one."""
        card = self._current.get(name)
        if card is not None and card.number == number:
            answer = self.session(name).answer(card, kind)
            del self._current[name]
            return answer.number
        self.session(name).queue.refresh()
        last = self.session(name).queue.last_own()
        return last.number if last is not None and last.shown.get("item") == number else None

    def undo(self, name: str) -> None:
        """Undo a reviewer's latest answer; its item is then the current one."""
        if (card := self.session(name).undo()) is not None:
            self._current[name] = card

    def close(self) -> None:
        """End all sessions."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


def make_app(registry: SessionRegistry, *, port: int) -> Application:
    """The application, behind its guard."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        registry.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    pages = Pages(registry)
    app.get("/static/{name}")(static_file)
    app.get("/")(pages.start)
    app.post("/reviewer")(pages.choose)
    app.get("/review")(pages.review)
    app.get("/answered/{number}")(pages.answered)
    app.get("/more")(pages.more)
    app.post("/answer")(pages.answer)
    app.post("/anything-else")(pages.anything_else)
    app.post("/add")(pages.add)
    app.post("/comment")(pages.comment)
    app.post("/undo")(pages.undo)
    app.add_exception_handler(MerchantGuardError, pages.explain)
    app.add_exception_handler(RequestValidationError, pages.explain)
    return Guard(app, port=port)


async def static_file(name: str) -> Response:
    """A style sheet or a script."""
    if name not in _STATIC:
        return Response("not found", status_code=404, media_type="text/plain")
    return Response((_HERE / "static" / name).read_bytes(), headers={"content-type": _STATIC[name]})


class Pages:
    """The response of each address. All are coroutines: the sessions' databases belong to one thread."""

    def __init__(self, registry: SessionRegistry) -> None:
        self._registry = registry
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["visible"] = visible_line
        environment.globals.update(wording=wording, token=registry.token)
        self._environment = environment

    def _page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(template).render(**values), status_code=status)

    def _name(self, request: Request) -> str | None:
        if self._registry.reviewer is not None:
            return self._registry.reviewer
        try:
            return checked_name(unquote(request.cookies.get(_COOKIE, "")))
        except AuditError:
            return None

    def _checked(self, request: Request, token: str) -> str:
        """The reviewer who sent a form.

        :raises AuditError: if the form is not from a page of this server, or the reviewer has no name yet.
        """
        name = self._name(request)
        if not secrets.compare_digest(token.encode(), self._registry.token.encode()):
            raise AuditError("this page is from before the server was restarted: reload it")
        if name is None:
            raise AuditError("enter your name first")
        return name

    async def start(self, request: Request) -> Response:
        """Ask for the reviewer's name."""
        if self._registry.reviewer is not None:
            return _to("/review")
        return self._page("start.html.j2", name=self._name(request) or "")

    async def choose(self, name: Annotated[str, Form()], token: Annotated[str, Form()]) -> Response:
        """Remember the reviewer's name in this browser."""
        if not secrets.compare_digest(token.encode(), self._registry.token.encode()):
            raise AuditError("this page is from before the server was restarted: reload it")
        response = _to("/review")
        response.set_cookie(_COOKIE, quote(checked_name(name)), httponly=True, samesite="strict")
        return response

    async def review(self, request: Request) -> Response:
        """The item to answer now."""
        name = self._name(request)
        if name is None:
            return _to("/")
        session = self._registry.session(name)
        card = self._registry.current(name)
        if card is None:
            return self._page("finished.html.j2", session=session, progress=session.progress())
        answers = session.reveal(card).answers if card.stage == "adjudication" else ()
        return self._card(session, card, answers=answers, panes=card.panes, reveal=None, number=None)

    async def answered(self, request: Request, number: int) -> Response:
        """An answered item, with what was hidden before."""
        name = self._name(request)
        if name is None:
            return _to("/")
        session = self._registry.session(name)
        card, _ = session.answered(number)
        reveal = session.reveal(card)
        return self._card(
            session,
            card,
            answers=reveal.answers,
            panes=reveal.panes,
            reveal=reveal,
            number=number,
            others=session.other_policies(card),
        )

    def _card(self, session: Session, card: Card, *, panes: Any, **values: Any) -> Response:
        parts = [(pane, pane.excerpt()) for pane in panes]
        return self._page(
            "card.html.j2", session=session, card=card, parts=parts, progress=session.progress(), **values
        )

    async def more(self, request: Request, side: int, start: int, answered: int = 0) -> Response:
        """The next part of a long text."""
        name = self._name(request)
        if name is None:
            return _to("/")
        session = self._registry.session(name)
        card = session.answered(answered)[0] if answered else self._registry.current(name)
        if card is None or not 0 <= side < len(card.panes):
            raise AuditError("this item is no longer shown")
        if not answered:
            session.keep(card)
        pane = (session.cards.with_quotes(card) if answered else card.panes)[side]
        return self._page(
            "part.html.j2", pane=pane, part=pane.excerpt(start), side=side, number=answered or None
        )

    async def answer(
        self,
        request: Request,
        item: Annotated[int, Form()],
        answer: Annotated[AnswerKind, Form()],
        token: Annotated[str, Form()],
    ) -> Response:
        """Write an answer, then show what was hidden."""
        name = self._checked(request, token)
        if answer not in wording.KEYS.values():
            raise AuditError(f"{answer} is not an answer to an item")
        card = self._registry.current(name)
        session = self._registry.session(name)
        if card is not None and card.number == item and session.leaves_nothing(card, answer):
            return self._page(
                "anything_else.html.j2", card=card, policies=session.other_policies(card), session=session
            )
        number = self._registry.answer(name, item, answer)
        return _to("/review" if number is None or answer == "skip" else f"/answered/{number}")

    async def anything_else(
        self,
        request: Request,
        item: Annotated[int, Form()],
        token: Annotated[str, Form()],
        policy: Annotated[list[str] | None, Form()] = None,
    ) -> Response:
        """Write that the policy doesn't hold, and what the merchant violates instead, if anything."""
        name = self._checked(request, token)
        card = self._registry.current(name)
        if card is not None and card.number == item:
            # First the additions: an interruption must not leave the record without labels.
            self._registry.session(name).add(card, policy or [])
        number = self._registry.answer(name, item, "has_not")
        return _to("/review" if number is None else f"/answered/{number}")

    async def add(
        self,
        request: Request,
        answered: Annotated[int, Form()],
        token: Annotated[str, Form()],
        policy: Annotated[list[str] | None, Form()] = None,
    ) -> Response:
        """Write what else the merchant of an answered item violates."""
        session = self._registry.session(self._checked(request, token))
        session.add(session.answered(answered)[0], policy or [])
        return _to("/review")

    async def comment(
        self,
        request: Request,
        token: Annotated[str, Form()],
        comment: Annotated[str, Form()] = "",
        answered: Annotated[int, Form()] = 0,
    ) -> Response:
        """Write a comment on the item that is shown."""
        name = self._checked(request, token)
        session = self._registry.session(name)
        card = session.answered(answered)[0] if answered else self._registry.current(name)
        if card is not None and comment.strip():
            session.answer(card, "comment", comment.strip())
        return _to(f"/answered/{answered}" if answered else "/review")

    async def undo(self, request: Request, token: Annotated[str, Form()]) -> Response:
        """Undo the latest answer."""
        self._registry.undo(self._checked(request, token))
        return _to("/review")

    async def explain(self, _: Request, error: Exception) -> Response:
        """The error page."""
        status = 507 if isinstance(error, StorageError) else 409
        message = str(error)
        if isinstance(error, RequestValidationError):
            status, message = 422, "this form is not from this page: reload it"
        return self._page("message.html.j2", status=status, message=message)


def _to(path: str) -> Response:
    return RedirectResponse(path, status_code=303)


def serve(registry: SessionRegistry, *, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted, on the loopback address only.

    :param port: 0 picks a free one.
    :param on_ready: called with the address once the server accepts connections.
    :raises AuditError: if the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()  # before the address is announced: early connections wait
        except OSError as error:
            raise AuditError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port"
            ) from error
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            make_app(registry, port=port), log_level="warning", access_log=False, server_header=False
        )
        on_ready(f"http://127.0.0.1:{port}/")
        uvicorn.Server(config).run(sockets=[listener])
