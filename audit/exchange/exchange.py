"""Tasks for other tools, and answers that come back from them: what all formats share."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ...core.display import safe_repr, visible
from ...core.errors import AuditError, RecordError
from ...data.records.record import record_from
from ...data.records.schema import parse_timestamp
from ..apply.provenance import tool_version
from ..estimation.outcomes import standing, outcomes
from ..sampling.mix import BLOCK, Mix
from ..storage.items import SUSPECTS, Answer, AnswerKind, Cause, Item, Stage
from ..storage.journal import Journal
from ..storage.store import Scan

ANSWER_TITLES: dict[str, str] = {
    "has": "The policy is violated",
    "has_not": "It is not",
    "cannot_tell": "The text does not say",
}
MAX_TEXT_CHARACTERS = 100_000
_CUT = "\n[... cut: {:,} characters in all]"


@dataclass(frozen=True, slots=True)
class Task:
    """One item as another tool shows it. `given` is the label in the data: formats leave it out unless asked."""

    number: int
    record: str
    policy: str
    title: str
    covers: str
    excludes: str
    text: str
    near_duplicate: str
    given: bool


@dataclass(frozen=True, slots=True)
class Returned:
    """One answer as another tool gave it back; `at` is empty where the tool does not say when.

    `blind`: whether the reviewer did not see the label in the data. `raw`: the row as text.
    """

    row: int
    record: str
    policy: str
    answer: str
    reviewer: str
    comment: str = ""
    at: str = ""
    milliseconds: int = 0
    blind: bool = True
    raw: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why."""

    row: int
    reason: str
    raw: str = ""


@dataclass(slots=True)
class Imported:
    """How many rows became answers, were there already, held no answer, or were bad."""

    new: int = 0
    known: int = 0
    empty: int = 0
    bad: int = 0


def tasks(
    scan: Scan,
    answers: Iterable[Answer],
    *,
    limit: int | None = None,
    causes: Sequence[Cause] = (),
    seed: int = 0,
) -> list[Task]:
    """The undecided items, best suspects first but for controls and planted ones among them.

    With a limit controls and planted items get the places that a review gives them, drawn by `seed`; the order is
    shuffled within each block, so that a place tells nothing.

    :param causes: only these queues of suspects.
    """
    decided = {cell for cell, outcome in outcomes(answers).items() if outcome.holds is not None}
    by_kind: dict[str, list[tuple[int, Item]]] = {"suspect": [], "control": [], "planted": []}
    seen: set[tuple[str, str]] = set()
    for number, item in scan.items():
        cell = (item.record, item.policy)
        if (
            cell in decided
            or cell in seen
            or (causes and item.cause in SUSPECTS and item.cause not in causes)
        ):
            continue
        seen.add(cell)
        by_kind["suspect" if item.cause in SUSPECTS else item.cause].append((number, item))
    draw = random.Random(seed)
    by_kind["suspect"].sort(key=lambda pair: (-pair[1].value, pair[0]))
    for kind in ("control", "planted"):
        draw.shuffle(by_kind[kind])
    chosen = [_task(scan, number, item) for number, item in _mixed(by_kind, draw)[:limit]]
    return chosen


def _mixed(by_kind: dict[str, list[tuple[int, Item]]], draw: random.Random) -> list[tuple[int, Item]]:
    """Block by block so many of each kind as in a review; what is left of one kind comes last."""
    mix = Mix()
    shares = {"control": mix.controls, "planted": mix.planted, "suspect": BLOCK - mix.controls - mix.planted}
    queues = {kind: iter(items) for kind, items in by_kind.items()}
    result: list[tuple[int, Item]] = []
    while True:
        block = [
            pair
            for kind, share in shares.items()
            for _, pair in zip(range(share), queues[kind], strict=False)
        ]
        if not block:
            return result
        draw.shuffle(block)
        result += block


def _task(scan: Scan, number: int, item: Item) -> Task:
    policy = scan.taxonomy.policies[scan.taxonomy.index(item.policy)]
    other = item.other_record if item.cause == "contradicting_duplicates" else None
    return Task(
        number=number,
        record=item.record,
        policy=item.policy,
        title=policy.title,
        covers=policy.covers,
        excludes=policy.excludes,
        text=_text(scan, item.record),
        near_duplicate=_text(scan, other) if other else "",
        given=item.given,
    )


def _text(scan: Scan, record: str) -> str:
    """The record's text, bounded, with symbols for what would hide or reorder it."""
    text = record_from(scan.record(record).fields, scan.taxonomy).text
    cut = text[:MAX_TEXT_CHARACTERS]
    plain = visible(cut)
    return plain if len(cut) == len(text) else plain + _CUT.format(len(text))


