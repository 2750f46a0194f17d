"""Scoring a stream of records block by block on one machine: earlier answers are copied, the rest is scored."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...data.records.record import Record
from ...data.site_text import text_of
from ..assessment import Assessment
from ..decision_record import DecisionRecord, Recorder
from ..scorer import BATCH_TOKENS, Scorer
from .identity import ScoredBy
from .reuse import Reuse
from .rows import ResultRow, carried_name, plain_value

ALL_FIELDS = None
_CHARACTERS_AT_ONCE = 32_000_000
_STANDARD = ("domain", "country", "collected_at")


@dataclass(slots=True)
class Block:
    """The results of some records that follow one another, and what is counted of them.

    :param decisions: of the rows that were scored.
    :param found: how many controls, texts that could have been skipped, are not clear.
    """

    rows: list[ResultRow] = field(default_factory=list)
    logged: list[DecisionRecord] = field(default_factory=list)
    copied: int = 0
    skipped: int = 0
    controls: int = 0
    found: int = 0

    def counts(self) -> dict[str, Any]:
        """The counts as JSON, `rows` among them."""
        decisions = Counter(row.decision for row in self.rows)
        truncated = sum(row.truncated for row in self.rows)
        names = ("copied", "skipped", "controls", "found")
        return {
            "rows": len(self.rows),
            "decisions": dict(decisions),
            "truncated": truncated,
            **{name: getattr(self, name) for name in names},
        }


@dataclass(frozen=True, slots=True)
class Job:
    """How records are scored.

    :param carry: the fields of a record that go into the results; None takes all but labels and what belongs to them.
    :param reuse: earlier results.
    :param recorder: makes the decision records of rows that are scored.
    """

    scorer: Scorer
    by: ScoredBy
    read_once: bool = True
    batch_tokens: int = BATCH_TOKENS
    carry: Sequence[str] | None = ALL_FIELDS
    reuse: Reuse | None = None
    recorder: Recorder | None = None

    def blocks(self, records: Iterable[Record], *, rows: int) -> Iterator[Block]:
        """Score the records, lazily, in blocks of `rows`; fewer where they are long."""
        for block in _blocks(iter(records), rows):
            yield self.score(block)

    def carried(self, record: Record) -> dict[str, Any]:
        """The fields of a record that go into its row, by the names of their columns."""
        given = {name: value for name in _STANDARD if (value := getattr(record, name)) is not None}
        given |= record.extra
        if self.carry is not ALL_FIELDS:
            given = {name: given[name] for name in self.carry if name in given}
        return {carried_name(name): plain_value(value) for name, value in given.items()}

    def score(self, records: Sequence[Record]) -> Block:
        """The results of records, in their order."""
        block = Block()
        rows, controls = self._copied(records)
        texts = (
            text_of(record) if self.read_once else record.text
            for record, row in zip(records, rows, strict=True)
            if row is None
        )
        answers = self.scorer.assess_many(texts, batch_tokens=self.batch_tokens)
        for place, (record, row) in enumerate(zip(records, rows, strict=True)):
            if row is None:
                row = self._scored(record, next(answers), block)
                block.controls += place in controls
                block.found += place in controls and row.decision != "clear"
            else:
                block.copied += 1
                block.skipped += row.scored_with != self.by.key
            block.rows.append(row)
        return block

    def _copied(self, records: Sequence[Record]) -> tuple[list[ResultRow | None], set[int]]:
        if self.reuse is None:
            return [None] * len(records), set()
        return self.reuse.answers(records, self.carried)

    def _scored(self, record: Record, assessment: Assessment, block: Block) -> ResultRow:
        if self.recorder is not None:
            names: Mapping[str, Any] = {"record_id": record.id, "merchant_id": record.domain or record.id}
            block.logged.append(self.recorder.record(assessment, record.text, **names))
        return ResultRow.of(record, assessment, self.scorer.policies, self.by, self.carried(record))


def _blocks(records: Iterator[Record], rows: int) -> Iterator[list[Record]]:
    block: list[Record] = []
    size = 0
    for record in records:
        block.append(record)
        size += len(record.text)
        if len(block) == rows or size > _CHARACTERS_AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block


def column_names(
    rows: Iterable[ResultRow], carry: Sequence[str] | None, *, looked_at: int = 1000
) -> list[str]:
    """The carried columns of a table: those asked for, else those of the first rows, in order of appearance."""
    if carry is not ALL_FIELDS:
        return [carried_name(name) for name in carry]
    return list(dict.fromkeys(name for row in islice(rows, looked_at) for name in row.carried))
