"""A generated month of a decision log, to try the monitor on. Simulated: no merchant, no text, no reviewer is real."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SettingsError
from ...serve.decision_record import DecisionEvent, DecisionRecord, LoggedFinding
from ..log import LogWriter
from .sample import AuditSample

POLICIES = ("counterfeit", "gambling", "weapons")
_PROBABILITIES = {"blocked": 0.9, "review": 0.3, "uncertain": 0.2, "cleared": 0.05}
_START = datetime(2026, 11, 1, tzinfo=UTC)


def write_example_log(
    folder: Path, *, days: int = 30, a_day: int = 200, drop_day: int | None = 12, seed: int = 0
) -> None:
    """Write a log of `days` days; from `drop_day` on blocks of the first policy are often wrong, and texts get longer.

    :raises SettingsError: if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(f"{folder} is not empty; name a new folder for the simulated log")
    generator = np.random.default_rng(seed)
    select = AuditSample(b"simulated audit key", _PROBABILITIES)
    with LogWriter(folder) as log:
        for day in range(days):
            waiting = []
            for k in range(a_day):
                dropped = drop_day is not None and day >= drop_day
                record, truth = _decision(generator, day, k, a_day, dropped)
                probability, chosen = select(record)
                record = replace(
                    record, selection={"audit": probability}, selected=("audit",) if chosen else ()
                )
                waiting.append(log.append(record))
                if chosen and generator.random() < 0.99:
                    waiting.append(log.append(_review(generator, record, truth)))
            for future in waiting:
                future.result()


def _decision(
    generator: np.random.Generator, day: int, k: int, a_day: int, dropped: bool
) -> tuple[DecisionRecord, dict[str, bool]]:
    """A decision and the truth behind it, which the probabilities match until the drop."""
    chances = dict(zip(POLICIES, map(float, generator.beta(0.06, 1.2, len(POLICIES))), strict=True))
    if generator.random() < 0.06:
        chances[POLICIES[int(generator.integers(len(POLICIES)))]] = float(generator.uniform(0.95, 1.0))
    truth = {policy: bool(generator.random() < chance) for policy, chance in chances.items()}
    if dropped and chances[POLICIES[0]] >= 0.95 and generator.random() < 0.35:
        truth = dict.fromkeys(POLICIES, False)
    found = tuple(
        LoggedFinding(
            policy, chance, "block" if chance >= 0.95 else "review", "policy" if chance >= 0.95 else None
        )
        for policy, chance in chances.items()
        if chance >= 0.4
    )
    kinds = [each.decision for each in found]
    decision = "block" if "block" in kinds else "review" if kinds else "clear"
    time = _START + timedelta(days=day, seconds=int(86_000 * k / a_day))
    length = int(generator.lognormal(8.2 if dropped else 7.4, 0.6))
    values: dict[str, Any] = {
        "decision_id": _id(generator, time),
        "time": time.isoformat(timespec="microseconds"),
        "bundle": "simulated",
        "bundle_version": "1",
        "bundle_digest": "0" * 64,
        "variant": "plain",
        "cleaning_version": "0",
        "text_hmac": generator.bytes(32).hex(),
        "text_length": length,
        "windows": 1 + length // 1200,
        "truncated": length > 12_000,
        "probabilities": chances,
        "any_violation": 1 - float(np.prod([1 - chance for chance in chances.values()])),
        "thresholds": dict.fromkeys(POLICIES, (0.4, 0.95)),
        "any_review": 0.4,
        "decision": decision,
        "findings": found,
        "merchant_id": f"simulated-{day:02d}-{k:04d}",
        "record_id": f"simulated-{day:02d}-{k:04d}",
        "request_id": f"simulated-{day:02d}-{k:04d}",
    }
    return DecisionRecord(**values), truth


def _review(generator: np.random.Generator, record: DecisionRecord, truth: dict[str, bool]) -> DecisionEvent:
    time = datetime.fromisoformat(record.time) + timedelta(hours=float(generator.exponential(20)))
    return DecisionEvent(
        event_id=_id(generator, time),
        decision_id=record.decision_id,
        time=time.isoformat(timespec="microseconds"),
        kind="review",
        source="simulated",
        actor=f"reviewer {int(generator.integers(3)) + 1}",
        blind=True,
        labels=truth,
    )


def _id(generator: np.random.Generator, time: datetime) -> str:
    bits = generator.bytes(10).hex()
    stamp = f"{int(time.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{bits[:3]}-8{bits[3:6]}-{bits[6:18]}"


if __name__ == "__main__":
    write_example_log(Path(sys.argv[1]))
