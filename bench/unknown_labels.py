"""Missing labels: unlabelled cells that are masked, compared with unlabelled cells taken for compliant.

    python bench/unknown_labels.py --validation MERCHANTS --models tfidf,ours --seeds 0,1,2 --set optim.epochs=3

A share of the training labels is hidden at random. The cell is either marked unknown, and masked in training, or counts
as compliant, as in a table without "unknown". Macro average precision on out-of-distribution merchants and on the
corpus's test split, mean over seeds; each seed hides different labels.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from baselines import Job, run_alone, tfidf
from guard import guarded
from quality_data import QualityData, load_corpus_data

from merchantguard.core.files import write_json
from merchantguard.data.records.record import Record, label_matrix
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy
from merchantguard.train.evaluation.metrics import macro_average_precision

SHARES = (0.1, 0.3)
WAYS = ("unknown", "negative")


def hide(records: Sequence[Record], share: float, *, masked: bool, seed: int) -> list[Record]:
    """The records with about `share` of their labels hidden: marked unknown, or removed.

    The quotes of a hidden label are removed too.
    """
    draw = random.Random(seed)
    result = []
    for record in records:
        gone = tuple(policy for policy in record.labels if draw.random() < share)
        result.append(
            replace(
                record,
                labels=tuple(policy for policy in record.labels if policy not in gone),
                unknown=(*record.unknown, *gone) if masked else record.unknown,
                evidence={policy: quotes for policy, quotes in record.evidence.items() if policy not in gone},
            )
        )
    return result


def measure(
    data: QualityData, taxonomy: Taxonomy, name: str, *, seed: int, overrides: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Condition -> test set -> macro average precision of one model and seed."""
    tests = {key: test.records for key, test in data.tests.items() if test.kind is None}
    conditions = {"all labels": data.train} | {
        f"{share:.0%} hidden, {way}": hide(data.train, share, masked=way == "unknown", seed=seed)
        for share in SHARES
        for way in WAYS
    }
    found = {}
    for condition, train in conditions.items():
        print(f"{name}, seed {seed}: {condition}", file=sys.stderr, flush=True)
        build = tfidf
        if name == "ours":
            from package_model import train_ours

            build = partial(train_ours, seed=seed, overrides=tuple(overrides))
        outcome = run_alone(Job(build, taxonomy, train, data.validation, tests))
        found[condition] = {
            key: macro_average_precision(outcome.logits[key], label_matrix(records, taxonomy))
            for key, records in tests.items()
        }
    return found


def main() -> int:
    """Train under every condition, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--validation", type=Path, required=True, help="folder of JSONL files to test on")
    parser.add_argument("--models", default="tfidf,ours")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    taxonomy = load_taxonomy()
    data = load_corpus_data(taxonomy, merchants=args.validation)
    everything: dict[str, list[dict[str, dict[str, float]]]] = {}
    for name in args.models.split(","):
        everything[name] = [
            measure(data, taxonomy, name, seed=int(seed), overrides=args.set)
            for seed in args.seeds.split(",")
        ]
        if args.out:
            write_json(args.out, everything)
    print("| model | condition | out of distribution | corpus test split |\n|---|---|---|---|")
    for name, seeds in everything.items():
        for condition in seeds[0]:
            cells = []
            for key in (args.validation.name, "corpus test"):
                values = [each[condition][key] for each in seeds]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}")
            print(f"| {name} | {condition} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
