"""Why rows were rejected, in one sentence: the commonest reasons with an example each."""

import re
from collections.abc import Iterable

from .readers import RowFault

_COMMONEST = 3
_MOST_KINDS = 1_000
# Values and numbers differ from row to row; the reason is the same.
_VALUES = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\d,.]+")


class Rejections:
    """Counts rejected rows by the kind of their reason, in memory that does not grow with the rows."""

    def __init__(self, faults: Iterable[RowFault] = ()) -> None:
        self.total = 0
        self._kinds: dict[str, tuple[int, RowFault]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: RowFault) -> None:
        """Count one more row."""
        self.total += 1
        kind = _VALUES.sub("…", fault.reason)
        if kind in self._kinds or len(self._kinds) < _MOST_KINDS:
            count, example = self._kinds.get(kind, (0, fault))
            self._kinds[kind] = (count + 1, example)

    def are_most(self, good: int) -> bool:
        """Whether more rows were rejected than read."""
        return self.total > good

    def explain(self, good: int) -> str:
        """How many of all rows were rejected, and the three commonest reasons."""
        commonest = sorted(self._kinds.values(), key=lambda kind: -kind[0])[:_COMMONEST]
        reasons = "\n".join(f"  {count:,} rows, such as {example}" for count, example in commonest)
        rows = f"{self.total:,} of {self.total + good:,} rows were rejected"
        return f"{rows}; the commonest reasons:\n{reasons}"
