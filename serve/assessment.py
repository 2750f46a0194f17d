"""What the scorer says of one text."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Decision = Literal["clear", "review", "block"]


def any_violation(probabilities: NDArray[np.float32]) -> float:
    """1 - product(1 - p) over the policies (K,), as the float32 that the bundle's limit is."""
    scores = np.minimum(probabilities.astype(np.float64), 1.0 - 1e-12)
    return float(np.float32(-np.expm1(np.log1p(-scores).sum())))


@dataclass(frozen=True, slots=True)
class Span:
    """A passage of the caller's text: `text == caller_text[start:end]`, offsets in characters."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One policy whose probability reached its review or block threshold.

    `spans` are the passages that carry the finding, best first; `windows` are the character ranges of the
    caller's text that the model read as one piece and that show the policy by themselves, best first.
    """

    policy: str
    probability: float
    decision: Decision
    spans: tuple[Span, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The decision on one text with everything that led to it.

    `probabilities` is float32 (K,), one per policy in the bundle's order; `findings` are sorted by
    probability, highest first; `windows` counts the windows read; `truncated` says that the text went on
    after the last of them; `bundle` is `name@version`.

    `cleared_early`: the first stage of a cascade cleared the text and the model never read it. Then nobody has
    estimated its probabilities: they are NaN.
    """

    decision: Decision
    probabilities: NDArray[np.float32]
    findings: tuple[Finding, ...]
    windows: int
    truncated: bool
    bundle: str
    cleared_early: bool = False

    @property
    def any_violation(self) -> float:
        """Probability that some policy is violated, were they independent: what a queue is ranked by."""
        return any_violation(self.probabilities)
