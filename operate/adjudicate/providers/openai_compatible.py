"""Any endpoint that speaks OpenAI's chat completions: hosted ones, vLLM, Ollama, llama.cpp.

Retries (429, 5xx, lost connections; by Retry-After where it is given) and timeouts are the client library's.
"""

import os
import time
from typing import Any

from ....core.extras import require
from ..answer import Reply, Token, verdict_probability
from ..question import ANSWER_SCHEMA, Question
from .protocol import MAX_ANSWER_TOKENS, Prices, ProviderError

KEY_VARIABLE = "MERCHANTGUARD_LLM_KEY"
RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": ANSWER_SCHEMA},
}


def chat_body(model: str, question: Question) -> dict[str, Any]:
    """The body of a chat completion request."""
    return {
        "model": model,
        "messages": question.messages,
        "response_format": RESPONSE_FORMAT,
        "temperature": 0.0,
        "max_tokens": MAX_ANSWER_TOKENS,
        "logprobs": True,
        "top_logprobs": 20,
    }


class OpenAICompatible:
    """A model behind an endpoint.

    :param url: base address such as http://127.0.0.1:8080/v1; None is OpenAI's.
    :param model: one pinned build, not an alias that moves: an answer by another model does not count.
    :param decisions: take probabilities from the decision endpoint instead of the answer's log probabilities.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        prices: Prices | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        decisions: bool = False,
    ) -> None:
        openai = require("openai", "llm")
        self._errors = openai.OpenAIError
        key = os.environ.get(KEY_VARIABLE) or os.environ.get("OPENAI_API_KEY")
        if key is None and url is None:
            raise ProviderError(f"no key: set the environment variable {KEY_VARIABLE} (or OPENAI_API_KEY)")
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=url, timeout=timeout, max_retries=retries
        )
        self._model, self._url, self._decisions = model, url, decisions
        self._prices = prices or Prices()

    @property
    def build(self) -> str:
        """The pinned model build."""
        return self._model

    @property
    def prices(self) -> Prices:
        """What answers cost."""
        return self._prices

    def ask(self, question: Question, key: str) -> Reply:
        """The answer to a question.

        :raises ProviderError: if none came after all retries.
        """
        start = time.perf_counter()
        headers = {"Idempotency-Key": key}
        try:
            completion = self._client.chat.completions.create(
                **chat_body(self._model, question), extra_headers=headers
            )
            reply = reply_of(completion.model_dump(), self._prices)
            if self._decisions:
                reply = self._with_decision(question, reply, key)
        except self._errors as error:
            place = self._url or "the endpoint"
            raise ProviderError(f"{place}: no answer ({type(error).__name__}: {str(error)[:200]})") from error
        return _timed(reply, time.perf_counter() - start)

    def _with_decision(self, question: Question, reply: Reply, key: str) -> Reply:
        """The reply with the decision endpoint's probability and cost.

        The endpoint gives probabilities and no quotes, so that it is asked besides.
        """
        text = "\n\n".join(message["content"] for message in question.messages)
        ask = "The merchant violates the policy."
        decision = self._client.decisions.create(
            model=self._model,
            input=text,
            questions=[{"type": "predicate", "name": "violates", "instructions": ask}],
            extra_headers={"Idempotency-Key": f"{key}-decision"},
        ).model_dump()
        answers = [a for a in decision.get("answers") or [] if a.get("type") == "predicate"]
        usage = decision.get("usage") or {}
        used = (int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0))
        return Reply(
            reply.content,
            float(answers[0]["probability"]) if answers else None,
            reply.model,
            reply.finish,
            reply.input_tokens + used[0],
            reply.output_tokens + used[1],
            reply.cost + self._prices.cost(*used),
        )


def reply_of(completion: dict[str, Any], prices: Prices) -> Reply:
    """A reply from the JSON of a chat completion, whatever parts of it are missing."""
    choice = (completion.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    usage = completion.get("usage") or {}
    used = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    refused = bool(message.get("refusal"))
    return Reply(
        content=message.get("content") or "",
        probability=verdict_probability(_tokens((choice.get("logprobs") or {}).get("content") or [])),
        model=str(completion.get("model") or ""),
        finish="refusal" if refused else str(choice.get("finish_reason") or "unknown"),
        input_tokens=used[0],
        output_tokens=used[1],
        cost=prices.cost(*used),
    )


def _tokens(entries: list[dict[str, Any]]) -> list[Token]:
    return [
        Token(
            str(entry.get("token") or ""),
            tuple((str(top["token"]), float(top["logprob"])) for top in entry.get("top_logprobs") or []),
        )
        for entry in entries
    ]


def _timed(reply: Reply, seconds: float) -> Reply:
    document = reply.to_dict() | {"seconds": round(seconds, 4)}
    return Reply(**document)
