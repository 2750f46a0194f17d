"""Quality on real text: our model and simple ones, trained on the same records and tested on the same sets.

    python bench/quality.py --data BENCHMARKS --validation MERCHANTS --seeds 0,1,2

Every model runs in its own process. Logits are calibrated and thresholds chosen on one calibration split for all of
them, with the package's own functions. Intervals are 95 % of a bootstrap over groups (vendor, brand, domain);
differences are paired, on the same draws. Market sets hold no compliant row: there average precision only measures how
well policies are distinguished.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from baselines import Classifier, Job, embedding, run_alone, tfidf, tfidf_phrases, tfidf_quotes
from numpy.typing import NDArray
from quality_data import QualityData, load_quality_data
from quality_figures import REFERENCE, Review, calibrated, measure_set

from merchantguard.core.errors import MerchantGuardError
from merchantguard.core.files import write_json
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy

ROOT = Path(__file__).resolve().parents[1]
LINEAR = {
    "tfidf": tfidf,
    "tfidf_quotes": tfidf_quotes,
    "tfidf_phrases": tfidf_phrases,
    "embedding": embedding,
}
MODELS = ("ours", "full", *LINEAR)
SEEDED = ("ours", "full")


def builder(name: str, *, seed: int, overrides: Sequence[str]) -> Callable[[], Classifier]:
    """A function that builds the model; it runs in the model's own process."""
    if name in SEEDED:
        # Imported here: every child imports this file, and torch would count in the memory of models that do not use it.
        from package_model import train_ours

        return partial(train_ours, seed=seed, full=name == "full", overrides=tuple(overrides))
    return LINEAR[name]


def run(
    data: QualityData,
    taxonomy: Taxonomy,
    *,
    models: Sequence[str],
    seeds: Sequence[int],
    overrides: Sequence[str],
    samples: int,
) -> Any:
    """Train and measure every model; a plain dictionary for JSON."""
    sets = {name: test.records for name, test in data.tests.items() if test.kind is None}
    sets["calibration"] = data.calibration
    costs: dict[str, list[dict[str, Any]]] = {}
    probabilities: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
    reviews: dict[str, list[Review]] = {}
    for name in models:
        for seed in seeds if name in SEEDED else seeds[:1]:
            build = builder(name, seed=seed, overrides=overrides)
            _print_progress(f"training {name}, seed {seed}, on {len(data.train)} records")
            outcome = run_alone(Job(build, taxonomy, data.train, data.validation, sets))
            scores, review = calibrated(outcome, data.calibration, taxonomy)
            probabilities.setdefault(name, []).append(scores)
            reviews.setdefault(name, []).append(review)
            cost = {"fit_seconds": outcome.fit_seconds, "score_seconds": outcome.score_seconds}
            costs.setdefault(name, []).append(
                {"seed": seed, **cost, "peak_mb": outcome.peak_mb, **outcome.notes}
            )
    figures = {}
    for name, test in data.tests.items():
        _print_progress(f"measuring {name}")
        key = name.partition(": ")[0] if test.kind else name
        scored = {model: ([each[key] for each in probabilities[model]], reviews[model]) for model in models}
        figures[name] = measure_set(test, taxonomy, scored, samples=samples)
    return {"models": costs, "sets": figures}


def markdown(result: Mapping[str, Any]) -> str:
    """The tables in Markdown."""
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
                _format(figures.get(key))
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


def _format(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['point']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _print_progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder of the benchmark folders; without it only the corpus"
    )
    parser.add_argument("--corpus", type=Path, nargs="+", help="corpus files (default: the shipped ones)")
    parser.add_argument("--validation", type=Path, help="folder of JSONL files used only for testing")
    parser.add_argument("--train", choices=("all", "corpus"), default="all", help="records to train on")
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {','.join(MODELS)}")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds of ours and full")
    parser.add_argument(
        "--set", action="append", default=[], metavar="GROUP.KEY=VALUE", help="setting of ours and full"
    )
    parser.add_argument(
        "--limit", type=int, default=6000, help="approximate number of benchmark records to train on"
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
            tell=_print_progress,
        )
    except MerchantGuardError as error:
        _print_progress(f"quality: {error}")
        return 1
    result = run(
        data,
        taxonomy,
        models=arguments.models,
        seeds=arguments.seeds,
        overrides=arguments.set,
        samples=arguments.bootstrap,
    )
    sizes = {name: len(getattr(data, name)) for name in ("train", "validation", "calibration")}
    threads = os.environ.get("OMP_NUM_THREADS")
    settings = {
        "train": arguments.train,
        "limit": arguments.limit,
        "bootstrap": arguments.bootstrap,
        "set": arguments.set,
    }
    write_json(arguments.out, {"settings": {**settings, "threads": threads, **sizes}, **result})
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
