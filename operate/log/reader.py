"""Reading a decision log: entry by entry, joined with its events, and checked line by line."""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...serve.decision_record import DecisionEvent, DecisionRecord, read_entry
from .segments import START, Head, Line, LogError, link, read_lines, segments, split_chain

Entry = DecisionRecord | DecisionEvent


def read_log(folder: Path | str, *, since: str | None = None, until: str | None = None) -> Iterator[Entry]:
    """The entries of a log, oldest first. A last line that is still being written is left out.

    :param since: ISO 8601 time or date; earlier entries are left out, and those at or after `until`.
    :raises LogError: at a line that is damaged; `verify` finds all of them.
    """
    paths = segments(Path(folder))
    for path in paths:
        for line in read_lines(path):
            if line.fault == "is cut off" and path == paths[-1]:
                return
            entry = _entry(line)
            if entry is None or (since and entry.time < since) or (until and entry.time >= until):
                continue
            yield entry


def read_logs(
    folders: Iterable[Path | str], *, since: str | None = None, until: str | None = None
) -> Iterator[Entry]:
    """The entries of several logs, one log after the other; a folder that is named twice is read once."""
    once = dict.fromkeys(map(Path, folders))
    return itertools.chain.from_iterable(read_log(each, since=since, until=until) for each in once)


def _entry(line: Line) -> Entry | None:
    if line.document is None:
        raise LogError(f"{line.place} {line.fault}; `merchantguard log verify` shows all damage")
    if line.document.get("type") == "dropped":
        return None
    return read_entry(line.document, line.place)


@dataclass(frozen=True, slots=True)
class History:
    """A decision with what happened to it later, oldest first."""

    decision: DecisionRecord
    events: tuple[DecisionEvent, ...]


def histories(*folders: Path | str, since: str | None = None, until: str | None = None) -> list[History]:
    """Every decision of a time with all its events, whenever those came.

    :param folders: logs that are read together: events may stand in another one than their decision, since a service that
        runs keeps its own log to itself.
    :raises LogError: as `read_log`.
    """
    decisions: dict[str, DecisionRecord] = {}
    events: dict[str, list[DecisionEvent]] = {}
    for entry in read_logs(folders):
        if isinstance(entry, DecisionEvent):
            events.setdefault(entry.decision_id, []).append(entry)
        elif (not since or entry.time >= since) and (not until or entry.time < until):
            decisions[entry.decision_id] = entry
    return [
        History(each, tuple(sorted(events.get(key, ()), key=lambda event: event.time)))
        for key, each in decisions.items()
    ]


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` found: the number of lines, the last chain, and every fault with its place."""

    lines: int
    chain: str
    faults: tuple[str, ...]


def verify(folder: Path | str, kept: Head | None = None) -> Verified:
    """Check every line of a log: that it can be read, follows the one before, and was not changed.

    :param kept: a head of this log that was kept elsewhere. Without one a log from whose end lines were cut is sound, as is
        one that was rewritten from some line on.
    :raises LogError: if there is no log.
    """
    faults: list[str] = []
    seq, chain, lines = 0, START, 0
    missing = kept is not None and kept.chain != START
    for path in segments(Path(folder)):
        for line in read_lines(path):
            lines += 1
            fault, own = _check(line, seq + 1, chain)
            if fault:
                faults.append(f"{line.place} {fault}")
            seq = int((line.document or {}).get("seq", seq + 1))
            chain = own or chain
            if kept is not None and own == kept.chain and kept.seq in (None, seq):
                missing = False
    if kept is not None and missing:
        faults.append(f"{folder}: {_no_kept(kept, seq)}")
    return Verified(lines, chain, tuple(faults))


def _no_kept(kept: Head, last: int) -> str:
    """What a log that does not hold the kept head lacks."""
    if kept.seq is None:
        return f"no line has the kept chain {kept.chain}: lines were cut from the end, or written anew"
    if kept.seq > last:
        return f"ends with line {last}, but line {kept.seq} was kept: lines {last + 1} to {kept.seq} were cut from the end"
    return f"line {kept.seq} has not the kept chain {kept.chain}: the log was written anew up to there"


def _check(line: Line, seq: int, chain: str) -> tuple[str | None, str | None]:
    """What is wrong with a line, and its chain as written."""
    if line.document is None:
        return line.fault, None
    try:
        content, own = split_chain(line.raw)
    except ValueError as error:
        return f"has no chain ({error})", None
    found = line.document.get("seq")
    if found != seq:
        missing = (
            f"lines {seq} to {found - 1} are missing" if isinstance(found, int) and found > seq else "order"
        )
        return f"has number {found!r} where {seq} was expected: {missing}", own
    if link(chain, content) != own:
        return "was changed, or the line before it was", own
    try:
        _entry(line)
    except Exception as error:  # noqa: BLE001 - any fault of the content is reported with its line
        return f"is no entry ({error})", own
    return None, own


def canonical(entry: Entry) -> str:
    """An entry as one line of JSON."""
    return json.dumps(entry.to_dict(), ensure_ascii=False, allow_nan=False)
