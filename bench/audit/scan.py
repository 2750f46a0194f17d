"""The rankers of `compare.py` on the probabilities of our own fine-tuned model: a scan of the shipped corpus with planted mistakes.

cd bench && python -m audit.scan plant noisy.jsonl --noise mixed --rate 0.1
label-audit scan noisy.jsonl --out audit
cd bench && python -m audit.scan judge audit --noise mixed --rate 0.1
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from guard import guarded

from merchantguard.audit.ranking.neighbours import nearest, neighbour_vectors
from merchantguard.audit.storage.store import Scan
from merchantguard.core.errors import AuditError
from merchantguard.data.cleaning.text import clean
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import parse_record
from merchantguard.data.records.writers import write_records
from merchantguard.data.shipped import corpus_paths
from merchantguard.train.fitting.out_of_fold import encoder_vectors, out_of_fold
from merchantguard.train.settings import build_settings

from .cases import NOISES, Case, confusable, load_corpus, plant
from .compare import Figures, add_figures, print_table
from .linear_model import OutOfFold, inputs_of
from .rankers import RankedCase


def planted(args: argparse.Namespace) -> Case:
    """The corpus with the mistakes that were asked for, the same at each call."""
    case = load_corpus()
    partners = confusable(case.truth, inputs_of(case, args.cache).vectors)
    return plant(case, args.noise, args.rate, partners, seed=args.seed)


def write_planted(args: argparse.Namespace) -> int:
    """Write the corpus with mistakes; evidence of a label that is lost goes with it."""
    case = planted(args)
    records = read_records(corpus_paths(), None, strict=True).records
    changed = []
    for record, given in zip(records, case.given, strict=True):
        labels = tuple(name for name, has in zip(case.classes, given, strict=True) if has)
        evidence = {name: quotes for name, quotes in record.evidence.items() if name in labels}
        changed.append(replace(record, labels=labels, evidence=evidence))
    write_records(changed, args.file)
    print(f"{args.file}: {int(case.wrong.sum())} wrong cells in {int(case.wrong.any(axis=1).sum())} records")
    return 0


def judge(args: argparse.Namespace) -> int:
    """Print what each ranker makes of the scan's probabilities, and what the scan itself lists first."""
    case, scan = planted(args), Scan(args.audit)
    stored = [parse_record(each.fields, scan.taxonomy, row_number=each.row + 1) for each in scan.records()]
    given = np.array([[name in record.labels for name in case.classes] for record in stored])
    if given.shape != case.given.shape or (given != case.given).any():
        raise AuditError(f"{args.audit}: is not a scan of what `plant` writes for these options")
    settings = build_settings(scan.summary.settings)
    folds = int(scan.summary.folds)
    # Every fold is there: this reads them.
    outputs = out_of_fold(
        stored, scan.taxonomy, settings, args.audit / "folds", folds=folds, on_progress=print
    )
    vectors = encoder_vectors(stored, settings, args.audit / "folds" / "vectors")
    texts = [clean(text).text for text in case.texts]
    near = nearest(neighbour_vectors(texts, vectors), case.groups)
    # A cell that no fold trained on has no margin; the mean says nothing of it.
    margins = np.where(np.isfinite(outputs.margins), outputs.margins, np.nanmean(outputs.margins))
    figures: Figures = defaultdict(list)
    ranked = RankedCase(case, OutOfFold(outputs.probabilities, margins, outputs.folds), near, args.seed)
    add_figures(figures, ranked)
    print_table(figures)
    wrong = {(stored[row].id, case.classes[column]) for row, column in np.argwhere(case.wrong).tolist()}
    listed = [item for _, item in scan.items() if item.cause not in ("control", "gold")]
    for first in (50, 100, 200, 400):
        hits = sum((item.record, item.policy) in wrong for item in listed[:first])
        print(
            f"of the scan's first {first} items {hits} are wrong; {hits / len(wrong):.1%} of all {len(wrong)}"
        )
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run, place in (("plant", write_planted, "file"), ("judge", judge, "audit")):
        command = commands.add_parser(name)
        command.add_argument(place, type=Path)
        command.add_argument("--noise", choices=sorted(NOISES), default="mixed")
        command.add_argument("--rate", type=float, default=0.1, help="share of the records with a mistake")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--cache", type=Path, help="folder that keeps the encoder's vectors")
        command.set_defaults(run=run)
    return parser.parse_args()


if __name__ == "__main__":
    ARGUMENTS = arguments()
    sys.exit(guarded(lambda: ARGUMENTS.run(ARGUMENTS)))
