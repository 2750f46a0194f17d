"""What another queue would have found, from the plans and answers in the log."""

from collections.abc import Sequence

import numpy as np

from ...core.errors import SettingsError
from ..log import History
from .off_policy import Value, queue_value
from .planning import NO_STAKES, Stakes, candidates_of, labels_of, planned, reviews
from .ranking import Floats, QueueSettings, inclusion_probabilities

RANKINGS = ("harm", "probability", "uniform")


def target_probabilities(
    found: Sequence[History], settings: QueueSettings, stakes: Stakes, ranking: str
) -> Floats:
    """(decisions) inclusion probability under another queue, day by day of the logged plans.

    :param ranking: "harm" weighs by severity and exposure, "probability" does not, "uniform" takes all alike.
    """
    days: dict[str, list[int]] = {}
    for k, each in enumerate(found):
        event = planned(each)
        if event is not None:
            days.setdefault(str(event.details.get("day")), []).append(k)
    result = np.zeros(len(found))
    for places in days.values():
        if ranking == "uniform":
            result[places] = min(settings.looks / len(places), 1.0)
            continue
        decisions = [found[k].decision for k in places]
        candidates = candidates_of(decisions, stakes if ranking == "harm" else NO_STAKES)
        result[places] = inclusion_probabilities(candidates, settings)
    return result


def evaluate_queue(
    found: Sequence[History],
    settings: QueueSettings,
    *,
    stakes: Stakes = NO_STAKES,
    ranking: str = "harm",
    alpha: float = 0.05,
) -> tuple[Value, Value]:
    """Violating merchants a planned decision that the logged queue and another one find.

    Days on which a look has no answer yet are left out as a whole.

    :raises SettingsError: if the log has no plan whose looks are answered.
    :raises NoSupport: if the log cannot tell.
    """
    plans = _answered(found)
    if not plans:
        raise SettingsError(
            "the log has no day of `merchantguard queue plan` whose looks are all answered; read answers back first"
        )
    events = [planned(each) for each in plans]
    logged = np.array([float(event.details["probability"]) for event in events if event is not None])
    looked = np.array([event is not None and event.details.get("chosen") is True for event in events])
    reward = np.array([float(any(labels_of(each).values())) for each in plans])
    predicted = np.array([_expected(each) for each in plans])
    target = target_probabilities(plans, settings, stakes, ranking)
    own = queue_value(reward, looked, logged, logged, predicted, alpha)
    return own, queue_value(reward, looked, logged, target, predicted, alpha)


def _answered(found: Sequence[History]) -> list[History]:
    """The planned decisions of days whose chosen ones all have a review."""
    plans = [each for each in found if planned(each) is not None]
    waiting = {_day(each) for each in plans if _chosen(each) and not reviews(each)}
    return [each for each in plans if _day(each) not in waiting]


def _day(history: History) -> str:
    event = planned(history)
    return "" if event is None else str(event.details.get("day"))


def _chosen(history: History) -> bool:
    event = planned(history)
    return event is not None and event.details.get("chosen") is True


def _expected(history: History) -> float:
    record = history.decision
    some = record.any_violation
    return float(some if some is not None else max(record.probabilities.values(), default=0.0))
