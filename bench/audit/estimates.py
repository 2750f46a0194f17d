"""How often the interval for errors left covers the truth, in simulated audits with simulated reviewers.

Each audit: cells with labels of which some are wrong, a ranker whose probabilities are right on average but not perfect, controls
drawn in bands of these probabilities, gold items, and a reviewer who sees part of the suspects and all controls. The errors left in
undecided cells are known here, so the interval can be checked.

    cd bench && python -m audit.estimates --audits 100
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from merchantguard.audit.estimation.estimates import Estimator
from merchantguard.audit.storage.items import Answer, Item

LOOK = 6_000  # milliseconds
_OTHERS = ((2, "control"), (1, "gold"))


@dataclass(frozen=True)
class World:
    """One kind of audit: the share of the labels that is wrong, and how often the reviewer overlooks a policy that holds
    (`misses`) or sees one that does not (`alarms`); if the scan is not `sharp`, its probabilities are random."""

    cells: int
    wrong: float
    misses: float
    alarms: float
    controls: int
    gold: int
    looks: int
    sharp: bool = True

    def label(self) -> str:
        """The row's name in the table."""
        scan = "sharp" if self.sharp else "chance"
        return f"{scan} | {100 * self.wrong:g} % | {100 * self.misses:g} % | {100 * self.alarms:g} %"


WORLDS = [
    World(26_000, wrong, misses, alarms, controls=400, gold=100, looks=1_700)
    for wrong in (0.002, 0.01, 0.03)
    for misses, alarms in ((0.0, 0.0), (0.05, 0.0), (0.1, 0.002), (0.2, 0.01))
] + [
    World(26_000, wrong, 0.05, 0.0, controls=400, gold=100, looks=1_700, sharp=False)
    for wrong in (0.002, 0.01, 0.03)
]


@dataclass(frozen=True)
class Cells:
    """The cells of a simulated audit, each (N,): the label, whether it is wrong, and the probability of that."""

    given: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    p_label_error: NDArray[np.float64]


def draw_cells(world: World, generator: np.random.Generator) -> Cells:
    """A tenth of the labels are positive; the probabilities are calibrated overall and separate wrong from right well, but not perfectly."""
    given = generator.random(world.cells) < 0.1
    wrong = generator.random(world.cells) < world.wrong * np.where(given, 3.0, 7.0 / 9.0)
    evidence = np.where(
        wrong & world.sharp, generator.normal(2.5, 1.2, world.cells), generator.normal(0.0, 1.0, world.cells)
    )
    odds = np.log(world.wrong / (1.0 - world.wrong)) + 1.6 * (evidence - 1.25)
    return Cells(given, wrong, 1.0 / (1.0 + np.exp(-odds)))


