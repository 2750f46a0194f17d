"""Rankers of label errors side by side, on the same out-of-fold probabilities, for real and artificial errors.

cd bench && python -m audit.compare --data BENCHMARKS
cd bench && python -m audit.compare --sections corpus annotators --seeds 5
cd bench && python -m audit.compare --sections speed
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from guard import guarded
from sklearn.metrics import average_precision_score

from merchantguard.audit.ranking.neighbours import nearest

from .cases import NOISES, Case, confusable, load_corpus, load_single, plant, with_annotators
from .downstream import downstream, recovery
from .duplicates import duplicates_recall
from .linear_model import Inputs, inputs_of, out_of_fold
from .rankers import RANKERS, RankedCase, verified
from .speed import speed

REAL = {
    "noisyag": ("noisyag_news/train.jsonl.gz", "noisyag_news/test.jsonl.gz"),
    "disaster": ("disaster_tweets_audited/train.jsonl.gz",),
    "african": ("african_news_noisy/hausa_train.jsonl.gz", "african_news_noisy/yoruba_train.jsonl.gz"),
}
SECTIONS = (*REAL, "corpus", "annotators", "duplicates", "recovery", "downstream", "speed")
Figures = dict[str, list[dict[str, float]]]


def main(args: argparse.Namespace) -> int:
    """Print the tables of the sections asked for."""
    for section in args.sections:
        if section in REAL:
            for name in REAL[section]:
                real(args.data, name, seeds=args.seeds, cache=args.cache)
        else:
            print(f"\n## {section}\n", flush=True)
            RUN[section](args)
    return 0


def real(data: Path | None, name: str, *, seeds: int, cache: Path | None) -> None:
    """One file of real errors; the seeds differ in the folds."""
    path = data / name if data is not None else None
    if path is None or not path.is_file():
        print(f"{name}: left out, --data {data} does not hold it")
        return
    case = load_single(path, name)
    wrong, verified_rows = int(case.wrong.any(axis=1).sum()), int(case.verified.sum())
    print(f"\n## {name}: {wrong} of {verified_rows} verified rows wrong\n", flush=True)
    inputs = inputs_of(case, cache)
    figures: Figures = defaultdict(list)
    for seed in range(seeds):
        add_figures(figures, ranked_case(case, inputs, seed=seed))
    print_table(figures)


def ranked_case(case: Case, inputs: Inputs, *, seed: int) -> RankedCase:
    """A case with out-of-fold probabilities and neighbours."""
    near = nearest(inputs.neighbour_vectors, case.groups)
    return RankedCase(case, out_of_fold(case, inputs.features, seed=seed), near, seed)


def add_figures(figures: Figures, ranked: RankedCase) -> None:
    """Average precision, and precision among the first hundred and as many as are wrong, of every ranker."""
    for name, ranker in RANKERS.items():
        truth, scores = verified(ranked, ranker(ranked))
        order = np.argsort(-scores, kind="stable")
        figures[name].append(
            {
                "AP": float(average_precision_score(truth, scores)),
                "P@100": float(truth[order[:100]].mean()),
                "P@wrong": float(truth[order[: int(truth.sum())]].mean()),
            }
        )


def print_table(figures: Figures) -> None:
    """Means over seeds, with the standard deviation of the average precision."""
    columns = list(next(iter(figures.values()))[0])
    print(f"| ranker | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, rows in figures.items():
        cells = [f"{np.mean([row[column] for row in rows]):.3f}" for column in columns]
        cells[0] += f" ± {np.std([row[columns[0]] for row in rows]):.3f}"
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def corpus(args: argparse.Namespace) -> None:
    """Artificial errors of every kind and rate: average precision over cells."""
    case = load_corpus()
    inputs = inputs_of(case, args.cache)
    partners = confusable(case.truth, inputs.vectors)
    print(
        f"| noise | wrong cells | {' | '.join(RANKERS)} | expected / wrong |\n|---|---|{'---|' * (len(RANKERS) + 1)}"
    )
    for noise in NOISES:
        for rate in (0.1, 0.2):
            figures: Figures = defaultdict(list)
            wrong, sums = [], []
            for seed in range(args.seeds):
                ranked = ranked_case(plant(case, noise, rate, partners, seed=seed), inputs, seed=seed)
                add_figures(figures, ranked)
                wrong.append(ranked.case.wrong.sum())
                sums.append(ranked.ranking().p_label_error.sum() / wrong[-1])
            cells = [f"{np.mean([row['AP'] for row in figures[name]]):.3f}" for name in RANKERS]
            print(
                f"| {noise} {rate:.0%} | {np.mean(wrong):.0f} | {' | '.join(cells)} | {np.mean(sums):.2f} |",
                flush=True,
            )


def annotators(args: argparse.Namespace) -> None:
    """Twelve annotators, three of them bad: the gain from knowing who labelled what, and whether the three are found."""
    case = load_corpus()
    inputs = inputs_of(case, args.cache)
    partners = confusable(case.truth, inputs.vectors)
    print("| seed | without | with annotators | gain | three highest |\n|---|---|---|---|---|")
    gains = []
    for seed in range(args.seeds):
        ranked = ranked_case(with_annotators(case, partners, seed=seed), inputs, seed=seed)
        blind, informed = ranked.ranking(annotators=False), ranked.ranking()
        scores = [
            float(average_precision_score(*verified(ranked, ranking.p_label_error)))
            for ranking in (blind, informed)
        ]
        gains.append(scores[1] - scores[0])
        highest = np.argsort(-informed.noise.annotator_factors)[:3]
        found = ", ".join(sorted(informed.annotator_names[number] for number in highest))
        print(f"| {seed} | {scores[0]:.3f} | {scores[1]:.3f} | {gains[-1]:+.3f} | {found} |", flush=True)
    print(f"\nmean gain {np.mean(gains):+.3f} (bad: annotator-00, annotator-01, annotator-02)")


RUN: dict[str, Callable[[argparse.Namespace], None]] = {
    "corpus": corpus,
    "annotators": annotators,
    "duplicates": lambda args: duplicates_recall(seeds=args.seeds),
    "recovery": lambda args: recovery(args.cache, seeds=4 * args.seeds),
    "downstream": lambda args: downstream(args.data, args.cache, seeds=args.seeds),
    "speed": lambda args: speed(args.largest),
}


def arguments(values: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the benchmark folders; without it their sections are left out"
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="folder that keeps the encoder's vectors between runs")
    parser.add_argument(
        "--largest", type=int, default=100_000, help="records of the largest run of the speed section"
    )
    return parser.parse_args(values)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(arguments())))
