"""What reviewers answered: back into the log as review events, and out of it as records."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from ...core.display import safe_repr
from ...core.errors import RecordError
from ...data.records.record import Record, record_to_row
from ...data.records.rows import open_rows
from ...data.records.schema import parse_timestamp
from ...serve.decision_record import DecisionEvent, DecisionRecord, now
from ..log import History
from .planning import labels_of, planned, reviews

_WORDS = {
    "true": True,
    "1": True,
    "has": True,
    "yes": True,
    "false": False,
    "0": False,
    "has_not": False,
    "no": False,
}
_UNKNOWN = ("", "null", "cannot_tell", "unknown")


def read_answers(
    path: Path, known: Mapping[str, History], *, source: str, blind: bool | None = None
) -> Iterator[DecisionEvent]:
    """The answers of a JSONL or CSV file as review events.

    A row has decision_id, reviewer, labels and optionally unknown, time and blind. Labels are {policy: true | false | null}, or
    the list of violated policies (in CSV separated by semicolons): then every other policy of the decision that is not in
    `unknown` is not violated; CSV says "none" where nothing is. Rows without labels are not answered yet. The same row gives the same event id, so that a file can be read again.

    :param known: decisions by id.
    :param blind: whether the decision was hidden from the reviewers; by default what the plan logged.
    :raises RecordError: naming the row, the field and the value.
    """
    columns = {"decision_id", "reviewer", "labels"}

    def check(found: list[str]) -> None:
        if missing := columns - set(found):
            raise RecordError(f"{path}: the columns {', '.join(sorted(missing))} are missing")

    for row in open_rows(path, body=False, on_columns=check, labels=""):
        place = f"{path}, row {row.number}"
        if row.fields is None:
            raise RecordError(f"{place}: {row.reason}")
        if row.fields.get("labels") in (None, ""):
            continue
        yield _event(row.fields, known, place, source, blind)


def _event(
    row: Mapping[str, Any], known: Mapping[str, History], place: str, source: str, blind: bool | None
) -> DecisionEvent:
    name, reviewer = row.get("decision_id"), row.get("reviewer")
    if not isinstance(name, str) or name not in known:
        raise RecordError(f"{place}: decision_id {safe_repr(name)} is not in the log")
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise RecordError(f"{place}: reviewer is {safe_repr(reviewer)}; who answered must be named")
    history = known[name]
    labels = _labels(row, history.decision, place)
    given = row.get("blind")
    if isinstance(given, str):
        given = _WORDS.get(given.strip().lower())
    event = planned(history)
    if not isinstance(given, bool):
        given = blind if blind is not None else (event.details.get("blind") if event else None)
    time = _time(row.get("time"), place)
    content = "\x1f".join([name, reviewer, time, repr(sorted(labels.items(), key=lambda each: each[0]))])
    return DecisionEvent(
        hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32],
        name,
        time or now(),
        "review",
        source,
        reviewer.strip(),
        given,
        labels,
    )


def _time(value: Any, place: str) -> str:
    """In UTC as the log writes it; empty where the row has none."""
    if value in (None, ""):
        return ""
    try:
        return parse_timestamp(str(value)).astimezone(UTC).isoformat(timespec="microseconds")
    except ValueError:
        raise RecordError(f"{place}: time {safe_repr(value)} is not ISO 8601") from None


def _labels(row: Mapping[str, Any], record: DecisionRecord, place: str) -> dict[str, bool | None]:
    given, unknown = row.get("labels"), _names(row.get("unknown"))
    policies = sorted(set(record.probabilities) | set(record.thresholds))
    found: dict[str, bool | None]
    if isinstance(given, Mapping):
        found = {str(policy): _label(value, place) for policy, value in given.items()}
    elif isinstance(given, list | str):
        violated = [] if given == "none" else _names(given)
        found = {**dict.fromkeys(policies, False), **dict.fromkeys(violated, True)}
    else:
        raise RecordError(
            f"{place}: labels is {safe_repr(given)}; a list of policies or true and false by policy"
        )
    found |= dict.fromkeys(policies if unknown == ["*"] else unknown, None)
    if strange := sorted(set(found) - set(policies)):
        raise RecordError(f"{place}: {safe_repr(strange[0])} is no policy of this decision")
    return found


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.replace(",", ";").split(";")
    return [str(each).strip() for each in value or [] if str(each).strip()]


def _label(value: Any, place: str) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _UNKNOWN:
        return None
    if word not in _WORDS:
        raise RecordError(f"{place}: label {safe_repr(value)} is not true, false or null")
    return _WORDS[word]


def new_events(events: Iterable[DecisionEvent], known: Mapping[str, History]) -> list[DecisionEvent]:
    """Those that the log does not have yet."""
    seen = {event.event_id for each in known.values() for event in each.events}
    result = []
    for event in events:
        if event.event_id not in seen:
            seen.add(event.event_id)
            result.append(event)
    return result


def inclusion(history: History) -> float:
    """The probability with which a decision came before reviewers, by any of its independent coins; 0 if none was tossed."""
    missed = 1.0
    for name in history.decision.selected:
        missed *= 1.0 - history.decision.selection.get(name, 0.0)
    event = planned(history)
    if event is not None and event.details.get("chosen"):
        missed *= 1.0 - float(event.details["probability"])
    return 1.0 - missed


def reviewed_rows(
    found: Iterable[History], records: Mapping[str, Record], policies: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """A record for each reviewed decision with its text: labels by majority, source, blindness, weight.

    The weight is 1 / the probability with which it came before reviewers; without one it is left out. `blind` is true only if
    all whose answers count were.

    :param records: by record id, and by decision id for logs that keep texts.
    """
    for history in found:
        answers = reviews(history)
        record = history.decision
        base = records.get(record.record_id or "") or records.get(record.decision_id)
        if not answers or base is None:
            continue
        labels = labels_of(history)
        row = record_to_row(base)
        for name in ("labels", "unknown", "evidence", "annotator", "labelled_at"):
            row.pop(name, None)
        chance = inclusion(history)
        asked = sorted(set(policies) | set(record.probabilities))
        yield row | {
            "labels": sorted(policy for policy, value in labels.items() if value),
            "unknown": [policy for policy in asked if policy not in labels],
            "annotator": "+".join(sorted({event.actor for event in answers})),
            "labelled_at": max(event.time for event in answers),
            "label_source": "+".join(sorted({event.source for event in answers})),
            "blind": all(event.blind is True for event in answers),
            "decision_id": record.decision_id,
            **({"weight": round(1.0 / chance, 6)} if chance > 0 else {}),
        }
