"""Quality on real text: our model beside simple ones, trained on the same records and tested on the same sets.

    python bench/quality.py --data BENCHMARKS --validation MERCHANTS --models ours,full,tfidf,embedding --seeds 0,1,2

Every model runs in a process of its own. Logits are calibrated and thresholds chosen on one calibration split for all
of them, with the package's own functions. Intervals are 95 % by drawing whole groups (vendor, brand, domain) with
replacement; a difference is paired, on the same draws. Market sets hold no compliant row: there, average precision
says only how well policies are told apart.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from baselines import Classifier, Job, Outcome, embedding, run_alone, tfidf
from numpy.typing import NDArray
from package_model import train_ours
from quality_data import QualityData, TestSet, is_near_miss, load_quality_data

from merchantguard.data.errors import MerchantGuardError
from merchantguard.data.files import write_json
from merchantguard.data.policy import Taxonomy, load_taxonomy
from merchantguard.data.record import Record, label_arrays
from merchantguard.train.calibration import fit_calibration
from merchantguard.train.metrics import (
    Interval,
    any_violation_auroc,
    cluster_bootstrap,
    decide,
    false_alarm_rate,
    macro_average_precision,
    paired,
)
from merchantguard.train.thresholds import fit_thresholds

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "tfidf"
FEWEST_POSITIVES = 3
MODELS: dict[str, Callable[[int], Callable[[], Classifier]]] = {
    "ours": lambda seed: partial(train_ours, seed=seed),
    "full": lambda seed: partial(train_ours, seed=seed, full=True),
    "tfidf": lambda seed: tfidf,
    "embedding": lambda seed: embedding,
}
SEEDED = ("ours", "full")
Rows = NDArray[np.int64]
Statistic = Callable[[Rows], float]


class Judge:
    """Measures one test set: `probabilities` and `review` of a model are lists with one entry per seed."""

    def __init__(self, test: TestSet, taxonomy: Taxonomy, *, samples: int) -> None:
        self.labels, self.known = label_arrays(test.records, taxonomy)
        self.clusters = [record.domain or record.id for record in test.records]
        self.samples = samples
        self.compliant = np.array([not record.labels for record in test.records])
        self.near = self.compliant & np.array([is_near_miss(record) for record in test.records])
        self.ranked = self._cells_to_rank(test)
        self.policies = [policy for k, policy in enumerate(taxonomy.ids) if self.ranked[:, k].any()]

    def _cells_to_rank(self, test: TestSet) -> NDArray[np.bool_]:
        """Known cells of the policies that are present often enough; of one kind only, where the set says so."""
        cells = self.known.copy()
        least = FEWEST_POSITIVES
        if test.kind is not None:
            other = np.array([record.extra.get("kind") != test.kind for record in test.records])
            cells &= ~(other[:, None] & (self.labels == 1))
            least = 1
        positives = ((self.labels == 1) & cells).sum(axis=0)
        cells[:, positives < least] = False
        return cells

    def interval(self, statistic: Statistic) -> dict[str, float] | None:
        """Point, low and high of a statistic of rows; None where it has no meaning in this set."""
        if not np.isfinite(statistic(np.arange(len(self.labels)))):
            return None
        found: Interval = cluster_bootstrap(statistic, self.clusters, samples=self.samples, seed=0)
        return {"point": found.point, "low": found.low, "high": found.high}

    def ranking(self, probabilities: Sequence[NDArray[np.float32]]) -> Statistic:
        """Macro average precision over the policies present, averaged over seeds."""

        def statistic(rows: Rows) -> float:
            cells = (self.labels[rows], self.ranked[rows])
            return float(np.mean([macro_average_precision(each[rows], *cells) for each in probabilities]))

        return statistic

    def any_violation(self, probabilities: Sequence[NDArray[np.float32]]) -> Statistic:
        """Any-violation AUROC. Every cell counts as heard: with only known ones a row of a market would be scored
        on five policies and a compliant row on all, which favours nobody honestly."""

        def statistic(rows: Rows) -> float:
            everything = np.ones_like(self.known[rows])
            return float(
                np.mean([any_violation_auroc(p[rows], self.labels[rows], everything) for p in probabilities])
            )

        return statistic

    def false_alarms(
        self,
        probabilities: Sequence[NDArray[np.float32]],
        reviews: Sequence[NDArray[np.float64]],
        *,
        near: bool,
    ) -> Statistic:
        """Share of compliant (or near-miss) rows with any policy at or over its review threshold."""
        kept = self.near if near else self.compliant

        def statistic(rows: Rows) -> float:
            rows = rows[kept[rows]]
            cells = (self.labels[rows], self.known[rows])
            pairs = zip(probabilities, reviews, strict=True)
            return float(np.mean([false_alarm_rate(p[rows], *cells, review) for p, review in pairs]))

        return statistic

    def found(
        self, probabilities: Sequence[NDArray[np.float32]], reviews: Sequence[NDArray[np.float64]]
    ) -> Statistic:
        """Share of the violations that reach their policy's review threshold."""

        def statistic(rows: Rows) -> float:
            shares = []
            for each, review in zip(probabilities, reviews, strict=True):
                counts = decide(each[rows], self.labels[rows], self.known[rows], review)
                total = int(counts.positives.sum())
                shares.append(int(counts.found.sum()) / total if total else float("nan"))
            return float(np.mean(shares))

        return statistic