def add_answers(
    journal: Journal,
    scan: Scan,
    rows: Iterable[Returned | BadRow],
    *,
    tool: str,
    stage: Stage = "first",
    reviewer: str | None = None,
    on_bad: Callable[[BadRow], None],
) -> Imported:
    """Append to the journal what is new in `rows`.

    What the journal already has of a tool, reviewer and cell is not written again: neither an answer that is as old or older,
    nor, where the tool tells no time, the same answer.

    :param reviewer: who answered, where a row does not say.
    """
    items = {(item.record, item.policy): (number, item) for number, item in reversed(list(scan.items()))}
    latest = {
        (answer.reviewer, answer.record, answer.policy): answer
        for answer in standing(journal.answers())
        if answer.shown.get("import") == tool
    }
    counts = Imported()
    for row in rows:
        if isinstance(row, Returned) and not row.answer:
            counts.empty += 1
            continue
        try:
            if isinstance(row, BadRow):
                raise AuditError(row.reason)
            answer = _answer(row, items, tool=tool, stage=stage, reviewer=reviewer)
            key = (answer.reviewer, answer.record, answer.policy)
            if key in latest and _is_known(answer, row, latest[key]):
                counts.known += 1
                continue
            latest[key] = journal.append(answer)
        except AuditError as error:
            counts.bad += 1
            on_bad(BadRow(row.row, str(error), row.raw))
        else:
            counts.new += 1
    return counts


def _answer(
    row: Returned,
    items: dict[tuple[str, str], tuple[int, Item]],
    *,
    tool: str,
    stage: Stage,
    reviewer: str | None,
) -> Answer:
    """The row as an answer of the journal.

    :raises AuditError: if a value is not usable.
    """
    found = items.get((row.record, row.policy))
    if found is None:
        raise AuditError(f"{safe_repr(row.record)}, {safe_repr(row.policy)}: is no item of this audit")
    kind = row.answer.strip().lower().replace(" ", "_").replace("'", "")
    if kind not in (*ANSWER_TITLES, "skip"):
        raise AuditError(f"answer: {safe_repr(row.answer)} must be {', '.join(ANSWER_TITLES)} or skip")
    name = (row.reviewer or reviewer or "").strip()
    if not name:
        raise AuditError("reviewer: is missing; fill it in, or name one with --reviewer")
    if not name.isprintable() or len(name) > 100:
        raise AuditError(f"reviewer: {safe_repr(name)} must be at most 100 printable characters")
    number, item = found
    return Answer(
        reviewer=name,
        record=row.record,
        policy=row.policy,
        answer=cast(AnswerKind, kind),
        stage=stage,
        at=_utc(row.at),
        milliseconds=max(row.milliseconds, 0),
        tool=f"{tool}, {tool_version()}",
        shown={"item": number, "cause": item.cause, "blind": row.blind, "import": tool},
        comment=row.comment.encode("utf-8", "replace").decode("utf-8"),
    )


def _utc(text: str) -> str:
    try:
        at = parse_timestamp(text) if text else datetime.now(UTC)
    except ValueError:
        raise AuditError(f"at: {safe_repr(text)} is no ISO 8601 moment") from None
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _is_known(answer: Answer, row: Returned, earlier: Answer) -> bool:
    if row.at:
        return answer.at <= earlier.at
    return (answer.answer, answer.comment) == (earlier.answer, earlier.comment)


def read_json_list(path: Path) -> list[Any]:
    """The list that a JSON file holds.

    :raises RecordError: if it is none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: is not JSON ({error}); export it again") from error
    if not isinstance(value, list):
        raise RecordError(f"{path}: is not a list of tasks; export it as JSON")
    return value


def read_objects(
    path: Path, read: Callable[[int, Any], Iterable[Returned | BadRow]]
) -> Iterator[Returned | BadRow]:
    """What `read` makes of each entry of a JSON list; one that is not as it should be becomes a `BadRow`."""
    for number, entry in enumerate(read_json_list(path), start=1):
        try:
            yield from list(read(number, entry))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            yield BadRow(number, f"is not as the tool writes it ({error!r})", raw_text(entry))


def raw_text(value: Any) -> str:
    """A foreign value, as much of it as a file of rejects keeps."""
    return json.dumps(value, default=str)[:2_000]


def task_key(task: Task) -> str:
    """A name for the task that tells nothing of why it was chosen."""
    return hashlib.blake2b(f"{task.record}\0{task.policy}".encode(), digest_size=8).hexdigest()
