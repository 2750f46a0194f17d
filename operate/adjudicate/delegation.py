"""How much of the band may be decided without a person: certified for each policy, on labelled answers.

Proven answers of one verdict are ranked by the model's confidence; the lowest confidence is sought above which the share of
wrong answers is at most the stated error, by the exact binomial test of the block threshold, in a fixed sequence (Bauer
1991). Cases with signs of an injection and answers without a probability never count. A rule belongs to one model build,
one wording of the prompt and one bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.stats import poisson

from ...core.errors import MerchantGuardError
from ...core.files import read_json, write_json
from ...train.calibration.precision_threshold import allowed_errors, upper_bound
from .question import PROMPT_VERSION
from .verdicts import Row

POOLED = "*"


class DelegationError(MerchantGuardError):
    """A rule cannot be certified from these answers, or does not belong to this run."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven about answers "compliant" under a policy ("*": of all policies together).

    :param confidence: least confidence of an answer; None where nothing is certified.
    :param cases: labelled cases of the band; `accepted` of them are decided at this confidence, `errors` of these wrongly.
    :param error_bound: upper bound of the share of wrong ones among the decided, with the stated level.
    """

    policy: str
    confidence: float | None
    cases: int
    accepted: int
    errors: int
    error_bound: float

    @property
    def share(self) -> float:
        """Share of the band that is decided without a person."""
        return self.accepted / self.cases if self.cases and self.confidence is not None else 0.0


@dataclass(frozen=True, slots=True)
class Delegation:
    """Certified rules of one build, prompt and bundle."""

    build: str
    prompt_version: str
    bundle: str
    error: float
    level: float
    certificates: tuple[Certificate, ...]

    @property
    def name(self) -> str:
        """What the log calls it."""
        return f"{self.build}, error {self.error:g} at {self.level:g}"

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `save` wrote.

        :raises DelegationError: if it is not that.
        """
        try:
            document: dict[str, Any] = read_json(path)
            certificates = tuple(Certificate(**each) for each in document.pop("certificates"))
            return cls(certificates=certificates, **document)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DelegationError(
                f"{path}: is no delegation table ({error!r}); write one with `adjudicate certify`"
            ) from error

    def check(self, *, build: str, bundle: str) -> None:
        """Refuse to be used for another model or bundle.

        :raises DelegationError: naming what differs.
        """
        for name, own, other in (
            ("model build", self.build, build),
            ("bundle", self.bundle, bundle),
            ("prompt version", self.prompt_version, PROMPT_VERSION),
        ):
            if own != other:
                raise DelegationError(
                    f"the rules are certified for {name} {own!r}, not {other!r}; certify them again"
                )

    def move(self, row: Row) -> Row:
        """The row with where it goes: "clear" if its policy is certified and the answer is proven, confident and unsuspicious.

        Policies without a certificate of their own take the pooled one only if it was asked for, by being there.
        """
        by_policy = {each.policy: each for each in self.certificates if each.confidence is not None}
        certificate = by_policy.get(row.policy, by_policy.get(POOLED))
        if certificate is None or certificate.confidence is None or not countable(row):
            return replace(row, move="review", rule=None)
        if row.confidence is None or row.confidence < certificate.confidence:
            return replace(row, move="review", rule=None)
        return replace(row, move="clear", rule=f"{certificate.policy}: {self.name}")


def countable(row: Row) -> bool:
    """Whether an answer may clear a case at all."""
    return row.verdict == "compliant" and row.confidence is not None and not row.injection and not row.faults