def draw_items(world: World, cells: Cells, generator: np.random.Generator) -> list[Item]:
    """Controls by label and band, gold items, and the cells that are most likely to be wrong."""
    items = []
    taken = np.zeros(world.cells, dtype=bool)
    for rows, count in _strata(world, cells):
        drawn = generator.choice(rows, size=min(count, len(rows)), replace=False)
        taken[drawn] = True
        items += [_item(cells, row, "control", inclusion_probability=len(drawn) / len(rows)) for row in drawn]
    # Equal numbers of gold items where the policy holds and where it does not: both kinds of mistake must be seen.
    for given in (False, True):
        sure = np.flatnonzero(~taken & ~cells.wrong & (cells.given == given))
        gold = generator.choice(sure, size=world.gold // 2, replace=False)
        taken[gold] = True
        items += [_item(cells, row, "gold", gold_answer=given) for row in gold]
    # A gold cell is nothing else. A control may be a suspect too; otherwise the rest would not be a sample of all cells.
    free = np.setdiff1d(
        np.arange(world.cells), [int(item.record[1:]) for item in items if item.cause == "gold"]
    )
    for row in free[np.argsort(-cells.p_label_error[free], kind="stable")][: 3 * world.looks]:
        items.append(_item(cells, row, "wrong_positive" if cells.given[row] else "missing_positive"))
    return items


def _strata(world: World, cells: Cells) -> Iterator[tuple[NDArray[np.int64], int]]:
    for given, share in ((True, 0.3), (False, 0.7)):
        rows = np.flatnonzero(cells.given == given)
        rows = rows[np.argsort(-cells.p_label_error[rows], kind="stable")]
        bounds = (0, len(rows) // 20, len(rows) // 5, len(rows))
        for first, last in pairwise(bounds):
            yield rows[first:last], round(world.controls * share / 3)


def _item(
    cells: Cells, row: int, cause: str, *, inclusion_probability: float = 1.0, gold_answer: bool | None = None
) -> Item:
    p_label_error = float(cells.p_label_error[row])
    return Item(
        record=f"r{row}",
        policy="p",
        given=bool(cells.given[row]),
        cause=cause,  # type: ignore[arg-type]
        p_label_error=p_label_error,
        model_probability=0.5,
        value=p_label_error,
        inclusion_probability=inclusion_probability,
        gold_answer=gold_answer,
    )


def answers_of(world: World, cells: Cells, items: list[Item], generator: np.random.Generator) -> list[Answer]:
    """One reviewer, who sees no label before answering: of 20 items 17 suspects, the likeliest errors first, 2 controls and one
    gold item, until the set number of suspects is reviewed."""
    suspects = sorted((i for i in items if i.cause not in ("control", "gold")), key=lambda i: -i.value)
    queues = [
        (17, iter(suspects[: world.looks])),
        *((n, iter([i for i in items if i.cause == c])) for n, c in _OTHERS),
    ]
    seen: dict[str, Answer] = {}
    while sum(answer.shown["cause"] not in ("control", "gold") for answer in seen.values()) < world.looks:
        before = len(seen)
        for turns, queue in queues:
            for item in islice((item for item in queue if item.record not in seen), turns):
                seen[item.record] = _answer(world, cells, item, len(seen) + 1, generator)
        if len(seen) == before:
            break
    return list(seen.values())


def _answer(world: World, cells: Cells, item: Item, number: int, generator: np.random.Generator) -> Answer:
    row = int(item.record[1:])
    truth = bool(cells.given[row] ^ cells.wrong[row])
    mistaken = generator.random() < (world.misses if truth else world.alarms)
    said = "has" if truth ^ mistaken else "has_not"
    shown: dict[str, object] = {"cause": item.cause}
    answer = Answer("ann", item.record, "p", said, "first", "2026-01-01T00:00:00Z", LOOK, "bench", shown)
    return replace(answer, number=number)


@dataclass(frozen=True)
class Outcome:
    """One audit: errors left in truth, expected by the scan, and estimated from controls with the interval."""

    truth: int
    expected: float
    point: float
    low: float
    high: float


def simulate(world: World, seed: int) -> Outcome:
    """Run one audit and compare."""
    generator = np.random.default_rng([seed, WORLDS.index(world)])
    cells = draw_cells(world, generator)
    items = draw_items(world, cells, generator)
    answers = answers_of(world, cells, items, generator)
    estimates = Estimator(items).estimate(answers)
    assert estimates.remaining is not None
    unseen = np.ones(world.cells, dtype=bool)
    unseen[[int(answer.record[1:]) for answer in answers]] = False
    left = estimates.remaining.left
    return Outcome(int(cells.wrong[unseen].sum()), estimates.expected_left, left.point, left.low, left.high)


def main() -> None:
    """Print one row per world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audits", type=int, default=100, help="simulated audits per row")
    audits = parser.parse_args().audits
    print(
        "| scan | wrong labels | reviewer misses | false alarms | errors left | expected by the scan | from controls | interval | covered |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    hits = []
    for world in WORLDS:
        outcomes = [simulate(world, seed) for seed in range(audits)]
        covered = [outcome.low <= outcome.truth <= outcome.high for outcome in outcomes]
        hits += covered
        low, high = (np.median([getattr(o, end) for o in outcomes]) for end in ("low", "high"))
        print(
            f"| {world.label()} | {np.mean([o.truth for o in outcomes]):.0f} | "
            f"{np.mean([o.expected for o in outcomes]):.0f} | {np.mean([o.point for o in outcomes]):.0f} | {low:.0f} to {high:.0f} | {100 * np.mean(covered):.1f} % |",
            flush=True,
        )
    print(f"\n{len(hits)} audits, truth covered in {100 * np.mean(hits):.1f} %")


if __name__ == "__main__":
    main()
