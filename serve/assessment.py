"""What the scorer returns for one text."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.decisions import Decision


@dataclass(frozen=True, slots=True)
class Span:
    """A passage of the caller's text: `text == caller_text[start:end]`, offsets in characters; `hidden`: no visitor sees it."""

    start: int
    end: int
    text: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One policy whose probability reached its review or block threshold.

    `spans` are the passages that carry the finding, best first; `windows` are the character ranges of the
    caller's text that the model read as one piece and that show the policy on their own, best first. `certificate` of a
    block: "policy", the precision of this policy's blocks is certified; "pooled", that of several policies together.
    """

    policy: str
    probability: float
    decision: Decision
    spans: tuple[Span, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()
    certificate: Literal["policy", "pooled"] | None = None

    @property
    def hidden(self) -> bool:
        """Whether its best passage is text that no visitor sees."""
        return bool(self.spans) and self.spans[0].hidden


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """The decision on one text with everything that led to it.

    :param probabilities: float32 (K,), one per policy in the bundle's order.
    :param any_violation: calibrated probability that some policy is violated, a float32 as it is compared with its limit:
        what a queue is ranked by.
    :param findings: by probability, the highest first.
    :param windows: how many windows the model read.
    :param truncated: whether the text goes on after the last of them.
    :param bundle: `name@version`.
    :param cleared_early: the first stage of a cascade cleared the text and the model never read it; its
        probabilities are NaN.
    :param warnings: what to know before trusting the decision: "language", the model does not read the text, which is
        therefore never clear nor blocked; "thin page", it has too few words to judge; "truncated".
    """

    decision: Decision
    probabilities: NDArray[np.float32]
    any_violation: float
    findings: tuple[Finding, ...]
    windows: int
    truncated: bool
    bundle: str
    cleared_early: bool = False
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `json.dumps(..., allow_nan=False)` takes; `probabilities` in the bundle's order.

        JSON has no NaN: what the model has not read is None.
        """
        return {
            "decision": self.decision,
            "any_violation": _number(self.any_violation),
            "probabilities": [_number(each) for each in self.probabilities.tolist()],
            "findings": [asdict(each) for each in self.findings],
            "windows": self.windows,
            "truncated": self.truncated,
            "bundle": self.bundle,
            "cleared_early": self.cleared_early,
            "warnings": list(self.warnings),
        }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
