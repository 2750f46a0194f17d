"""What a reviewer sees of one item, before the answer and after it."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...data.records.record import Record, record_from
from ...data.taxonomy import Policy
from ..estimation.outcomes import Outcome
from ..storage.items import Answer, Item, Reason, Stage
from ..storage.store import Scan
from .exact_duplicates import ExactDuplicates
from .excerpt import PART, Excerpt, excerpt
from .highlights import Evidence, Highlights
from .marking import Mark, differences, passages, policy_words, quotes


@dataclass(frozen=True, slots=True)
class Pane:
    """One text: its record and what is marked in it."""

    record: Record
    marks: tuple[Mark, ...]

    def excerpt(self, start: int | None = None, length: int = PART) -> Excerpt:
        """The part from `start` on, or the part around the marks."""
        return excerpt(self.record.text, self.marks, headings=self.headings(), start=start, length=length)

    def headings(self) -> dict[int, str]:
        """Where each page or field begins, and its name; empty for a record with only one."""
        parts = self.record.parts
        return {part.start: part.url or part.name for part in parts} if len(parts) > 1 else {}


@dataclass(frozen=True, slots=True)
class Card:
    """One item as it is asked: texts and the policy, without any opinion or label.

    `panes`: the record's text and, where near-duplicates contradict each other, that of the other one. `exact_duplicates`: ids
    of records with the same words, which the answer also applies to. `since`: when it was shown, by the monotonic clock.
    """

    number: int
    stage: Stage
    item: Item
    policy: Policy
    panes: tuple[Pane, ...]
    exact_duplicates: tuple[str, ...]
    since: float = field(default_factory=time.monotonic, compare=False)

    def shown(self) -> dict[str, object]:
        """What the journal notes about it."""
        parts = [pane.excerpt() for pane in self.panes]
        return {
            "item": self.number,
            "cause": self.item.cause,
            "blind": self.stage != "adjudication",
            "text": hashlib.sha256(self.panes[0].record.text.encode("utf-8", "surrogatepass")).hexdigest(),
            "parts": [[part.start, part.end] for part in parts],
            "exact_duplicates": list(self.exact_duplicates),
        }


@dataclass(frozen=True, slots=True)
class Reveal:
    """What is shown after the answer, or before it in an adjudication.

    `panes`: the texts again, with the quotes that annotators gave for the label. `other_policy`: the one that may be meant
    instead. `answers`: the standing answers on the cell.
    """

    given: bool
    model_probability: float
    cause: str
    reasons: tuple[Reason, ...]
    other_policy: Policy | None
    answers: tuple[Answer, ...]
    outcome: Outcome | None
    panes: tuple[Pane, ...]


class CardMaker:
    """Makes the cards of a scan's items."""

    def __init__(self, scan: Scan, evidence: Evidence | None = None) -> None:
        self._scan = scan
        self._highlights = None if evidence is None else Highlights(evidence)
        self._exact_duplicates = ExactDuplicates(scan)

    def close(self) -> None:
        """Stop searching for evidence."""
        if self._highlights is not None:
            self._highlights.close()

    def card(self, number: int, item: Item, stage: Stage) -> Card:
        """The card of an item.

        :raises AuditError: if the scan does not have the item's records.
        """
        policy = self.policy(item.policy)
        panes = [self._pane(record, policy) for record in self._records(item)]
        if len(panes) > 1:
            marks = differences(*(pane.record.text for pane in panes))
            panes = [_with(pane, more) for pane, more in zip(panes, marks, strict=True)]
        duplicates = self._exact_duplicates.of(self._scan.record(item.record))
        return Card(number, stage, item, policy, tuple(panes), tuple(duplicates))

    def prepare(self, item: Item) -> None:
        """Start searching for the evidence of an upcoming item."""
        if self._highlights is not None:
            for record in self._records(item):
                self._highlights.search(record.id, record.text, item.policy)

    def _records(self, item: Item) -> list[Record]:
        ids = [item.record]
        if item.cause == "contradicting_duplicates" and item.other_record is not None:
            ids.append(item.other_record)
        return [record_from(self._scan.record(each).fields, self._scan.taxonomy) for each in ids]

    def policy(self, policy_id: str) -> Policy:
        """The policy with that id."""
        taxonomy = self._scan.taxonomy
        return taxonomy.policies[taxonomy.index(policy_id)]

    def with_quotes(self, card: Card) -> tuple[Pane, ...]:
        """The panes with the annotators' quotes for the policy. Only for after the answer: only a given label has quotes."""
        given = [
            quotes(pane.record.text, pane.record.evidence.get(card.item.policy, ())) for pane in card.panes
        ]
        return tuple(_with(pane, marks) for pane, marks in zip(card.panes, given, strict=True))

    def _pane(self, record: Record, policy: Policy) -> Pane:
        marks = policy_words(record.text, policy, self._scan.taxonomy)
        if self._highlights is not None:
            spans = self._highlights.passages(record.id, record.text, policy.id)
            marks = passages(spans, record.text, "evidence") + marks
        return Pane(record, tuple(marks))


def _with(pane: Pane, marks: Sequence[Mark]) -> Pane:
    return Pane(pane.record, (*pane.marks, *marks))
