"""LitServe: a server process with the same model, and clients in another process."""

import sys
from pathlib import Path
from typing import Any

import litserve
from engines import classify_texts, load_engine
from harness import Job, run_peer
from http_server import BATCH_WAIT_SECONDS, Config, served_config, sweep


class Classify(litserve.LitAPI):  # type: ignore[misc]
    """Windows of a text in, its logits out."""

    def __init__(self, config: Config) -> None:
        wait = BATCH_WAIT_SECONDS if config.batch > 1 else 0.0
        super().__init__(max_batch_size=config.batch, batch_timeout=wait)
        self.config = config

    def setup(self, device: str) -> None:
        """Load the model; each worker does."""
        config = self.config
        self.engine = load_engine(
            config.engine, Path(config.folder), window_tokens=config.window_tokens, threads=config.threads
        )

    def decode_request(self, request: dict[str, Any]) -> list[str]:
        """The windows of one request."""
        windows: list[str] = request["windows"]
        return windows

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        """Requests stay lists: their windows are batched by the engine."""
        return inputs

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """An answer per request."""
        return output

    def predict(self, x: Any) -> Any:
        """The answers of a batch of requests, or of a single one where the server does not batch."""
        if self.config.batch > 1:
            return classify_texts(self.engine, x)
        return classify_texts(self.engine, [x])[0]

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """The answer's JSON."""
        return {"logits": output}


def serve(config: Config) -> None:
    """Serve until terminated."""
    workers = config.workers
    server = litserve.LitServer(
        Classify(config), accelerator="cpu", workers_per_device=workers, timeout=False
    )
    server.run(host="127.0.0.1", port=config.port, log_level="warning", generate_client_file=False)


def measure(job: Job) -> dict[str, Any]:
    """All layouts in turn."""
    return sweep(job, script=__file__, path="/predict")


if __name__ == "__main__":
    if served := served_config():
        serve(served)
    else:
        sys.exit(run_peer(measure))
