"""What the scorer returns for one text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.decisions import Decision, any_violation


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
    caller's text that the model read as one piece and that show the policy on their own, best first.
    """

    policy: str
    probability: float
    decision: Decision
    spans: tuple[Span, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The decision on one text with everything that led to it.

    :param probabilities: float32 (K,), one per policy in the bundle's order.
    :param findings: by probability, the highest first.
    :param windows: how many windows the model read.
    :param truncated: whether the text goes on after the last of them.
    :param bundle: `name@version`.
    :param cleared_early: the first stage of a cascade cleared the text and the model never read it; its
        probabilities are NaN.
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
        return float(np.float32(any_violation(self.probabilities)))
