"""From a ranking to items: which cells to look at, in which queue, and why, in words and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...data.records.record import Record
from ...data.splitting.near_duplicates import words
from ...data.taxonomy import Taxonomy
from ..ranking.combine import Ranking
from ..ranking.drift import Drift
from ..ranking.duplicates import Contradiction, duplicate_counts
from ..ranking.log_likelihood_ratio import quantile_within_label
from ..ranking.neighbours import NEIGHBOURS
from ..ranking.scores import self_confidence
from ..storage.items import Cause, Item, Reason

SEVERITY_WEIGHTS = {"prohibited": 2.0, "restricted": 1.0}
"""How much a correct label is worth, by the severity of its policy."""
LEAST_P_LABEL_ERROR = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """Everything that items are made from: N records, their ranking, near-duplicate groups (N,), contradictions and drifts."""

    records: Sequence[Record]
    taxonomy: Taxonomy
    ranking: Ranking
    groups: NDArray[np.int64]
    contradictions: Sequence[Contradiction]
    drifts: Sequence[Drift]


class ItemMaker:
    """Makes items of cells (row, column)."""

    def __init__(self, findings: Findings) -> None:
        self.findings, self.ranking = findings, findings.ranking
        cells = self.ranking.cells
        self.duplicate_counts = duplicate_counts(cells, findings.groups)
        self.quality = 1.0 - self_confidence(cells, adjusted=True)
        margins = self.ranking.margins
        self.margins = None if margins is None else quantile_within_label(margins, cells.given)
        self.weights = [SEVERITY_WEIGHTS[policy.severity] for policy in findings.taxonomy.policies]

    def item(self, row: int, column: int, cause: Cause) -> Item:
        """The item of a cell, with everything the ranking says about it."""
        cells, policies = self.ranking.cells, self.findings.taxonomy.ids
        p_label_error = float(self.ranking.p_label_error[row, column])
        duplicate_count = int(self.duplicate_counts[row, column])
        return Item(
            record=self.findings.records[row].id,
            policy=policies[column],
            given=bool(cells.given[row, column]),
            cause=cause,
            p_label_error=p_label_error,
            model_probability=float(cells.probabilities[row, column]),
            value=p_label_error * self.weights[column] * duplicate_count,
            duplicate_count=duplicate_count,
            reasons=tuple(self._reasons(row, column)),
        )

    def _reasons(self, row: int, column: int) -> Iterator[Reason]:
        ranking = self.ranking
        p = float(ranking.cells.probabilities[row, column])
        yield Reason("model", f"a model that did not see this label says {p:.0%}", p)
        share = float(ranking.neighbours[row, column])
        yield Reason(
            "neighbours", f"{share:.0%} of the {NEIGHBOURS} most similar texts have the label", share
        )
        if self.margins is not None and np.isfinite(ranking.margins[row, column]):  # type: ignore[index]
            above = float(self.margins[row, column])
            label = "with" if ranking.cells.given[row, column] else "without"
            text = f"in training the model agreed with this label more than on {above:.0%} of the records {label} it"
            yield Reason("training", text, above)
        quality = float(self.quality[row, column])
        text = f"cleanlab's adjusted label quality is {quality:.2f} (1: surely right)"
        yield Reason("cleanlab", text, quality)
        if ranking.annotators is not None:
            number = ranking.annotators[row]
            factor = float(ranking.noise.annotator_factors[number])
            name = ranking.annotator_names[number] or "an unnamed annotator"
            yield Reason(
                "annotator",
                f"{name} makes {factor:.1f} times as many errors as the average annotator",
                factor,
            )


def suspects(findings: Findings, maker: ItemMaker, *, most: int, taken: set[tuple[int, int]]) -> list[Item]:
    """The suspect items, the most valuable first, each cell once.

    Contradictions and drifts take precedence over what only the model doubts: their cause says more.

    :param most: the largest number of items.
    :param taken: cells that are not to be listed.
    """
    items: dict[tuple[int, int], Item] = {}
    for cell, item in _found(findings, maker, most):
        if cell not in taken:
            items.setdefault(cell, item)
    ordered = sorted(items.values(), key=lambda item: (-item.value, item.record, item.policy))
    return ordered[:most]


def _found(findings: Findings, maker: ItemMaker, most: int) -> Iterator[tuple[tuple[int, int], Item]]:
    for contradiction in findings.contradictions:
        yield (contradiction.row, contradiction.policy), _contradicting(findings, maker, contradiction)
    for drift in findings.drifts:
        yield from _drifting(findings, maker, drift)
    values = findings.ranking.p_label_error * maker.duplicate_counts * np.array(maker.weights)
    flat = np.argsort(-values, axis=None, kind="stable")[: 2 * most]
    for row, column in zip(
        *(places.tolist() for places in np.unravel_index(flat, values.shape)), strict=True
    ):
        if findings.ranking.p_label_error[row, column] >= LEAST_P_LABEL_ERROR:
            yield (row, column), _doubted(findings, maker, row, column)


def _contradicting(findings: Findings, maker: ItemMaker, found: Contradiction) -> Item:
    one, other = findings.records[found.row], findings.records[found.other]
    by_two = one.annotator and other.annotator and one.annotator != other.annotator
    same = by_two and words(one.text) == words(other.text)
    cause: Cause = "annotator_disagreement" if same else "contradicting_duplicates"
    item = maker.item(found.row, found.policy, cause)
    which = f"the same text, labelled by {other.annotator}," if same else "a near-duplicate text"
    has = "does not have" if item.given else "has"
    total = found.agreeing + found.opposing
    reason = Reason(
        "annotators" if same else "duplicates",
        f"{which} {has} the label; in all, {found.opposing} of {total} near-duplicates contradict this label",
        found.opposing / total,
    )
    return replace(
        item,
        p_label_error=found.p_label_error,
        other_record=other.id,
        duplicate_count=total,
        value=found.p_label_error * maker.weights[found.policy] * total,
        reasons=(reason, *item.reasons),
    )


def _drifting(findings: Findings, maker: ItemMaker, drift: Drift) -> Iterator[tuple[tuple[int, int], Item]]:
    """The later records of a drift whose label follows it and may be wrong."""
    more = "more" if drift.score > 0 else "less"
    reason = Reason(
        "drift",
        f"over time {drift.annotator} gives this policy {more} often: to {drift.early:.0%} of the earlier records "
        f"and {drift.late:.0%} of the later ones",
        drift.score,
    )
    for row in drift.late_rows.tolist():
        follows = findings.ranking.cells.given[row, drift.policy] == (drift.score > 0)
        if follows and findings.ranking.p_label_error[row, drift.policy] >= LEAST_P_LABEL_ERROR:
            item = maker.item(row, drift.policy, "annotator_drift")
            yield (row, drift.policy), replace(item, reasons=(reason, *item.reasons))


def _doubted(findings: Findings, maker: ItemMaker, row: int, column: int) -> Item:
    given = findings.ranking.cells.given[row, column]
    item = maker.item(row, column, "wrong_positive" if given else "missing_positive")
    rival = _rival(findings.ranking, row, column)
    if rival is None:
        return item
    title = findings.taxonomy.policies[rival].title
    p = float(findings.ranking.cells.probabilities[row, rival])
    share = float(findings.ranking.noise.swaps[(column, rival) if given else (rival, column)])
    text = (
        f"{title} may be meant instead: the model says {p:.0%}"
        if given
        else f"{title} may have been given instead: the model says {p:.0%}"
    )
    return replace(
        item,
        cause="confused_pair" if given else "missing_positive",
        other_policy=findings.taxonomy.ids[rival],
        reasons=(
            Reason("swap", f"{text}; {share:.0%} of the errors on this policy confuse these two", share),
            *item.reasons,
        ),
    )


def _rival(ranking: Ranking, row: int, column: int) -> int | None:
    """The policy that the cell's is confused with, if that explains most of the probability of a label error."""
    noise, given = ranking.noise, ranking.cells.given[row]
    if noise.swap[row, column] < 0.5 * noise.p_label_error[row, column]:
        return None
    others = np.where((given != given[column]) & ranking.cells.mask[row], noise.swap[row], 0.0)
    others[column] = 0.0
    best = int(others.argmax())
    return best if others[best] >= 0.5 * noise.swap[row, column] else None
