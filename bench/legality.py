"""Legal against illegal pages, compared with the figures that the authors of the data published.

    python bench/legality.py --data BENCHMARKS/darknet_legality_acl2019 --models tfidf,embedding,ours --seeds 0,1,2

Paragraphs of eBay pages, of legal and of illegal onion drug pages, with the published splits (Choshen et al., ACL 2019).
Each task has two classes; a model scores both as if they were policies, and the higher score counts. All choices are
made on the validation file; the test file is used once per model and seed. The authors' naive Bayes row is left out: their
code fits it on the batches that it then predicts.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from baselines import Classifier, Job, embedding, run_alone, tfidf
from benchmark_data import read_rows
from guard import guarded

from merchantguard.core.errors import RecordError
from merchantguard.core.files import write_json
from merchantguard.data.records.record import Record, parse_record
from merchantguard.data.taxonomy import Policy, Taxonomy

EBAY = Policy("ebay", "Goods on eBay", "restricted", "an eBay seller's page about drug-related goods", "")
LEGAL = Policy(
    "onion_drugs_legal", "Legal onion page", "restricted", "a hidden site that sells nothing illegal", ""
)
ILLEGAL = Policy(
    "onion_drugs_illegal", "Illegal drugs", "prohibited", "a hidden site that sells illegal drugs", ""
)
PUBLISHED = {
    "eBay against legal onion drugs": {"SVM": 63.8, "seq2vec": 73.3, "BoE average": 75.0, "attention": 82.8},
    "legal against illegal onion drugs": {
        "SVM": 63.8,
        "seq2vec": 56.9,
        "BoE average": 57.8,
        "attention": 64.7,
    },
}
TASKS = dict(zip(PUBLISHED, ((EBAY, LEGAL), (LEGAL, ILLEGAL)), strict=True))
# Every paragraph is of one class or the other: no gate, no rare positives, no quotes.
SETTINGS = ("model.gate=false", "loss.positive_weight=1", "data.quotes=false", "data.compliant_passages=0")


@dataclass(frozen=True, slots=True)
class Paragraphs:
    """The three files of one task."""

    train: list[Record]
    validation: list[Record]
    test: list[Record]


def load_task(folder: Path, taxonomy: Taxonomy) -> Paragraphs:
    """The paragraphs of the taxonomy's classes.

    :raises RecordError: if the folder or a file is missing.
    """
    return Paragraphs(
        *(_read(folder / f"{name}.jsonl.gz", taxonomy) for name in ("train", "validation", "test"))
    )


def _read(path: Path, taxonomy: Taxonomy) -> list[Record]:
    rows = [row for row in read_rows(path) if row["true_label"] in taxonomy]
    if not rows:
        raise RecordError(f"{path}: has no paragraph of {' or '.join(taxonomy.ids)}")
    return [
        parse_record(
            {"id": row["id"], "text": row["text"], "labels": [row["true_label"]]}, taxonomy, row_number=number
        )
        for number, row in enumerate(rows, start=1)
    ]


def accuracy(logits: np.ndarray, records: Sequence[Record], taxonomy: Taxonomy) -> float:
    """Share of records, in per cent, whose own class has the highest of the logits (N, K)."""
    truth = np.array([taxonomy.index(record.labels[0]) for record in records])
    return 100.0 * float((logits.argmax(axis=1) == truth).mean())


def build(name: str, seed: int, overrides: Sequence[str]) -> Callable[[], Classifier]:
    """A function that builds the model of that name in its own process."""
    simple: dict[str, Callable[[], Classifier]] = {"tfidf": tfidf, "embedding": embedding}
    if name in simple:
        return simple[name]
    from package_model import train_ours

    return partial(train_ours, seed=seed, full=name == "full", overrides=(*SETTINGS, *overrides))


def measure(
    folder: Path, models: Sequence[str], *, seeds: Sequence[int], overrides: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Task -> model -> test accuracies in per cent, one for each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for task, classes in TASKS.items():
        taxonomy = Taxonomy(version=1, policies=classes)
        data = load_task(folder, taxonomy)
        found[task] = {}
        for name in models:
            for seed in seeds if name in ("ours", "full") else seeds[:1]:
                print(f"{task}: {name}, seed {seed}", file=sys.stderr, flush=True)
                job = Job(
                    build(name, seed, overrides), taxonomy, data.train, data.validation, {"test": data.test}
                )
                logits = run_alone(job).logits["test"]
                found[task].setdefault(name, []).append(accuracy(logits, data.test, taxonomy))
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: published figures, then measured ones."""
    lines = ["| model | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for name in next(iter(PUBLISHED.values())):
        lines.append(
            f"| {name} (published) | " + " | ".join(f"{PUBLISHED[task][name]:.1f}" for task in found) + " |"
        )
    for name in next(iter(found.values())):
        cells = [" ± ".join(f"{figure:.1f}" for figure in _spread(found[task][name])) for task in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> list[float]:
    return [float(np.mean(values)), *([float(np.std(values, ddof=1))] if len(values) > 1 else [])]


def main() -> int:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder darknet_legality_acl2019")
    parser.add_argument("--models", default="tfidf,embedding,ours", help="of tfidf, embedding, ours, full")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds of ours and full")
    parser.add_argument("--set", action="append", default=[], metavar="GROUP.KEY=VALUE")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    found = measure(args.data, args.models.split(","), seeds=seeds, overrides=args.set)
    if args.out:
        write_json(args.out, found)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
