"""Two models on the same records: paired differences of the figures, McNemar tests of decisions, records that changed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from ...core.errors import RunError
from ...data.taxonomy import Taxonomy
from ..calibration.platt_scaling import Calibration
from ..calibration.thresholds import PolicyThreshold
from . import metrics
from .bootstrap import percentile_interval
from .breakdown import compliant_records, flagged_cells, snippet
from .evaluate import CONFIDENCE, threshold_arrays
from .headline import Sampled, headline
from .predictions import Predictions

CLEAR, REVIEW, BLOCK = DECISIONS = ("clear", "review", "block")
# Of the headline figures, those where more is better; of the others less is.
HIGHER_IS_BETTER = ("macro_average_precision", "any_violation_auroc")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One model's answers: its predictions with its own calibration and thresholds, which make them decisions."""

    name: str
    predictions: Predictions
    calibration: Calibration
    thresholds: Sequence[PolicyThreshold]
    any_review: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Probabilities (N, K), cells over review and block (N, K), decision of each record as an index of DECISIONS."""

    probabilities: NDArray[np.float32]
    limits: Floats
    block_limits: Floats
    review: Bools
    block: Bools
    decision: NDArray[np.int64]


def compare(
    first: Judged, second: Judged, taxonomy: Taxonomy, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """What `second` does otherwise than `first` on the same records, as one JSON-able dictionary.

    Differences are second - first, with percentile intervals of a paired bootstrap: both models are measured in every
    draw of domains. `mcnemar` holds exact McNemar tests (McNemar 1947; exact binomial) of who is right where the two
    differ; they take records as independent, so with many records a domain read the intervals instead.

    :raises RunError: if the two do not answer for the same records, or `bootstrap` is not positive.
    """
    _check(first, second, bootstrap)
    one, two = _answers(first, taxonomy), _answers(second, taxonomy)
    sampled = [
        headline(
            judged.predictions,
            answers.probabilities,
            answers.limits,
            answers.block_limits,
            bootstrap=bootstrap,
            seed=seed,
        )
        for judged, answers in ((first, one), (second, two))
    ]
    (figures, policies), (other_figures, other_policies) = sampled
    p = first.predictions
    return {
        "first": first.name,
        "second": second.name,
        "records": len(p),
        "domains": len(set(p.domains)),
        "violating": int(((p.labels > 0) & p.known).any(axis=1).sum()),
        "bootstrap": {"samples": bootstrap, "confidence": CONFIDENCE, "clusters": "domain", "seed": seed},
        "headline": {
            name: _difference(
                figures[name], other_figures[name], better=1 if name in HIGHER_IS_BETTER else -1
            )
            for name in figures
        },
        "per_policy": _per_policy(p, one, two, policies, other_policies, taxonomy),
        "mcnemar": _mcnemar_rows(p, one, two),
        "decisions": _decision_table(one, two),
        "changed": _changed_records(p, one, two, taxonomy),
    }


def _check(first: Judged, second: Judged, bootstrap: int) -> None:
    if bootstrap < 1:
        raise RunError(f"--bootstrap {bootstrap}: at least one sample is needed")
    if first.predictions.ids != second.predictions.ids:
        raise RunError(
            f"{first.name} answers for {len(first.predictions)} records, {second.name} for "
            f"{len(second.predictions)}, and not for the same ones in the same order"
        )


def _answers(judged: Judged, taxonomy: Taxonomy) -> _Answers:
    review, block = threshold_arrays(judged.thresholds, taxonomy)
    probabilities = judged.calibration.apply(judged.predictions.logits)
    known = judged.predictions.known
    limits = metrics.review_limits(probabilities, review, judged.any_review)
    over, blocked = flagged_cells(probabilities, known, limits), flagged_cells(probabilities, known, block)
    decision = np.where(blocked.any(axis=1), 2, np.where(over.any(axis=1), 1, 0))
    return _Answers(probabilities, limits, block, over, blocked, decision)


def _difference(first: Sampled, second: Sampled, *, better: int) -> dict[str, Any]:
    """Both values, second - first, its interval, and whether that lies on one side of zero: "better", "worse" or ""."""
    change = second.value - first.value
    low, high = percentile_interval(second.samples - first.samples, confidence=CONFIDENCE)
    sign = 1 if low > 0 else -1 if high < 0 else 0
    verdict = {1: "better", -1: "worse", 0: ""}[sign * better]
    numbers = {"first": first.value, "second": second.value, "change": change, "low": low, "high": high}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()} | {
        "verdict": verdict
    }


def _per_policy(
    p: Predictions,
    one: _Answers,
    two: _Answers,
    samples: Sequence[Floats],
    other_samples: Sequence[Floats],
    taxonomy: Taxonomy,
) -> list[dict[str, Any]]:
    """Average precision of each policy in both, and the flags at review that one of the two has alone."""
    values = metrics.average_precision(one.probabilities, p.labels, p.known)
    others = metrics.average_precision(two.probabilities, p.labels, p.known)
    positive = (p.labels > 0) & p.known
    return [
        {
            "policy": policy.id,
            "title": policy.title,
            "support": int(positive[:, k].sum()),
            "average_precision": _difference(
                Sampled(float(values[k]), samples[k]), Sampled(float(others[k]), other_samples[k]), better=1
            ),
            "mcnemar": _mcnemar(
                (one.review == positive)[p.known[:, k], k], (two.review == positive)[p.known[:, k], k]
            ),
        }
        for k, policy in enumerate(taxonomy.policies)
    ]


def _mcnemar(first: Bools, second: Bools) -> dict[str, Any]:
    """Exact McNemar test of two boolean columns, `right` or not: the p-value of as uneven a split of what differs."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    return {
        "records": len(first),
        "only_first": only_first,
        "only_second": only_second,
        "p": float(binomtest(only_second, differ).pvalue) if differ else 1.0,
    }


