"""Decision records for the tests of the log."""

from collections.abc import Callable
from typing import Any

import pytest

from merchantguard.serve.decision_record import DecisionRecord, LoggedFinding, now, uuid7


@pytest.fixture(scope="session")
def make_record() -> Callable[..., DecisionRecord]:
    def make(**given: Any) -> DecisionRecord:
        values: dict[str, Any] = {
            "decision_id": uuid7(),
            "time": now(),
            "bundle": "tiny",
            "bundle_version": "1",
            "bundle_digest": "ab" * 32,
            "variant": "plain",
            "cleaning_version": "3",
            "text_hmac": "cd" * 32,
            "text_length": 12,
            "windows": 1,
            "truncated": False,
            "probabilities": {"alpha": 0.75, "beta": 0.01},
            "any_violation": 0.76,
            "thresholds": {"alpha": (0.5, 0.9), "beta": (0.5, None)},
            "any_review": 0.2,
            "decision": "review",
            "findings": (LoggedFinding("alpha", 0.75, "review", None, ((0, 7),)),),
            "selection": {"audit": 0.05},
        }
        return DecisionRecord(**(values | given))

    return make
