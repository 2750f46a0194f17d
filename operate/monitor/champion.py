"""Champion and challenger: two bundles on the same traffic, labels only where they disagree, and a staged rollout."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core.errors import SettingsError
from ...core.files import read_json, write_json
from ...serve.decision_record import DecisionRecord
from .eprocess import betting_interval, certificate_evidence
from .sample import unit_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A cell that the two bundles flag differently; only its label can say who is right."""

    key: str
    policy: str
    champion: DecisionRecord
    challenger: DecisionRecord
    challenger_flags: bool


def join_key(record: DecisionRecord) -> str | None:
    """By what two logs of the same traffic are joined: the record, else the request; None if it has neither."""
    return record.record_id or record.request_id


def disagreements(
    champion: Iterable[DecisionRecord], challenger: Iterable[DecisionRecord]
) -> tuple[list[Disagreement], int]:
    """Where two bundles flag (at review or block) differently, in the order of the champion; and how many texts both saw.

    Policies that one of the two does not have are left out.
    """
    other = {key: record for record in challenger if (key := join_key(record)) is not None}
    found: list[Disagreement] = []
    both = 0
    for record in champion:
        key = join_key(record)
        pair = other.get(key) if key is not None else None
        if key is None or pair is None:
            continue
        both += 1
        mine, theirs = flagged(record), flagged(pair)
        shared = set(record.thresholds) & set(pair.thresholds)
        found += [
            Disagreement(key, policy, record, pair, policy in theirs)
            for policy in sorted((mine ^ theirs) & shared)
        ]
    return found, both


def flagged(record: DecisionRecord) -> frozenset[str]:
    """Policies that a decision flags."""
    return frozenset(each.policy for each in record.findings if each.decision != "clear")


Verdict = Literal["challenger", "champion", "open"]


@dataclass(frozen=True, slots=True)
class Duel:
    """Where a comparison stands after some labelled disagreements.

    :param verdict: who is better, once the evidence was enough; it stays, whatever comes later.
    :param decided_at: after how many labels.
    :param wealth: for the challenger and for the champion.
    """

    verdict: Verdict
    labels: int
    challenger_wins: int
    decided_at: int | None
    wealth: tuple[float, float]


def duel(challenger_right: Sequence[bool], alpha: float = 0.05) -> Duel:
    """The sequential test: whether the challenger wins more than half of the disagreements, or fewer.

    It may be looked at after every label; the chance of naming the worse bundle is at most alpha.
    (Where both are equally good, either is named with at most 2 alpha.)

    :param challenger_right: of each labelled disagreement, in an order that does not depend on the labels.
    """
    wins = np.array(challenger_right, bool)
    count = np.arange(1, len(wins) + 1)
    s = np.cumsum(wins)
    up, down = certificate_evidence(s, count - s, 0.5), certificate_evidence(count - s, s, 0.5)
    limit = np.log(1 / alpha)
    reached = np.flatnonzero(np.maximum(up, down) >= limit)
    verdict: Verdict = "open"
    decided = None
    if reached.size:
        decided = int(reached[0]) + 1
        verdict = "challenger" if up[reached[0]] >= limit else "champion"
    ends = (up[-1], down[-1]) if len(wins) else (0.0, 0.0)
    return Duel(
        verdict,
        len(wins),
        int(wins.sum()),
        decided,
        (float(np.exp(min(ends[0], 600))), float(np.exp(min(ends[1], 600)))),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A business figure of two groups of merchants, peeked at as often as one likes.

    :param difference: group B less group A, with an interval that holds at all times.
    """

    a: float
    b: float
    merchants: int
    difference: tuple[float, float]
    verdict: Literal["B larger", "B smaller", "open"]


def compare_groups(a: Sequence[float], b: Sequence[float], *, most: float, alpha: float = 0.05) -> Comparison:
    """Compare a figure of merchants (appeals, reviewer minutes), each merchant once, in their order of arrival.

    The k-th merchant of A and the k-th of B make a pair; the pairs' differences feed a betting confidence sequence.

    :param most: no value is larger (values are cut there); none is negative.
    :raises SettingsError: if a value is negative or `most` is not positive.
    """
    pairs = min(len(a), len(b))
    first, second = np.array(a[:pairs], float), np.array(b[:pairs], float)
    if not most > 0 or (first < 0).any() or (second < 0).any():
        raise SettingsError("compare_groups needs values of 0 or more and a positive upper limit")
    first, second = np.minimum(first, most), np.minimum(second, most)
    low, high = betting_interval((second - first + most) / (2 * most), alpha)
    low, high = 2 * most * low - most, 2 * most * high - most
    verdict: Literal["B larger", "B smaller", "open"] = (
        "B larger" if low > 0 else "B smaller" if high < 0 else "open"
    )
    means = (float(first.mean()), float(second.mean())) if pairs else (0.0, 0.0)
    return Comparison(*means, 2 * pairs, (low, high), verdict)


STAGES = (0.01, 0.1, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A challenger's share of the merchants, by their hash: who was in a smaller stage stays in the larger ones.

    :param salt: of the hash; another rollout needs another.
    :param stage: index into `stages`; -1 after a rollback.
    :param began: audits of the challenger when the stage began.
    """

    challenger: str
    salt: str
    stages: tuple[float, ...] = STAGES
    stage: int = 0
    began: int = 0
    reason: str = "started"

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.stages, self.stages[1:], strict=False))
        if not self.stages or not rising or not self.stages[0] > 0 or self.stages[-1] > 1:
            raise SettingsError(f"stages {self.stages}: they must rise, above 0 and up to 1")
        if not -1 <= self.stage < len(self.stages):
            raise SettingsError(f"stage {self.stage}: there are {len(self.stages)} stages")

    @property
    def share(self) -> float:
        """Share of merchants that the challenger decides on."""
        return 0.0 if self.stage < 0 else self.stages[self.stage]

    def takes(self, merchant: str) -> bool:
        """Whether the challenger decides on a merchant."""
        return unit_interval(self.salt.encode(), "rollout", merchant) < self.share

    def step(self, *, audits: int, alarm: bool, worse: bool = False, least: int = 50) -> "Rollout":
        """The rollout after a look: back to nothing on an alarm, one stage on after `least` more audits without any.

        :param audits: of the challenger's blocks so far.
        :param worse: whether the sequential comparison found the challenger worse.
        """
        if self.stage < 0:
            return self
        if alarm or worse:
            why = "rolled back: precision alarm" if alarm else "rolled back: the champion is better"
            return replace(self, stage=-1, reason=why)
        if audits - self.began >= least and self.stage + 1 < len(self.stages):
            following = self.stages[self.stage + 1]
            return replace(
                self, stage=self.stage + 1, began=audits, reason=f"on to {100 * following:g} % of merchants"
            )
        return self

    def write(self, path: Path) -> None:
        """Write the state, atomically."""
        write_json(path, asdict(self) | {"stages": list(self.stages)})

    @classmethod
    def read(cls, path: Path) -> "Rollout":
        """The state in a file.

        :raises SettingsError: if it is none.
        """
        try:
            document: Mapping[str, Any] = read_json(path)
            return cls(**{**document, "stages": tuple(map(float, document["stages"]))})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path}: is no rollout state ({error})") from error