def _mcnemar_rows(p: Predictions, one: _Answers, two: _Answers) -> list[dict[str, Any]]:
    """Tests of record decisions: who finds violations, who leaves compliant records alone, who blocks rightly."""
    positive = (p.labels > 0) & p.known
    violating, compliant = positive.any(axis=1), compliant_records(p.labels, p.known)
    rows: list[dict[str, Any]] = []
    for at, level in ((REVIEW, 1), (BLOCK, 2)):
        a, b = one.decision >= level, two.decision >= level
        judged = violating | compliant
        for what, rows_of in (("all", judged), ("violating", violating), ("compliant", compliant)):
            right = [(flagged == violating)[rows_of] for flagged in (a, b)]
            rows.append({"at": at, "of": what} | _mcnemar(*right))
    return rows


def _decision_table(one: _Answers, two: _Answers) -> list[list[int]]:
    """Counts of records, rows the first's decision and columns the second's, in the order of DECISIONS."""
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (one.decision, two.decision), 1)
    return table.tolist()


def _effect(violating: bool, judged: bool, before: int, after: int) -> str:
    """Whether a changed decision came nearer to the truth: violations belong in block, compliant records in clear."""
    if not judged or before == after:
        return "other"
    return "mended" if (after > before) == violating else "broken"


def _changed_records(
    p: Predictions, one: _Answers, two: _Answers, taxonomy: Taxonomy
) -> list[dict[str, Any]]:
    """Records whose decision or flagged policies differ: broken ones first, then mended, the largest moves first."""
    positive = (p.labels > 0) & p.known
    differs = (one.decision != two.decision) | (one.review != two.review).any(axis=1)
    moves = np.abs(two.probabilities.astype(np.float64) - one.probabilities)
    moves = np.where(p.known, moves, 0.0)
    ids = taxonomy.ids

    def names(cells: Bools) -> list[str]:
        return [ids[k] for k in np.flatnonzero(cells).tolist()]

    rows = []
    for row in np.flatnonzero(differs).tolist():
        k = int(moves[row].argmax())
        violating, judged = bool(positive[row].any()), bool(p.known[row].any())
        rows.append(
            {
                "id": p.ids[row],
                "domain": p.domains[row],
                "labels": names(positive[row]),
                "before": DECISIONS[one.decision[row]],
                "after": DECISIONS[two.decision[row]],
                "effect": _effect(violating, judged, int(one.decision[row]), int(two.decision[row])),
                "flags_gone": names(one.review[row] & ~two.review[row]),
                "flags_new": names(two.review[row] & ~one.review[row]),
                "policy": ids[k],
                "probability_before": float(one.probabilities[row, k]),
                "probability_after": float(two.probabilities[row, k]),
                "text": snippet(p.texts[row]),
            }
        )
    order = {"broken": 0, "mended": 1, "other": 2}
    return sorted(
        rows,
        key=lambda r: (order[r["effect"]], -abs(r["probability_after"] - r["probability_before"])),
    )
