"""From a ranking to items: which cells to look at, under which cause, and why, in words and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...data.records.record import Record
from ...data.splitting.near_duplicates import words
from ...data.taxonomy import Taxonomy
from ..ranking.combine import Ranking
from ..ranking.drift import Drift
from ..ranking.duplicates import Contradiction, settled
from ..ranking.log_likelihood_ratio import standing
from ..ranking.neighbours import NEIGHBOURS
from ..ranking.scores import self_confidence
from ..storage.items import Cause, Item, Reason

SEVERITY_WEIGHTS = {"prohibited": 2.0, "restricted": 1.0}
"""Worth of a right label, by the severity of its policy."""
LEAST_SUSPICION = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """All that items are made of: N records, their ranking, near-duplicate groups (N,), contradictions and drifts."""

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
        self.settles = settled(cells, findings.groups)
        self.quality = 1.0 - self_confidence(cells, adjusted=True)
        margins = self.ranking.margins
        self.margins = None if margins is None else standing(margins, cells.given)
        self.weights = [SEVERITY_WEIGHTS[policy.severity] for policy in findings.taxonomy.policies]

    def item(self, row: int, column: int, cause: Cause) -> Item:
        """The item of a cell, with what the ranking says of it."""
        cells, policies = self.ranking.cells, self.findings.taxonomy.ids
        suspicion = float(self.ranking.suspicion[row, column])
        settles = int(self.settles[row, column])
        return Item(
            record=self.findings.records[row].id,
            policy=policies[column],
            given=bool(cells.given[row, column]),
            cause=cause,
            suspicion=suspicion,
            opinion=float(cells.probabilities[row, column]),
            value=suspicion * self.weights[column] * settles,
            settles=settles,
            reasons=tuple(self._reasons(row, column)),
        )

    def _reasons(self, row: int, column: int) -> Iterator[Reason]:
        ranking = self.ranking
        p = float(ranking.cells.probabilities[row, column])
        yield Reason("model", f"a model that did not see this label gives the policy {p:.0%}", p)
        share = float(ranking.neighbours[row, column])
        yield Reason(
            "neighbours",
            f"of the {NEIGHBOURS} texts nearest to it, {share:.0%} by weight have the label",
            share,
        )
        if self.margins is not None and np.isfinite(ranking.margins[row, column]):  # type: ignore[index]
            above = float(self.margins[row, column])
            side = "given" if ranking.cells.given[row, column] else "not given"
            yield Reason(
                "training",
                f"in training the model went along with it more than with {above:.0%} of the records that have this "
                f"label {side}",
                above,
            )
        quality = float(self.quality[row, column])
        yield Reason(
            "cleanlab", f"cleanlab's adjusted label quality is {quality:.2f} (1: surely right)", quality
        )
        if ranking.annotators is not None:
            number = ranking.annotators[row]
            factor = float(ranking.mistakes.annotator_factors[number])
            name = ranking.annotator_names[number] or "who labelled it"
            yield Reason(
                "annotator", f"{name} errs {factor:.1f} times as often as annotators on average", factor
            )


def suspects(findings: Findings, maker: ItemMaker, *, most: int, taken: set[tuple[int, int]]) -> list[Item]:
    """The suspect items, the most valuable first, each cell once.

    Contradictions and drifts come before what the model alone doubts: their cause says more.

    :param most: items at most.
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
    suspicion = findings.ranking.suspicion * maker.settles * np.array(maker.weights)
    flat = np.argsort(-suspicion, axis=None, kind="stable")[: 2 * most]
    for row, column in zip(
        *(places.tolist() for places in np.unravel_index(flat, suspicion.shape)), strict=True
    ):
        if findings.ranking.suspicion[row, column] < LEAST_SUSPICION:
            continue
        yield (row, column), _doubted(findings, maker, row, column)


def _contradicting(findings: Findings, maker: ItemMaker, found: Contradiction) -> Item:
    one, other = findings.records[found.row], findings.records[found.other]
    by_two = one.annotator and other.annotator and one.annotator != other.annotator
    same = by_two and words(one.text) == words(other.text)
    cause: Cause = "annotator_disagreement" if same else "contradicting_duplicates"
    item = maker.item(found.row, found.policy, cause)
    kind = f"the same text, labelled by {other.annotator}," if same else "a near-duplicate text"
    says = "does not have" if item.given else "has"
    total = found.for_it + found.against
    reason = Reason(
        "annotators" if same else "duplicates",
        f"{kind} {says} the label; {found.against} of the {total} near-duplicates with it",
        found.against / total,
    )
    return replace(
        item,
        suspicion=found.suspicion,
        other_record=other.id,
        settles=total,
        value=found.suspicion * maker.weights[found.policy] * total,
        reasons=(reason, *item.reasons),
    )


def _drifting(findings: Findings, maker: ItemMaker, drift: Drift) -> Iterator[tuple[tuple[int, int], Item]]:
    """Of a drift the later records whose label goes along with it and is doubted at all."""
    way = "more" if drift.score > 0 else "less"
    reason = Reason(
        "drift",
        f"{drift.annotator} gives this policy {way} often as time goes on: to {drift.early:.0%} of the earlier records "
        f"and {drift.late:.0%} of the later",
        drift.score,
    )
    for row in drift.late_rows.tolist():
        along = findings.ranking.cells.given[row, drift.policy] == (drift.score > 0)
        if along and findings.ranking.suspicion[row, drift.policy] >= LEAST_SUSPICION:
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
    share = float(findings.ranking.mistakes.swaps[(column, rival) if given else (rival, column)])
    text = (
        f"{title} may have been meant: the model gives it {p:.0%}"
        if given
        else f"{title} may stand in its place: it is given, and the model gives it {p:.0%}"
    )
    return replace(
        item,
        cause="confused_pair" if given else "missing_positive",
        other_policy=findings.taxonomy.ids[rival],
        reasons=(
            Reason("swap", f"{text}; of this policy's mistakes {share:.0%} are of this pair", share),
            *item.reasons,
        ),
    )


def _rival(ranking: Ranking, row: int, column: int) -> int | None:
    """The policy that the cell's is taken for, if that explains most of the suspicion."""
    mistakes, given, known = ranking.mistakes, ranking.cells.given[row], ranking.cells.known[row]
    if mistakes.swap[row, column] < 0.5 * mistakes.suspicion[row, column]:
        return None
    others = np.where((given != given[column]) & known, mistakes.swap[row], 0.0)
    others[column] = 0.0
    best = int(others.argmax())
    return best if others[best] >= 0.5 * mistakes.swap[row, column] else None
