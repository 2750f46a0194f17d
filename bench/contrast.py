"""Contrast sets: does the model rely on the business, or on the denials that the corpus's near misses are full of?

    python bench/contrast.py quickstart/bundle MERCHANTS/*.jsonl

Each set changes one thing that does not affect the label (Gardner 2020, "Evaluating models' local decision boundaries
via contrast sets"): denials are removed from compliant pages and from violating ones, a denial of its own policy is added
to a violating page, a denial of some policy to a compliant one, names are replaced. A model that takes a denial for
compliance loses recall on violating pages with a denial and raises alarms on compliant pages without. The limit is
passed by 10 % of the unchanged compliant pages.
"""

import argparse
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from evasion import alarm_limit, bundle_model
from guard import guarded

from merchantguard.core.decisions import any_violation
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy

DENIALS = (
    "Sorry, we don't carry {} of any kind.",
    "Looking for {}? Wrong place.",
    "You won't find {} on this site.",
    "We stay away from {}.",
)
NAMES = ("Halden", "Morrowby", "Quillfeather", "Osterlund", "Pemberwick", "Tanaka", "Okonjo", "Villaseca")
_DENIES = re.compile(
    r"\b(no|not|never|don't|doesn't|cannot|can't|won't|without|nor|neither|isn't|aren't)\b", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_MIDDLE_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}")

Change = Callable[[Record, random.Random], str]


def without_denials(record: Record, _: random.Random) -> str:
    """The text without the sentences that contain a negation."""
    lines = (
        " ".join(s for s in _SENTENCE.split(line) if not _DENIES.search(s))
        for line in record.text.split("\n")
    )
    return "\n".join(line for line in lines if line)


def with_denial(taxonomy: Taxonomy) -> Change:
    """Adds a denial of goods of one of the record's own policies, or of any policy where it has none."""
    goods = {policy.id: [part.strip() for part in policy.covers.split(",")] for policy in taxonomy.policies}

    def change(record: Record, draw: random.Random) -> str:
        policy = draw.choice(record.labels or taxonomy.ids)
        return f"{record.text}\n{draw.choice(DENIALS).format(draw.choice(goods[policy]))}"

    return change


def with_other_names(record: Record, draw: random.Random) -> str:
    """Capitalised words inside sentences, mostly names of people, places and shops, replaced by other names."""
    swapped: dict[str, str] = {}
    return _MIDDLE_NAME.sub(lambda m: swapped.setdefault(m[0], draw.choice(NAMES)), record.text)


def main() -> int:
    """Build the sets, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("records", type=Path, nargs="+", help="records that the model was not trained on")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    taxonomy = load_taxonomy()
    model = bundle_model(args.bundle, cleaned=True)
    records = read_records(args.records, taxonomy).records
    probabilities = model([record.text for record in records])
    before = any_violation(probabilities)
    violating = np.array([bool(record.labels) for record in records])
    limit = alarm_limit(probabilities[~violating])
    sets: list[tuple[str, bool, Change]] = [
        ("compliant, denials removed", False, without_denials),
        ("compliant, a denial added", False, with_denial(taxonomy)),
        ("compliant, names replaced", False, with_other_names),
        ("violating, denials removed", True, without_denials),
        ("violating, a denial of its policy added", True, with_denial(taxonomy)),
        ("violating, names replaced", True, with_other_names),
    ]
    print(
        "| set | changed | above the limit before | after | mean change of probability |\n|---|---|---|---|---|"
    )
    for title, wanted, change in sets:
        rows = np.flatnonzero(violating == wanted)
        print(_row(title, rows, [records[row] for row in rows], change, before, limit, model, seed=args.seed))
    return 0


def _row(
    title: str,
    rows: np.ndarray,
    records: Sequence[Record],
    change: Change,
    before: np.ndarray,
    limit: float,
    model: Callable[[Sequence[str]], np.ndarray],
    *,
    seed: int,
) -> str:
    texts = [change(record, random.Random(f"{seed} {record.id}")) for record in records]
    changed = [place for place, record in enumerate(records) if texts[place] != record.text]
    after = any_violation(model([texts[place] for place in changed]))
    earlier = before[rows[changed]]
    return (
        f"| {title} | {len(changed)} of {len(records)} | {(earlier > limit).mean():.1%} | {(after > limit).mean():.1%} "
        f"| {(after - earlier).mean():+.3f} |"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
