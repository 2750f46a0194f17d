"""Appeals: a second reviewer decides, a reversal restores the merchant, and the outcome becomes a label."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import RecordError
from ...serve.decision_record import DecisionEvent, now, uuid7
from ..log import History, LogWriter, histories


def appeal(
    log: LogWriter, history: History, *, reviewer: str, labels: Mapping[str, bool | None], reason: str = ""
) -> DecisionEvent:
    """Log the outcome of an appeal: whether the policies that were found are violated after all.

    :param labels: for each policy of the decision's findings; None where the reviewer cannot tell.
    :raises RecordError: if the reviewer has decided on this before, or a finding has no answer.
    """
    decision = history.decision
    before = [event.actor for event in history.events if event.kind in ("review", "appeal")]
    if reviewer in before:
        raise RecordError(
            f"decision {decision.decision_id}: {reviewer} has reviewed it before; an appeal needs another reviewer"
        )
    missing = [each.policy for each in decision.findings if each.policy not in labels]
    if missing:
        raise RecordError(f"decision {decision.decision_id}: no answer for {', '.join(missing)}")
    reversed_ = all(value is False for value in labels.values())
    event = DecisionEvent(
        event_id=uuid7(),
        decision_id=decision.decision_id,
        time=now(),
        kind="appeal",
        source="appeal",
        actor=reviewer,
        blind=False,  # whoever hears an appeal knows what was decided
        labels=dict(labels),
        details={
            "outcome": "reversed" if reversed_ else "upheld",
            "action": "restore" if reversed_ else (decision.action or "none"),
            "reason": reason,
        },
    )
    log.append(event).result()
    return event


def appeal_labels(*folders: Path) -> Iterator[dict[str, Any]]:
    """Label rows from the appeals of logs that are read together, to be joined with the records by `id`: label_source is "appeal"."""
    for history in histories(*folders):
        appeals = [event for event in history.events if event.kind == "appeal"]
        if not appeals or history.decision.record_id is None:
            continue
        last = appeals[-1]
        yield {
            "id": history.decision.record_id,
            "labels": sorted(policy for policy, value in last.labels.items() if value),
            "unknown": sorted(
                set(history.decision.thresholds) - {p for p, v in last.labels.items() if v is not None}
            ),
            "annotator": last.actor,
            "labelled_at": last.time,
            "label_source": "appeal",
        }
