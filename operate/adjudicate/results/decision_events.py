"""Opinions as events of the decision log: linked to the latest decision on the same text, each once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ....serve.decision_record import DecisionEvent, hash_text
from ...log import LogWriter, log_key, read_log
from ..case import Case
from ..verdicts import Row, event_of


def log_opinions(found: Iterable[tuple[Case, Row]], folder: Path) -> tuple[int, int]:
    """Append the opinions that the log does not have; returns how many, and how many have no decision there.

    No service may write the log meanwhile. An opinion is known by its decision, policy and prompt, so that a run after a
    crash logs what is missing and nothing twice.

    :raises LogError: if the log cannot be read or written.
    """
    key = log_key(folder)
    decisions: dict[str, str] = {}
    known: set[tuple[str, str]] = set()
    for entry in read_log(folder):
        if not isinstance(entry, DecisionEvent):
            decisions[entry.text_hmac] = entry.decision_id
        elif entry.kind == "adjudication":
            known.add((entry.decision_id, str(entry.details.get("prompt"))))
    linked: list[Row] = []
    missing = 0
    for case, row in found:
        decision = row.decision_id or decisions.get(hash_text(case.text, key))
        if decision is None:
            missing += 1
        elif (decision, row.prompt) not in known:
            linked.append(replace(row, decision_id=decision))
    _append(linked, folder)
    return len(linked), missing


def _append(rows: Sequence[Row], folder: Path) -> None:
    if not rows:
        return
    with LogWriter(folder) as log:
        for future in [log.append(event_of(row)) for row in rows]:
            future.result()
