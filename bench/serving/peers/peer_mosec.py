"""mosec: a server process with the same model, and clients in another process."""

import sys
from pathlib import Path
from typing import Any

import mosec
from engines import classify_texts, load_engine
from harness import Job, run_peer
from http_server import BATCH_WAIT_SECONDS, Config, served_config, sweep

_TIMEOUT_MS = 120_000


class Classify(mosec.Worker):  # type: ignore[misc]
    """Windows of a text in, its logits out."""

    def __init__(self) -> None:
        super().__init__()
        config = served_config()
        if config is None:
            raise RuntimeError("a worker must be started by a server")
        self.engine = load_engine(
            config.engine, Path(config.folder), window_tokens=config.window_tokens, threads=config.threads
        )

    def forward(self, data: Any) -> Any:
        """The answers of a batch of requests, or of a single one where the server does not batch."""
        requests = [data] if isinstance(data, dict) else data
        logits = classify_texts(self.engine, [request["windows"] for request in requests])
        answers = [{"logits": row} for row in logits]
        return answers[0] if isinstance(data, dict) else answers


def serve(config: Config) -> None:
    """Serve until terminated."""
    # mosec takes its own settings from the command line only.
    sys.argv += ["--address", "127.0.0.1", "--port", str(config.port), "--timeout", str(_TIMEOUT_MS)]
    server = mosec.Server()
    wait = int(BATCH_WAIT_SECONDS * 1000)
    server.append_worker(Classify, num=config.workers, max_batch_size=config.batch, max_wait_time=wait)
    server.run()


def measure(job: Job) -> dict[str, Any]:
    """All layouts in turn."""
    return sweep(job, script=__file__, path="/inference")


if __name__ == "__main__":
    if served := served_config():
        serve(served)
    else:
        sys.exit(run_peer(measure))
