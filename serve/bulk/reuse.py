"""Which records need no scoring, because earlier results hold an answer; and what skipping them may lose."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.records.record import Record
from .previous import Previous
from .rows import ResultRow, text_hash

CONFIDENCE = 0.95
_SCALE = 2**52


@dataclass(slots=True)
class SkippingLoss:
    """What skipping texts that an older bundle scored low may lose, from a random share of them that was scored.

    :param skipped: texts that were not scored again.
    :param controls: texts that met the same rule, drawn by their hash, and were scored; `found` of these the new bundle
        does not clear.
    """

    skipped: int = 0
    controls: int = 0
    found: int = 0

    @property
    def bound(self) -> float:
        """With 95 % confidence at most this share of the skipped texts would not be cleared (Clopper and Pearson)."""
        return upper_bound(self.found, self.controls, CONFIDENCE)


class Reuse:
    """Answers records from earlier results.

    :param key: of the settings that score now; rows under it are copied.
    :param below: also copy clear rows of other bundles whose probability of any violation is below this; None: do not.
    :param control: share of such texts that is scored all the same.
    """

    def __init__(
        self, previous: Previous, key: str, *, below: float | None = None, control: float = 0.02
    ) -> None:
        self._previous, self._key = previous, key
        self._below, self._control = below, control

    def answers(
        self, records: Sequence[Record], carry: Callable[[Record], Mapping[str, Any]]
    ) -> tuple[list[ResultRow | None], set[int]]:
        """The copied row of each record, None where it must be scored, and which of these are controls."""
        hashes = [text_hash(record.text) for record in records]
        rows: list[ResultRow | None] = []
        controls: set[int] = set()
        for place, (record, earlier) in enumerate(
            zip(records, self._previous.find_many(hashes, self._key), strict=True)
        ):
            copied = earlier is not None and earlier.scored_with == self._key
            if earlier is not None and not copied and self._settled(earlier):
                if is_control(hashes[place], self._control):
                    controls.add(place)
                else:
                    copied = True
            rows.append(earlier.copied_for(record, carry(record)) if earlier is not None and copied else None)
        return rows, controls

    def _settled(self, row: ResultRow) -> bool:
        if self._below is None or row.any_violation is None:
            return False
        return row.decision == "clear" and row.any_violation < self._below


def is_control(hashed: str, share: float) -> bool:
    """Whether a text is drawn: its hash decides, which has nothing to do with its score. Other bits than an index uses."""
    return int(hashed[-13:], 16) < share * _SCALE


def upper_bound(found: int, drawn: int, confidence: float) -> float:
    """The exact upper bound of a share of which `found` of `drawn` showed; 1 where nothing was drawn."""
    if found >= drawn:
        return 1.0
    low, high = found / drawn, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(found, drawn, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(found: int, drawn: int, share: float) -> float:
    """P(Binomial(drawn, share) <= found)."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    terms = (
        math.lgamma(drawn + 1)
        - math.lgamma(k + 1)
        - math.lgamma(drawn - k + 1)
        + k * math.log(share)
        + (drawn - k) * math.log1p(-share)
        for k in range(found + 1)
    )
    return min(1.0, math.fsum(map(math.exp, terms)))
