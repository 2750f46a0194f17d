"""The HTTP application: routes around a model host."""

import asyncio
import contextlib
import hashlib
import hmac
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ... import __version__
from ...core.errors import MerchantGuardError
from ...serve.decision_record import DecisionRecord
from ..actions import load_table
from ..log import LogOptions, LogWriter, log_key
from .assessing import STATUS, Desk, Selection, retry_after
from .guard import Guard
from .messages import (
    LONGEST_DEADLINE_MS,
    AssessIn,
    AssessOut,
    ErrorOut,
    ModelOut,
    ModerationIn,
    ModerationOut,
    ModerationResult,
    PolicyOut,
    ResultOut,
    SwapIn,
)
from .metrics import Metrics
from .model_host import Loaded, ModelHost
from .settings import ServiceSettings

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/json": {"example": {"error": {"type": kind, "message": text}}}},
    }
    for status, kind, text in (
        (401, "unauthorized", "no valid API key"),
        (413, "too_large", "the request is larger than the limit"),
        (422, "invalid", "a field is wrong; the message names it"),
        (429, "queue_full", "the queue is full: come back after Retry-After seconds"),
        (500, "internal_error", "a fault; the service's log has the reason"),
        (503, "draining", "the service stops, or cannot log; come back after Retry-After seconds"),
        (504, "deadline", "the deadline passed"),
    )
}
_SWAP_ERRORS: dict[int | str, dict[str, Any]] = {
    **{status: _ERRORS[status] for status in (401, 413, 422)},
    403: {"description": "no admin key"},
    409: {"description": "the bundle is refused"},
}
Deadline = Annotated[
    int | None,
    Header(
        alias="X-Deadline-Ms", gt=0, le=LONGEST_DEADLINE_MS, description="overrides the body's deadline_ms"
    ),
]


