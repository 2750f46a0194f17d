"""A model in a GGUF file, run in this process by llama.cpp (`xllamacpp`)."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ....core.extras import require
from ....core.files import sha256_file
from ..answer import Reply
from ..question import Question
from .openai_compatible import chat_body, reply_of
from .protocol import Prices, ProviderError


class LocalGguf:
    """A local model. Its build is the file's name and the hash of its bytes.

    `address` is that of the OpenAI-compatible server which llama.cpp opens on loopback for it.

    :param context: tokens of prompt and answer together.
    """

    def __init__(self, path: Path | str, *, context: int = 8192, threads: int = 2, port: int = 0) -> None:
        library = require("xllamacpp", "llm")
        self.path = Path(path)
        if not self.path.is_file():
            raise ProviderError(f"{path}: no such file; give a model in GGUF format")
        self._build = f"{self.path.stem}@{sha256_file(self.path)[:12]}"
        parameters = library.CommonParams()
        parameters.model.path = str(self.path)
        parameters.model_alias = {self._build}
        parameters.n_ctx, parameters.n_parallel = context, 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.hostnames, parameters.port = ["127.0.0.1"], port
        parameters.warmup = False
        try:
            self._server = library.Server(parameters)
        except RuntimeError as error:
            raise ProviderError(f"{path}: cannot be loaded as a model ({error})") from error

    @property
    def build(self) -> str:
        """The pinned model build."""
        return self._build

    @property
    def prices(self) -> Prices:
        """A local model costs no money for a token."""
        return Prices()

    @property
    def address(self) -> str:
        """Where the OpenAI-compatible server listens."""
        return str(self._server.listening_address)

    def ask(self, question: Question, key: str) -> Reply:
        """The answer to a question.

        :param key: seeds the sampling, which a temperature of 0 leaves without effect.
        :raises ProviderError: if the model cannot answer, such as a prompt beyond its context.
        """
        start = time.perf_counter()
        seed = int(hashlib.sha256(key.encode()).hexdigest()[:7], 16)
        answer = self._server.handle_chat_completions(chat_body(self._build, question) | {"seed": seed})
        document: dict[str, Any] = json.loads(answer) if isinstance(answer, str | bytes) else answer
        if "error" in document or not document.get("choices"):
            raise ProviderError(f"{self.path.name}: no answer ({json.dumps(document)[:200]})")
        document["model"] = self._build
        reply = reply_of(document, self.prices)
        return Reply(**(reply.to_dict() | {"seconds": round(time.perf_counter() - start, 4)}))
