"""Answers that come back from other tools: what all formats read, and how it gets into the journal."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ...core.display import safe_repr
from ...core.errors import AuditError, RecordError
from ...data.records.schema import parse_timestamp
from .. import tool_version
from ..estimation.outcomes import standing_answers
from ..storage.items import Answer, AnswerKind, Cell, Item, Stage
from ..storage.journal import Journal
from ..storage.store import Scan
from .tasks import ANSWER_TITLES

# What keyboards, word processors and spreadsheets make of the one in "can't".
_APOSTROPHES = "'\u2019\u2018\u02bc\u00b4\u0060\u2032\uff07"


@dataclass(frozen=True, slots=True)
class Returned:
    """One answer from another tool; `at` is empty if the tool does not state the time.

    `blind`: whether the label in the data was hidden from the reviewer. `raw`: the row as text.
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
    """A row that cannot be read, and the reason."""

    row: int
    reason: str
    raw: str = ""


@dataclass(slots=True)
class Imported:
    """How many rows became answers, were already imported, had no answer, or were bad."""

    new: int = 0
    already: int = 0
    empty: int = 0
    bad: int = 0


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
    """Append what is new in `rows` to the journal.

    An answer is not written again if the journal has one of the same tool, reviewer and cell that is as recent or, if the tool
    states no time, equal.

    :param reviewer: the reviewer of rows that name none.
    :param on_bad: called with each bad row.
    """
    items = {item.cell: (number, item) for number, item in reversed(list(scan.items()))}
    latest = {
        (answer.reviewer, answer.cell): answer
        for answer in standing_answers(journal.answers())
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
            key = (answer.reviewer, answer.cell)
            if key in latest and _is_repeated(answer, row, latest[key]):
                counts.already += 1
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
    items: dict[Cell, tuple[int, Item]],
    *,
    tool: str,
    stage: Stage,
    reviewer: str | None,
) -> Answer:
    """The row as an answer for the journal.

    :raises AuditError: if a value is not usable.
    """
    found = items.get((row.record, row.policy))
    if found is None:
        raise AuditError(f"{safe_repr(row.record)}, {safe_repr(row.policy)}: is not an item of this audit")
    kind = re.sub(f"[{_APOSTROPHES}]", "", row.answer.strip().lower()).replace(" ", "_")
    kind = "cannot_tell" if kind == "cant_tell" else kind
    if kind not in (*ANSWER_TITLES, "skip"):
        raise AuditError(f"answer: {safe_repr(row.answer)} must be {', '.join(ANSWER_TITLES)} or skip")
    name = (row.reviewer or reviewer or "").strip()
    if not name:
        raise AuditError("reviewer: is missing; fill it in, or give one with --reviewer")
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
        raise AuditError(f"at: {safe_repr(text)} is not an ISO 8601 time") from None
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _is_repeated(answer: Answer, row: Returned, earlier: Answer) -> bool:
    if row.at:
        return answer.at <= earlier.at
    return (answer.answer, answer.comment) == (earlier.answer, earlier.comment)


def read_json_list(path: Path) -> list[Any]:
    """The list in a JSON file.

    :raises RecordError: if the file cannot be read or is not a JSON list.
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
    """What `read` returns for each entry of a JSON list; an entry of an unexpected form becomes a `BadRow`."""
    for number, entry in enumerate(read_json_list(path), start=1):
        try:
            yield from list(read(number, entry))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            yield BadRow(number, f"is not in the tool's format ({error!r})", raw_text(entry))


def raw_text(value: Any) -> str:
    """A foreign value as text, cut to what the rejects file stores."""
    return json.dumps(value, default=str)[:2_000]