class Service:
    """The state of a running service: its model, its log, and whether it takes requests."""

    def __init__(self, settings: ServiceSettings, selections: Mapping[str, Selection] | None = None) -> None:
        settings.check()
        self.settings = settings
        self.metrics = Metrics()
        self.host = ModelHost(settings)
        self.metrics.watch(self.host)
        self.log, key = None, b""
        if settings.log is not None:
            key = log_key(settings.log)
            self.log = LogWriter(settings.log, LogOptions(when_full=settings.log_when_full))
        chosen = dict(selections or {})
        if settings.audit_share:
            chosen["audit"] = audit_coin(settings.audit_share, key)
        self.desk = Desk(
            self.metrics,
            log=self.log,
            log_key=key,
            keep_texts=settings.log_texts,
            actions=load_table(settings.actions) if settings.actions is not None else None,
            selections=chosen,
        )
        self.leaving = self.stopping = False

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests: not from the signal to stop on, nor when its workers have ended."""
        logging_lives = self.log is None or self.log.alive
        return not self.leaving and not self.stopping and self.host.alive and logging_lives

    def refusal(self, items: Sequence[Any]) -> JSONResponse | None:
        """The answer to a request that is not even begun."""
        if self.stopping:
            return error_response(503, "draining", "the service stops")
        if not 0 < len(items) <= self.settings.max_items:
            most = self.settings.max_items
            return error_response(
                422, "invalid", f"input: {len(items)} items; 1 to {most:,} are taken at once"
            )
        return None

    async def results(
        self, request: Request, model: Loaded, items: Sequence[Any], deadline_ms: int | None
    ) -> list[ResultOut] | None:
        """A result for each item; None if the client went away."""
        deadline = deadline_ms or self.settings.deadline_ms
        work = self.desk.assess(
            model, items, request_id=request.state.request_id, deadline=deadline / 1000 if deadline else None
        )
        found: list[ResultOut] | None = await _unless_gone(request, work)
        facts = request.state.facts
        facts["items"] = len(items)
        facts["errors"] = sum(each.error is not None for each in found or ())
        return found

    def close(self) -> bool:
        """Answer what waits, write the log; False if the model did not end within `drain_seconds`, as when it hangs."""
        closing = threading.Thread(target=self.host.close, daemon=True)
        closing.start()
        closing.join(self.settings.drain_seconds)
        if self.log is not None:
            self.log.close()
        return not closing.is_alive()

    @property
    def application(self) -> Guard:
        """The ASGI application."""
        settings = self.settings
        return Guard(
            build_app(self),
            keys=settings.keys,
            admin_keys=settings.admin_keys,
            max_body_bytes=settings.max_body_bytes,
            metrics=self.metrics,
        )


def audit_coin(share: float, key: bytes) -> Selection:
    """A keyed coin for each merchant and day, thrown at decision time: heads with probability `share`."""

    def toss(record: DecisionRecord) -> tuple[float, bool]:
        who = record.merchant_id or record.record_id or record.text_hmac
        digest = hmac.new(key, f"audit {who} {record.time[:10]}".encode(), hashlib.sha256).digest()
        return share, int.from_bytes(digest[:8], "big") < share * 2**64

    return toss


def build_app(service: Service) -> FastAPI:
    """The FastAPI application with its routes; `Guard` goes around it."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(_watch(service)) if service.settings.watch else None
        yield
        if watcher is not None:
            watcher.cancel()

    app = FastAPI(
        title="merchantguard",
        version=__version__,
        description="Reads merchants' own text and says which policies it violates.",
        lifespan=lifespan,
        docs_url=None,  # the page loads scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]
    _add_health(app, service)
    _add_assessing(app, service)
    _add_model(app, service)
    return app


async def _watch(service: Service) -> None:
    """Exchange the bundle when the folder holds another one."""
    while True:
        await asyncio.sleep(service.settings.watch or 10.0)
        if await asyncio.to_thread(service.host.changed):
            with contextlib.suppress(MerchantGuardError):  # the host has logged it, and does not try it again
                await asyncio.to_thread(service.host.swap)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    field = ".".join(part for part in first["loc"] if isinstance(part, str) and part != "body")
    # The value is left out: it may be a merchant's text, and not every value can be written as JSON.
    return error_response(422, "invalid", f"{field or 'body'}: {first['msg']}")


async def _refused(_: Request, error: HTTPException) -> JSONResponse:
    kinds = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    if error.status_code == 400:  # a body that is no JSON, or no UTF-8
        return error_response(422, "invalid", f"body: {error.detail}")
    response = error_response(error.status_code, kinds.get(error.status_code, "refused"), str(error.detail))
    response.headers.update(error.headers or {})
    return response


def error_response(status: int, kind: str, message: str) -> JSONResponse:
    """An error as every route gives it."""
    headers = {"retry-after": retry_after()} if status in (429, 503) else None
    return JSONResponse({"error": {"type": kind, "message": message, "code": kind}}, status, headers)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/livez", summary="Whether the process lives", tags=["health"])
    async def livez() -> Response:
        alive = service.host.alive
        return JSONResponse(
            {"status": "ok" if alive else "scoring threads have ended"}, 200 if alive else 503
        )

    @app.get("/readyz", summary="Whether requests are taken", tags=["health"])
    @app.get("/health", include_in_schema=False)
    async def readyz() -> Response:
        state = "ok" if service.ready else "draining" if service.leaving else "not ready"
        return JSONResponse({"status": state}, 200 if service.ready else 503)

    @app.get("/metrics", summary="Figures for Prometheus", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_assessing(app: FastAPI, service: Service) -> None:
    @app.post("/v1/assess", response_model=AssessOut, responses=_ERRORS, tags=["scoring"])
    async def assess(
        request: Request, body: Annotated[AssessIn, Body()], deadline_ms: Deadline = None
    ) -> Any:
        """Assess a text, a record or a list of them. Each item has its own result or error."""
        items = body.input if isinstance(body.input, list) else [body.input]
        if (refused := service.refusal(items)) is not None:
            return refused
        with service.host.lease() as model:
            results = await service.results(request, model, items, deadline_ms or body.deadline_ms)
        if results is None:
            return Response(status_code=499)
        failed = _failure(results)
        if failed is not None:
            return error_response(STATUS[failed.type], failed.type, failed.message)
        return AssessOut(
            request_id=request.state.request_id, model=model.label, digest=model.digest, results=results
        )

    @app.post("/v1/moderations", response_model=ModerationOut, responses=_ERRORS, tags=["scoring"])
    async def moderations(
        request: Request, body: Annotated[ModerationIn, Body()], deadline_ms: Deadline = None
    ) -> Any:
        """The same in the shape of OpenAI's moderation endpoint: point its client here."""
        items = _moderation_items(body.input)
        if (refused := service.refusal(items)) is not None:
            return refused
        with service.host.lease() as model:
            results = await service.results(request, model, items, deadline_ms)
        if results is None:
            return Response(status_code=499)
        # This shape has no place for an item's own error.
        failed = next((each.error for each in results if each.error is not None), None)
        if failed is not None:
            return error_response(STATUS[failed.type], failed.type, failed.message)
        return ModerationOut(
            id=f"modr-{request.state.request_id}",
            model=model.label,
            results=[_moderation(result, model) for result in results],
        )


def _moderation_items(given: Any) -> list[Any]:
    """The texts of a moderation request; parts of the form {"type": "text", "text": ...} are texts too."""
    if not isinstance(given, list):
        return [given]
    return [
        part["text"] if isinstance(part, dict) and part.get("type") == "text" and "text" in part else part
        for part in given
    ]


def _moderation(result: ResultOut, model: Loaded) -> ModerationResult:
    found = {each.policy for each in result.findings or ()}
    ids = [policy.id for policy in model.scorer.policies]
    scores = result.probabilities or dict.fromkeys(ids, 0.0)
    return ModerationResult(
        flagged=result.decision != "clear",
        categories={each: each in found for each in ids},
        category_scores=scores,
        category_applied_input_types={each: ["text"] for each in ids},
        decision=result.decision or "clear",
        decision_id=result.decision_id,
    )


def _failure(results: Sequence[ResultOut]) -> ErrorOut | None:
    """The error of a request of which nothing was assessed; the first one that is not about its content goes first."""
    errors = [each.error for each in results if each.error is not None]
    if len(errors) < len(results):
        return None
    return next((error for error in errors if error.type != "invalid"), errors[0])


async def _unless_gone(request: Request, work: Any) -> Any:
    """The result of `work`, or None if the client went away, in which case the work is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_model(app: FastAPI, service: Service) -> None:
    @app.get("/v1/model", response_model=ModelOut, responses={401: _ERRORS[401]}, tags=["model"])
    async def model() -> ModelOut:
        """The bundle in use, its policies and thresholds."""
        return describe(service)

    @app.post(
        "/v1/model",
        response_model=ModelOut,
        responses=_SWAP_ERRORS,
        tags=["model"],
    )
    async def exchange(body: Annotated[SwapIn | None, Body()] = None) -> Any:
        """Exchange the bundle, for who has an admin key. A bundle that is not usable is refused, and the old one stays."""
        path = Path(body.path) if body is not None and body.path else None
        try:
            await asyncio.to_thread(service.host.swap, path)
        except (MerchantGuardError, ValueError) as error:
            return error_response(409, "refused", str(error))
        return describe(service)


def describe(service: Service) -> ModelOut:
    """What the service says of its bundle."""
    bundle = service.host.current.scorer.bundle
    return ModelOut(
        name=bundle.name,
        version=bundle.version,
        digest=bundle.digest,
        variant=service.host.current.scorer.variant,
        policies=[
            PolicyOut(
                id=policy.id,
                title=policy.title,
                severity=policy.severity,
                review=policy.review,
                block=policy.block,
            )
            for policy in bundle.policies
        ],
        languages=list(bundle.languages),
        swaps=service.host.swaps,
        refused=service.host.refused,
        last_error=service.host.last_error,
    )