def judge_set(
    test: TestSet, taxonomy: Taxonomy, scored: Mapping[str, tuple[list[Any], list[Any]]], *, samples: int
) -> dict[str, Any]:
    """All figures of one test set; `scored` is model -> (probabilities per seed, review thresholds per seed)."""
    judge = Judge(test, taxonomy, samples=samples)
    models: dict[str, Any] = {}
    for name, (probabilities, reviews) in scored.items():
        ranking = judge.ranking(probabilities)
        figures: dict[str, Any] = {"macro_ap": judge.interval(ranking)}
        if name != REFERENCE and REFERENCE in scored:
            figures[f"minus_{REFERENCE}"] = judge.interval(
                paired(ranking, judge.ranking(scored[REFERENCE][0]))
            )
        if test.kind is None:
            alarms = partial(judge.false_alarms, probabilities, reviews)
            figures["any_violation_auroc"] = judge.interval(judge.any_violation(probabilities))
            figures["found_at_review"] = judge.interval(judge.found(probabilities, reviews))
            figures["false_alarms"] = judge.interval(alarms(near=False))
            figures["false_alarms_near_misses"] = judge.interval(alarms(near=True))
        models[name] = figures
    return {
        "records": len(test.records),
        "groups": len(set(judge.clusters)),
        "compliant": int(judge.compliant.sum()),
        "near_misses": int(judge.near.sum()),
        "distribution": test.distribution,
        "policies": judge.policies,
        "models": models,
    }


def calibrated(
    outcome: Outcome, calibration: Sequence[Record], taxonomy: Taxonomy
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float64]]:
    """Probabilities per test set, and the review thresholds (K,), both from the calibration split."""
    labels, known = label_arrays(calibration, taxonomy)
    fitted = fit_calibration(outcome.logits["calibration"], labels, known)
    held = fitted.apply(outcome.logits["calibration"])
    thresholds = fit_thresholds(held, labels, known, taxonomy.ids)
    review = np.array([threshold.review for threshold in thresholds])
    return {name: fitted.apply(values) for name, values in outcome.logits.items()}, review


