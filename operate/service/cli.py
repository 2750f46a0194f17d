"""Serve a bundle over HTTP."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.arguments import count, open_share, positive_count
from ...core.errors import MerchantGuardError
from ...core.extras import require
from .settings import ADMIN_KEYS_VARIABLE, KEYS_VARIABLE, ServiceSettings, read_keys

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from starlette.types import ASGIApp

    from .app import Service

EPILOG = f"""examples:
  merchantguard serve bundle/
  merchantguard serve bundle/ --port 8080 --log decisions/ --actions actions.yaml
  merchantguard serve bundle/ --host 0.0.0.0 --keys keys.txt --admin-keys admin.txt --watch 30
  curl -s localhost:8080/v1/assess -H 'content-type: application/json' -d '{{"input": "Hand-made bowls"}}'

Keys: one a line in a file, or separated by commas in {KEYS_VARIABLE} and {ADMIN_KEYS_VARIABLE}. Signals: TERM stops after a
pause, HUP exchanges the bundle for what its folder holds now. Logs are JSON lines on standard error, without merchant text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: %(default)s)")
    parser.add_argument("--port", type=count, default=8080, help="default: %(default)s; 0 takes a free one")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="file of API keys")
    parser.add_argument(
        "--admin-keys", type=Path, metavar="FILE", help="file of keys that may exchange the bundle"
    )
    parser.add_argument("--allow-open", action="store_true", help="bind to other addresses without keys")
    parser.add_argument("--threads", type=count, default=0, help="cores that score (default: all it may use)")
    parser.add_argument("--variant", default="auto", help="variant of the bundle (default: the fastest)")
    parser.add_argument(
        "--cascade", type=open_share, metavar="LOSS", help="certified loss of the first stage"
    )
    parser.add_argument(
        "--queue-tokens", type=positive_count, default=200_000, help="most tokens that wait (429 beyond)"
    )
    parser.add_argument(
        "--max-body", type=positive_count, default=10 << 20, metavar="BYTES", help="413 beyond"
    )
    parser.add_argument("--max-items", type=positive_count, default=1000, help="most items of a request")
    parser.add_argument("--deadline-ms", type=positive_count, help="deadline of requests that state none")
    parser.add_argument(
        "--pause", type=float, default=5.0, metavar="SECONDS", help="from TERM to the last request taken"
    )
    parser.add_argument(
        "--drain", type=float, default=30.0, metavar="SECONDS", help="most time to answer what waits"
    )
    parser.add_argument("--log", type=Path, metavar="FOLDER", help="keep a decision log here")
    parser.add_argument(
        "--log-when-full", choices=("fail", "drop"), default="fail", help="default: %(default)s (503)"
    )
    parser.add_argument("--log-texts", action="store_true", help="keep the merchants' texts in the log")
    parser.add_argument(
        "--audit-share", type=float, default=0.0, metavar="P", help="share of merchants a day to audit"
    )
    parser.add_argument(
        "--actions", type=Path, metavar="FILE", help="action table; `merchantguard actions show`"
    )
    parser.add_argument(
        "--otel", action="store_true", help="send a span for each request over OTLP (extra `otel`)"
    )
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="look for a new bundle so often")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard serve` until it is told to stop."""
    require("uvicorn", "http")
    require("prometheus_client", "http")
    from .app import Service

    settings = _settings(args)
    settings.check()
    _log_as_json()
    provider = _provider() if args.otel else None
    service = Service(settings)
    try:
        status = _run(service, provider)
    finally:
        drained = service.close()
        if provider is not None:
            provider.shutdown()
    if not drained:
        logging.getLogger("merchantguard.service").error(
            "the model did not end in time; the process ends without it"
        )
        logging.shutdown()
        os._exit(1)  # its threads would keep the process
    return status


def _provider() -> "TracerProvider":
    from .tracing import otlp_provider

    return otlp_provider()


def _settings(args: argparse.Namespace) -> ServiceSettings:
    return ServiceSettings(
        bundle=args.bundle,
        host=args.host,
        port=args.port,
        keys=read_keys(args.keys, KEYS_VARIABLE),
        admin_keys=read_keys(args.admin_keys, ADMIN_KEYS_VARIABLE),
        allow_open=args.allow_open,
        threads=args.threads,
        variant=args.variant,
        cascade=args.cascade,
        queue_tokens=args.queue_tokens,
        max_body_bytes=args.max_body,
        max_items=args.max_items,
        deadline_ms=args.deadline_ms,
        pause_seconds=args.pause,
        drain_seconds=args.drain,
        log=args.log,
        log_when_full=args.log_when_full,
        log_texts=args.log_texts,
        actions=args.actions,
        audit_share=args.audit_share,
        watch=args.watch,
    )


def _run(service: "Service", provider: "TracerProvider | None") -> int:
    import uvicorn

    settings = service.settings
    application: ASGIApp = service.application
    if provider is not None:
        from .tracing import Traced

        application = Traced(application, provider)
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(max(1, settings.drain_seconds)),
        h11_max_incomplete_event_size=64 << 10,
    )

    class Server(uvicorn.Server):
        """Stops in steps: not ready, a pause, no new requests, drained."""

        async def startup(self, sockets: list | None = None) -> None:  # type: ignore[type-arg]
            await super().startup(sockets)
            for listener in self.servers:
                host, port = listener.sockets[0].getsockname()[:2]
                message = {
                    "event": "listening",
                    "url": f"http://{host}:{port}",
                    "bundle": service.host.current.label,
                }
                logging.getLogger("merchantguard.service").info(json.dumps(message))

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._leave, loop)
            loop.add_signal_handler(
                signal.SIGHUP, lambda: threading.Thread(target=_swap, args=(service,)).start()
            )
            yield

        def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
            if service.leaving:  # told twice: at once
                self._stop()
                return
            service.leaving = True
            logging.getLogger("merchantguard.service").info(json.dumps({"event": "stopping"}))
            loop.call_later(settings.pause_seconds, self._stop)

        def _stop(self) -> None:
            service.stopping = True
            self.should_exit = True

    server = Server(config)
    server.run()
    return 0 if server.started else 1


def _swap(service: "Service") -> None:
    with contextlib.suppress(MerchantGuardError):  # logged by the host; the old bundle stays
        service.host.swap()


class _JsonLines(logging.Formatter):
    """A record as one JSON line; messages that are JSON objects are taken apart."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        message = record.getMessage()
        try:
            content = json.loads(message)
        except ValueError:
            content = None
        facts = content if isinstance(content, dict) else {"message": message}
        if record.exc_info:
            # The kind and the place, not the exception's text, which may quote a merchant.
            kind, _, trace = record.exc_info
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else None
            facts = facts | {"exception": kind.__name__ if kind else None, "at": where}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname.lower(), **facts}, ensure_ascii=True)


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.getLogger().handlers = [handler]  # asyncio's complaints, and other libraries'
    for name, level in (("merchantguard", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