def certify(
    rows: Sequence[Row],
    labels: Mapping[tuple[str, str], bool],
    *,
    bundle: str,
    error: float,
    level: float,
    pooled: bool = False,
) -> Delegation:
    """Certify from answers whose truth is known.

    :param labels: by record and policy whether it is violated; cases without a label are left out.
    :param error: largest share of wrong answers among the decided cases.
    :param level: confidence of each certificate.
    :param pooled: also certify all policies together: right on average, not for each.
    :raises DelegationError: if the answers are of several builds or prompts, or none is labelled.
    """
    known = [row for row in rows if (row.record, row.policy) in labels]
    kinds = {(row.build, row.prompt_version) for row in known}
    if len(kinds) != 1:
        reason = (
            "no answer has a label" if not kinds else f"answers of {len(kinds)} builds or prompts are mixed"
        )
        raise DelegationError(f"{reason}; certify one build on labelled cases of the band")
    build, version = kinds.pop()
    policies = sorted({row.policy for row in known})
    groups = [(policy, [row for row in known if row.policy == policy]) for policy in policies]
    if pooled:
        groups.append((POOLED, known))
    certificates = tuple(
        _certify(policy, group, labels, error=error, level=level) for policy, group in groups
    )
    return Delegation(build, version, bundle, error, level, certificates)


def _certify(
    policy: str, rows: Sequence[Row], labels: Mapping[tuple[str, str], bool], *, error: float, level: float
) -> Certificate:
    ranked = sorted(
        (row for row in rows if countable(row)),
        key=lambda row: (-(row.confidence or 0.0), row.record, row.policy),
    )
    confidence = np.array([row.confidence for row in ranked], dtype=np.float64)
    wrong = np.cumsum([labels[row.record, row.policy] for row in ranked], dtype=np.int64)
    ends = (
        np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
        if len(ranked)
        else np.zeros(0, np.int64)
    )
    allowed = allowed_errors(len(ranked), 1.0 - error, level)
    start = _start(confidence, ends, allowed)
    passed = [int(wrong[end]) <= int(allowed[end + 1]) for end in ends[start:]]
    steps = passed.index(False) if False in passed else len(passed)
    if not steps:
        last = int(ends[min(start, len(ends) - 1)]) if len(ends) else -1
        errors = int(wrong[last]) if last >= 0 else 0
        return Certificate(policy, None, len(rows), last + 1, errors, _bound(errors, last + 1, level))
    last = int(ends[start + steps - 1])
    errors = int(wrong[last])
    return Certificate(
        policy, float(confidence[last]), len(rows), last + 1, errors, _bound(errors, last + 1, level)
    )


def _start(confidence: np.ndarray, ends: np.ndarray, allowed: np.ndarray) -> int:
    """The first candidate to test, by confidences alone: the earliest of those that would most likely pass.

    Wrong answers are taken to be as many as the confidences say (Poisson); which they are has no part in the choice.
    """
    if not len(ends):
        return 0
    expected, most = np.cumsum(1.0 - confidence)[ends], allowed[ends + 1]
    power = np.where(most >= 0, poisson.cdf(np.maximum(most, 0), np.maximum(expected, 1e-12)), 0.0)
    return int(np.argmax(power >= 0.99 * power.max()))


def _bound(errors: int, trials: int, level: float) -> float:
    return upper_bound(errors, trials, level) if trials else 1.0


def table(delegation: Delegation, cost_a_case: float, cases_a_thousand: float | None = None) -> str:
    """The certificates as text: share automated, error bound, cost.

    :param cases_a_thousand: cases among a thousand merchants; without it the cost of a thousand cases is stated.
    """
    unit = "1,000 merchants" if cases_a_thousand is not None else "1,000 cases"
    cost = cost_a_case * (cases_a_thousand if cases_a_thousand is not None else 1000.0)
    lines = [
        f"{'policy':<24} {'cases':>6} {'decided':>8} {'share':>6} {'errors':>6} {'error bound':>12}  confidence"
    ]
    for each in delegation.certificates:
        decided = each.accepted if each.confidence is not None else 0
        confidence = "not certified" if each.confidence is None else f"{each.confidence:.3f}"
        lines.append(
            f"{each.policy:<24} {each.cases:>6} {decided:>8} {each.share:>6.1%} {each.errors:>6} {each.error_bound:>12.1%}"
            f"  {confidence}"
        )
    lines.append(f"cost of {unit}: {cost:.4g}")
    return "\n".join(lines)
