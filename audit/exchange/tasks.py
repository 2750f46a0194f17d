"""Tasks for other tools: the undecided items in a mixed order, as all formats write them."""

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...core.display import visible
from ...data.records.record import record_from
from ..estimation.outcomes import outcomes
from ..sampling.mix import BLOCK, Mix
from ..storage.items import SUSPECTS, Answer, Cause, Cell, Item
from ..storage.store import Scan

ANSWER_TITLES: dict[str, str] = {
    "has": "The policy is violated",
    "has_not": "The policy is not violated",
    "cannot_tell": "The text does not say",
}
MAX_TEXT_CHARACTERS = 100_000
_CUT = "\n[... cut: {:,} characters in total]"


@dataclass(frozen=True, slots=True)
class Task:
    """One item as another tool shows it. `given` is the label in the data: it is written only on request."""

    number: int
    record: str
    policy: str
    title: str
    covers: str
    excludes: str
    text: str
    near_duplicate: str
    given: bool


def tasks(
    scan: Scan,
    answers: Iterable[Answer],
    *,
    limit: int | None = None,
    causes: Sequence[Cause] = (),
    seed: int = 0,
) -> list[Task]:
    """The undecided items: the best suspects first, mixed with controls and gold items.

    Controls and gold items, drawn by `seed`, have the same shares as in a review; the order is shuffled within each block, so that
    the position of a task tells nothing about it.

    :param causes: only these queues of suspects.
    """
    decided = {cell for cell, outcome in outcomes(answers).items() if outcome.holds is not None}
    by_kind: dict[str, list[tuple[int, Item]]] = {"suspect": [], "control": [], "gold": []}
    seen: set[Cell] = set()
    for number, item in scan.items():
        other_queue = causes and item.cause in SUSPECTS and item.cause not in causes
        if item.cell in decided or item.cell in seen or other_queue:
            continue
        seen.add(item.cell)
        by_kind["suspect" if item.cause in SUSPECTS else item.cause].append((number, item))
    draw = random.Random(seed)
    by_kind["suspect"].sort(key=lambda pair: (-pair[1].value, pair[0]))
    for kind in ("control", "gold"):
        draw.shuffle(by_kind[kind])
    return [_task(scan, number, item) for number, item in _mixed(by_kind, draw)[:limit]]


def _mixed(by_kind: dict[str, list[tuple[int, Item]]], draw: random.Random) -> list[tuple[int, Item]]:
    """Blocks with as many items of each kind as in a review; what is left of one kind comes last."""
    mix = Mix()
    counts = {"control": mix.controls, "gold": mix.gold, "suspect": BLOCK - mix.controls - mix.gold}
    queues = {kind: iter(items) for kind, items in by_kind.items()}
    result: list[tuple[int, Item]] = []
    while True:
        block = [
            pair
            for kind, count in counts.items()
            for _, pair in zip(range(count), queues[kind], strict=False)
        ]
        if not block:
            return result
        draw.shuffle(block)
        result += block


def _task(scan: Scan, number: int, item: Item) -> Task:
    policy = scan.taxonomy.policies[scan.taxonomy.index(item.policy)]
    other = item.other_record if item.cause == "contradicting_duplicates" else None
    return Task(
        number=number,
        record=item.record,
        policy=item.policy,
        title=policy.title,
        covers=policy.covers,
        excludes=policy.excludes,
        text=_text(scan, item.record),
        near_duplicate=_text(scan, other) if other else "",
        given=item.given,
    )


def _text(scan: Scan, record: str) -> str:
    """The record's text, limited in length, with symbols for characters that would hide or reorder it."""
    text = record_from(scan.record(record).fields, scan.taxonomy).text
    cut = text[:MAX_TEXT_CHARACTERS]
    plain = visible(cut)
    return plain if len(cut) == len(text) else plain + _CUT.format(len(text))


def task_key(task: Task) -> str:
    """A name for the task that tells nothing about why it was chosen."""
    return hashlib.blake2b(f"{task.record}\0{task.policy}".encode(), digest_size=8).hexdigest()