def run(
    data: QualityData, taxonomy: Taxonomy, *, models: Sequence[str], seeds: Sequence[int], samples: int
) -> Any:
    """Train and measure every model; a plain dictionary for JSON."""
    sets = {name: test.records for name, test in data.tests.items() if test.kind is None}
    sets["calibration"] = data.calibration
    costs: dict[str, list[dict[str, Any]]] = {}
    probabilities: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
    reviews: dict[str, list[NDArray[np.float64]]] = {}
    for name in models:
        for seed in seeds if name in SEEDED else seeds[:1]:
            _tell(f"training {name}, seed {seed}, on {len(data.train)} records")
            outcome = run_alone(Job(MODELS[name](seed), taxonomy, data.train, data.validation, sets))
            scores, review = calibrated(outcome, data.calibration, taxonomy)
            probabilities.setdefault(name, []).append(scores)
            reviews.setdefault(name, []).append(review)
            cost = {"fit_seconds": outcome.fit_seconds, "score_seconds": outcome.score_seconds}
            costs.setdefault(name, []).append(
                {"seed": seed, **cost, "peak_mb": outcome.peak_mb, **outcome.notes}
            )
    figures = {}
    for name, test in data.tests.items():
        _tell(f"measuring {name}")
        key = name.partition(": ")[0] if test.kind else name
        scored = {model: ([each[key] for each in probabilities[model]], reviews[model]) for model in models}
        figures[name] = judge_set(test, taxonomy, scored, samples=samples)
    return {"models": costs, "sets": figures}


def markdown(result: Mapping[str, Any]) -> str:
    """The tables for a reader."""
    lines = [
        (
            "| set | records | policies | model | macro AP | against TF-IDF | any-violation AUROC | found at review "
            "| false alarms | on near misses |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in result["sets"].items():
        title = f"{name} ({entry['distribution']})"
        for model, figures in entry["models"].items():
            cells = [
                _shown(figures.get(key))
                for key in (
                    "macro_ap",
                    f"minus_{REFERENCE}",
                    "any_violation_auroc",
                    "found_at_review",
                    "false_alarms",
                    "false_alarms_near_misses",
                )
            ]
            head = [title, str(entry["records"]), str(len(entry["policies"])), model]
            lines.append(f"| {' | '.join(head + cells)} |")
    lines += ["", "| model | seed | training, s | scoring, s | peak memory, MB |", "|---|---|---|---|---|"]
    for model, runs in result["models"].items():
        lines += [
            f"| {model} | {each['seed']} | {each['fit_seconds']:.1f} | {each['score_seconds']:.1f} "
            f"| {each['peak_mb']:.0f} |"
            for each in runs
        ]
    return "\n".join(lines)


def _shown(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['point']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the benchmark folders; without it only the corpus"
    )
    parser.add_argument("--corpus", type=Path, nargs="+", help="corpus files (default: the shipped ones)")
    parser.add_argument("--validation", type=Path, help="folder of JSONL files that are only tested on")
    parser.add_argument("--train", choices=("all", "corpus"), default="all", help="what is trained on")
    parser.add_argument("--models", default="ours,full,tfidf,embedding", help=f"of {','.join(MODELS)}")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds of ours and full")
    parser.add_argument(
        "--limit", type=int, default=6000, help="about how many benchmark records are trained on"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="draws for an interval")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "quality.json")
    arguments = parser.parse_args()
    arguments.models = arguments.models.split(",")
    if unknown := [name for name in arguments.models if name not in MODELS]:
        parser.error(f"--models: {', '.join(unknown)} is not one of {', '.join(MODELS)}")
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    arguments.corpus = arguments.corpus or sorted((ROOT / "data" / "corpus").glob("*.jsonl"))
    return arguments


def main() -> int:
    """Read the arguments, run, print the tables and write the JSON."""
    arguments = _arguments()
    taxonomy = load_taxonomy()
    try:
        data = load_quality_data(
            taxonomy,
            corpus=arguments.corpus,
            benchmarks=arguments.data,
            merchants=arguments.validation,
            train_on_real=arguments.train == "all",
            limit=arguments.limit,
            split_seed=0,
            tell=_tell,
        )
    except MerchantGuardError as error:
        _tell(f"quality: {error}")
        return 1
    result = run(data, taxonomy, models=arguments.models, seeds=arguments.seeds, samples=arguments.bootstrap)
    sizes = {name: len(getattr(data, name)) for name in ("train", "validation", "calibration")}
    threads = os.environ.get("OMP_NUM_THREADS")
    settings = {"train": arguments.train, "limit": arguments.limit, "bootstrap": arguments.bootstrap}
    write_json(arguments.out, {"settings": {**settings, "threads": threads, **sizes}, **result})
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
