"""What a model answers: read strictly, and never trusted as prose."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .question import VERDICTS

Verdict = Literal["violates", "compliant", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a provider, as it came.

    :param probability: that the policy is violated, from the probabilities of the verdict's tokens or a decision endpoint;
        None where the provider gives none.
    :param model: the model that the provider says has answered.
    :param finish: why the text ends: "stop", "length", "refusal", or the provider's own word.
    :param cost: in the unit of the price list.
    """

    content: str
    probability: float | None
    model: str
    finish: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The reply as JSON."""
        return asdict(self)


class AnswerDocument(BaseModel):
    """The JSON object that a model must answer with."""

    model_config = ConfigDict(extra="forbid", strict=True)
    verdict: Verdict
    quotes: list[str] = Field(max_length=8)
    end_code: str = Field(max_length=200)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that could be read, or the fault for which it counts as "cannot tell"."""

    verdict: Verdict
    quotes: tuple[str, ...] = ()
    end_code: str = ""
    fault: str | None = None


def read_answer(reply: Reply) -> Answer:
    """Read a reply; whatever is not exactly an answer has a fault."""
    if reply.finish not in ("stop", "eos"):
        word = "cut off" if reply.finish == "length" else f"ended by {reply.finish!r}"
        return Answer("cannot tell", fault=f"the answer is {word}")
    if not reply.content.strip():
        return Answer("cannot tell", fault="the answer is empty")
    try:
        document = AnswerDocument.model_validate_json(reply.content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "answer"
        return Answer(
            "cannot tell", fault=f"the answer is not in the form asked for ({place}: {first['type']})"
        )
    return Answer(document.verdict, tuple(document.quotes), document.end_code.strip())


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the answer with the log probabilities of what could have stood there."""

    text: str
    alternatives: tuple[tuple[str, float], ...] = field(default=())


_MOST_LOST = 0.5
_VERDICT_NEXT = re.compile(r'"verdict"\s*:\s*"?\s*$')


def verdict_probability(tokens: Sequence[Token]) -> float | None:
    """Probability of "violates" against "compliant", from the first token of the verdict.

    None where the verdict cannot be found among the tokens, or the alternatives leave more than half of the probability
    to neither. "cannot tell" counts for neither.
    """
    place = _verdict_token(tokens)
    if place is None:
        return None
    mass = dict.fromkeys(VERDICTS, 0.0)
    for text, logprob in tokens[place].alternatives:
        begin = text.strip().lstrip('"').lower()
        fitting = [verdict for verdict in VERDICTS if begin and verdict.startswith(begin)]
        if len(fitting) == 1 and not math.isnan(logprob):
            mass[fitting[0]] += math.exp(min(logprob, 0.0))
    if sum(mass.values()) < _MOST_LOST or mass["violates"] + mass["compliant"] <= 0.0:
        return None
    return mass["violates"] / (mass["violates"] + mass["compliant"])


def _verdict_token(tokens: Sequence[Token]) -> int | None:
    """The number of the token with which the value of "verdict" begins."""
    written = ""
    for number, token in enumerate(tokens):
        if _VERDICT_NEXT.search(written) and token.text.strip().strip('"'):
            return number
        written += token.text
    return None
