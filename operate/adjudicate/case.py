"""A case: one merchant's text and one policy about which the encoder is uncertain."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ...data.cleaning.text import CleanText, clean
from ...data.records.record import Part, Record
from ...serve.assessment import Assessment
from ...serve.scorer import Scorer


@dataclass(frozen=True)
class Case:
    """A text under one policy.

    :param text: the merchant's text as it was scored, before cleaning.
    :param spans: passages that carry the finding, ranges of `text`, best first.
    :param probability: the encoder's, calibrated.
    :param hidden: text of the page that a visitor does not see, kept apart from `text`.
    :param amount: money at risk, in the user's own unit; 0 where it is unknown.
    :param decision_id: the decision in the log that this case belongs to.
    """

    record: str
    policy: str
    text: str
    probability: float
    spans: tuple[tuple[int, int], ...] = ()
    parts: tuple[Part, ...] = ()
    hidden: str = ""
    merchant: str | None = None
    domain: str | None = None
    amount: float = 0.0
    decision_id: str | None = None

    @cached_property
    def clean(self) -> CleanText:
        """The text as the model read it, with the map back to `text`."""
        return clean(self.text)

    @cached_property
    def text_hash(self) -> str:
        """SHA-256 of the clean text and of what is hidden: equal ones get equal answers."""
        content = f"{self.clean.text}\0{self.hidden}"
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def clean_spans(self) -> tuple[tuple[int, int], ...]:
        """`spans` as ranges of the clean text, those that cleaning left something of."""
        return tuple(found for span in self.spans if (found := _clean_range(self.clean, *span)) is not None)

    @property
    def uncertainty(self) -> float:
        """1 where violation and compliance are equally likely, 0 where the encoder is certain."""
        p = min(max(self.probability, 1e-12), 1.0 - 1e-12)
        return -(p * math.log2(p) + (1.0 - p) * math.log2(1.0 - p))


def _clean_range(text: CleanText, start: int, end: int) -> tuple[int, int] | None:
    inside = ((text.ends > start) & (text.starts < end)).nonzero()[0]
    return (int(inside[0]), int(inside[-1]) + 1) if inside.size else None


def cases_of(record: Record, assessment: Assessment, *, hidden: str = "") -> list[Case]:
    """The uncertain findings of an assessment: at or above the review threshold, below the block threshold.

    A text that is blocked for some policy is decided: its other findings are no cases.

    :param hidden: what visitors do not see, where the record has no hidden parts that say so.
    """
    if assessment.decision != "review":
        return []
    # Hidden parts are the last of a record: a passage in them proves nothing, and such a case goes to a person.
    end = min(
        (part.start for part in record.parts if part.name.startswith("hidden")), default=len(record.text)
    )
    merchant, amount = record.extra.get("merchant_id"), record.extra.get("amount", 0.0)
    return [
        Case(
            record=record.id,
            policy=finding.policy,
            text=record.text[:end],
            probability=float(finding.probability),
            spans=tuple((span.start, span.end) for span in finding.spans if span.end <= end)
            or finding.windows[:1],
            parts=tuple(part for part in record.parts if part.end <= end),
            hidden=record.text[end:] or hidden,
            merchant=str(merchant) if merchant is not None else record.domain or record.id,
            domain=record.domain,
            amount=float(amount) if isinstance(amount, int | float) and math.isfinite(amount) else 0.0,
        )
        for finding in assessment.findings
        if finding.decision == "review"
    ]


def find_cases(
    scorer: Scorer, records: Iterable[Record], hidden: Mapping[str, str] | None = None
) -> Iterator[Case]:
    """Score records and yield the cases among them, in order.

    :param hidden: by record, text of its pages that visitors do not see.
    """
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == _CHUNK:
            yield from _chunk_cases(scorer, chunk, hidden or {})
            chunk = []
    yield from _chunk_cases(scorer, chunk, hidden or {})


_CHUNK = 256


def _chunk_cases(scorer: Scorer, records: list[Record], hidden: Mapping[str, str]) -> Iterator[Case]:
    for record, assessment in zip(records, scorer.assess_many(r.text for r in records), strict=True):
        yield from cases_of(record, assessment, hidden=hidden.get(record.id, ""))
