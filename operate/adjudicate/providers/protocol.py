"""The protocol of providers, and what an answer costs."""

from dataclasses import dataclass
from typing import Protocol

from ....core.errors import MerchantGuardError
from ..answer import Reply
from ..question import Question

MAX_ANSWER_TOKENS = 400


class ProviderError(MerchantGuardError):
    """No answer came; the case stays open and nothing is counted as paid. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens; `discount` is the factor of a batch interface (0.5 for half the price)."""

    input: float = 0.0
    output: float = 0.0
    discount: float = 1.0

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """What so many tokens cost."""
        return self.discount * (self.input * input_tokens + self.output * output_tokens) / 1e6

    def most(self, question: Question) -> float:
        """What an answer costs at most: a token has one byte at least, so that this is never too little."""
        size = sum(len(message["content"].encode("utf-8", "replace")) for message in question.messages)
        return self.cost(size, MAX_ANSWER_TOKENS)


class Provider(Protocol):
    """Answers questions. `ask` may be called from several threads.

    `build` names one pinned model build: thresholds and cached answers belong to it.
    """

    @property
    def build(self) -> str:
        """The pinned model build."""

    @property
    def prices(self) -> Prices:
        """What answers cost."""

    def ask(self, question: Question, key: str) -> Reply:
        """The answer to a question.

        :param key: the same for the same question, so that an endpoint that knows it answers again without charging.
        :raises ProviderError: if no answer came.
        """
