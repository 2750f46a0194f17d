"""What an adjudication ends in: a row of the results, and where the case goes."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from ...core.errors import RecordError
from ...core.files import write_text
from ...serve.decision_record import DecisionEvent, now, uuid7
from .adjudicator import Adjudicated
from .answer import Verdict
from .injection.signal import injection_signals
from .question import PROMPT_VERSION

Move = Literal["clear", "review"]


@dataclass(frozen=True, slots=True)
class Row:
    """One adjudicated case without its text.

    :param encoder: the encoder's probability; `probability` is the model's.
    :param quotes: ranges of the merchant's text, as scored, that prove the verdict.
    :param injection: kinds of signals in the text that address the reader.
    :param move: "clear" only under a certified rule; a person sees all others.
    """

    record: str
    policy: str
    verdict: Verdict
    stated: Verdict
    probability: float | None
    encoder: float
    quotes: tuple[tuple[int, int], ...]
    faults: tuple[str, ...]
    injection: tuple[str, ...]
    build: str
    prompt_version: str
    prompt: str
    text: str
    cost: float
    cached: bool
    move: Move = "review"
    rule: str | None = None
    decision_id: str | None = None

    @property
    def confidence(self) -> float | None:
        """The model's probability of its own verdict; None if it has none or the verdict is not proven."""
        if self.probability is None or self.verdict == "cannot tell":
            return None
        return self.probability if self.verdict == "violates" else 1.0 - self.probability

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        :raises TypeError: if fields are missing or unknown.
        """
        given = dict(document)
        given["quotes"] = tuple((int(start), int(end)) for start, end in given["quotes"])
        for name in ("faults", "injection"):
            given[name] = tuple(given[name])
        return cls(**given)


def row_of(found: Adjudicated) -> Row:
    """The row of an adjudication, with the signals of its text; it moves to review."""
    case = found.case
    signals = injection_signals(case.text, case.clean.text, case.hidden)
    return Row(
        record=case.record,
        policy=case.policy,
        verdict=found.opinion.verdict,
        stated=found.opinion.stated,
        probability=found.opinion.probability,
        encoder=case.probability,
        quotes=tuple(quote.source for quote in found.opinion.quotes),
        faults=found.opinion.faults,
        injection=tuple(dict.fromkeys(f"{signal.kind} ({signal.place})" for signal in signals)),
        build=found.build,
        prompt_version=PROMPT_VERSION,
        prompt=found.question.prompt_hash,
        text=case.text_hash,
        cost=0.0 if found.cached else found.reply.cost,
        cached=found.cached,
        decision_id=case.decision_id,
    )


def event_of(row: Row) -> DecisionEvent:
    """The row as an event of the decision log.

    :raises ValueError: if the row belongs to no decision.
    """
    if row.decision_id is None:
        raise ValueError(f"{row.record}: belongs to no logged decision")
    label = {"violates": True, "compliant": False, "cannot tell": None}[row.verdict]
    return DecisionEvent(
        event_id=uuid7(),
        decision_id=row.decision_id,
        time=now(),
        kind="adjudication",
        source=f"llm:{row.build}",
        actor=row.build,
        blind=True,
        labels={row.policy: label},
        details={
            "stated": row.stated, "probability": row.probability, "quotes": [list(span) for span in row.quotes],
            "faults": list(row.faults), "injection": list(row.injection), "prompt": row.prompt,
            "prompt_version": row.prompt_version, "cost": row.cost, "move": row.move, "rule": row.rule,
        },
    )  # fmt: skip


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSON Lines, atomically."""
    write_text(path, "".join(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in rows))


def read_rows(path: Path) -> Iterator[Row]:
    """Read rows.

    :raises RecordError: naming the line that is none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: cannot be read ({error}); give the opinions that `adjudicate ask` wrote"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield Row.from_dict(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(f"{path}:{number}: is no adjudicated case ({error!r})") from error
