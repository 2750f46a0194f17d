"""How soon a reviewer meets planted flips: 300 records of the shipped corpus, 20 of them with a flip, scanned with --quick.

cd bench && python -m audit.early --seeds 5
cd bench && python -m audit.early --seeds 5 --no-phrasebook
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from guard import guarded
from numpy.typing import NDArray

from merchantguard.audit.cli.options import training_settings
from merchantguard.audit.ranking.model_outputs import ModelOutputs
from merchantguard.audit.sampling.scan import scan_records
from merchantguard.core.progress import progress
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.taxonomy import load_taxonomy
from merchantguard.train.fitting.linear_out_of_fold import linear_out_of_fold

from .cases import NOISES, Bools, Case, confusable, load_corpus
from .linear_model import inputs_of

FIRST = (20, 40, 60, 76, 100)


def planted(
    case: Case, partners: NDArray[np.int64], *, records: int, flips: int, seed: int
) -> tuple[NDArray[np.int64], Bools, dict[int, str]]:
    """Rows drawn from the corpus, their labels with flips, and the kind of flip by row."""
    draw = np.random.default_rng([seed, 22])
    rows = np.sort(draw.choice(len(case.truth), records, replace=False))
    given = case.truth.copy()
    labelled = [row for row in rows.tolist() if given[row].any()]
    kinds = {}
    # Of three flips one is a label removed, one a label swapped and one any label given, as in the corpus section of `compare`.
    for number, row in enumerate(draw.permutation(labelled)[:flips].tolist()):
        kind = ("missing", "pair", "uniform")[number % 3]
        NOISES[kind](given[row], draw, partners)
        kinds[row] = kind
    return rows, given, kinds


def main(args: argparse.Namespace) -> int:
    """Print for each seed how many flips are among the first items, and the means."""
    case = load_corpus()
    partners = confusable(case.truth, inputs_of(case, args.cache).vectors)
    corpus = read_records(corpus_paths(), load_taxonomy(), strict=True).records
    overrides = ["data.phrasebook=[]"] if args.no_phrasebook else []
    settings = training_settings(None, overrides)
    print(f"| seed | seconds | {' | '.join(f'first {n}' for n in FIRST)} | kinds not in the first 60 |")
    print(f"|---|---|{'---|' * (len(FIRST) + 1)}")
    totals = []
    with progress("seeds", total=args.seeds) as update:
        for seed in range(args.seeds):
            rows, given, kinds = planted(case, partners, records=args.records, flips=args.flips, seed=seed)
            changed = [_relabelled(corpus[row], case, given[row]) for row in rows.tolist()]
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                outputs, vectors = linear_out_of_fold(
                    changed, load_taxonomy(), settings.model_copy(update={"seed": seed}), Path(folder) / "v"
                )
            model = ModelOutputs(outputs.probabilities, outputs.margins, vectors)
            result = scan_records(changed, load_taxonomy(), model, seed=seed)
            seconds = time.monotonic() - began
            wrong = {
                (corpus[row].id, name): row
                for row in kinds
                for name, is_wrong in zip(case.classes, given[row] != case.truth[row], strict=True)
                if is_wrong
            }
            listed = [item for item in result.items if item.cause not in ("control", "gold")]
            found = [{wrong[item.cell] for item in listed[:n] if item.cell in wrong} for n in FIRST]
            missed = sorted(kind for row, kind in kinds.items() if row not in found[FIRST.index(60)])
            totals.append([len(each) for each in found])
            cells = " | ".join(map(str, totals[-1]))
            print(f"| {seed} | {seconds:.0f} | {cells} | {', '.join(missed) or 'none'} |", flush=True)
            update(seed + 1)
    print(f"| mean | | {' | '.join(f'{mean:.1f}' for mean in np.mean(totals, axis=0))} | |")
    return 0


def _relabelled(record: Record, case: Case, given: Bools) -> Record:
    """The record with other labels; evidence of a label that is lost goes with it."""
    labels = tuple(name for name, has in zip(case.classes, given, strict=True) if has)
    evidence = {name: quotes for name, quotes in record.evidence.items() if name in labels}
    return replace(record, labels=labels, evidence=evidence)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--flips", type=int, default=20)
    parser.add_argument("--no-phrasebook", action="store_true", help="learn from the records alone")
    parser.add_argument("--cache", type=Path, help="folder that keeps the encoder's vectors")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(arguments())))
