"""What a cascade clears, loses and saves: on every set, and on a stream with few violations.

    python -m serving.cascade BUNDLE --data BENCHMARKS --validation MERCHANTS --splits RUN/splits.json --losses 0.02,0.05,0.1

For each certified loss: the share of compliant texts that the first stage clears, the share of violating ones that it
loses, and how much faster the scorer is over the set with the cascade on, in one run, as a ratio. A loss that the
bundle's calibration split is too small to certify is raised to the smallest one that it certifies. "Stream" consists of
the compliant texts of all sets, in their proportions, and of as many violating ones as make 2 %.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_data import load_benchmarks, load_sources
from guard import guarded
from run_splits import of_splits

from merchantguard.core.errors import RecordError
from merchantguard.core.files import write_json
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.data.shipped import corpus_paths
from merchantguard.data.taxonomy import Taxonomy, load_taxonomy
from merchantguard.serve import EvidenceOptions, Scorer
from merchantguard.serve.bundle_reader import read_bundle
from merchantguard.serve.cascade import Cascade, least_loss
from merchantguard.serve.preprocess import encode_texts

from .evidence_cost import pass_seconds

STREAM_VIOLATIONS = 0.02
NO_EVIDENCE = EvidenceOptions(spans=0)


def load_sets(args: argparse.Namespace, taxonomy: Taxonomy) -> dict[str, list[Record]]:
    """The corpus's test split, out-of-distribution merchants, and the test files of the benchmarks.

    :raises RecordError: if a file has a bad row.
    """
    sets: dict[str, list[Record]] = {}
    if args.splits:
        corpus = read_records(corpus_paths(), taxonomy, strict=True).records
        sets["corpus test split"] = of_splits(corpus, args.splits)
    if args.validation:
        files = sorted(args.validation.glob("*.jsonl"))
        sets["out of distribution"] = read_records(files, taxonomy, strict=True).records
    if args.data:
        sources = load_sources(taxonomy).values()
        sets |= load_benchmarks(args.data, "test", taxonomy, sources=sources, on_missing=print)
    if not any(sets.values()):
        raise RecordError("no records: give --splits, --validation or --data")
    chance = random.Random(0)
    return {name: chance.sample(rows, min(args.most, len(rows))) for name, rows in sets.items() if rows}


def stream(sets: dict[str, list[Record]], *, size: int) -> list[Record]:
    """Texts of all sets together, 2 % of them violating."""
    chance = random.Random(0)
    records = [record for rows in sets.values() for record in rows]
    compliant = [record for record in records if not record.labels]
    violating = [record for record in records if record.labels]
    count = round(size * STREAM_VIOLATIONS)
    kept = chance.sample(compliant, min(size - count, len(compliant)))
    made = kept + chance.sample(violating, min(count, len(violating)))
    chance.shuffle(made)
    return made


def outcome(cascade: Cascade, scorer: Scorer, records: Sequence[Record]) -> dict[str, float | None]:
    """Shares of the compliant and of the violating records that the first stage clears."""
    cleared = np.array(cascade.clears(encode_texts([record.text for record in records], scorer.tokenizer)))
    violating = np.array([bool(record.labels) for record in records])
    return {
        "records": len(records),
        "cleared": float(cleared[~violating].mean()) if (~violating).any() else None,
        "lost": float(cleared[violating].mean()) if violating.any() else None,
    }


def speed(scorers: Sequence[Scorer], records: Sequence[Record], *, repeats: int) -> list[tuple[float, float]]:
    """Texts per second, and per second of processor time, of each scorer: medians of passes that take turns."""
    texts = [record.text for record in records]
    seconds: list[list[tuple[float, float]]] = [[] for _ in scorers]
    for _ in range(repeats):
        for scorer, each in zip(scorers, seconds, strict=True):
            each.append(pass_seconds(scorer, texts))
    wall, used = ([len(texts) / statistics.median(p[k] for p in each) for each in seconds] for k in (0, 1))
    return list(zip(wall, used, strict=True))


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each loss and set, the stream last."""
    sets = load_sets(args, load_taxonomy())
    streamed = stream(sets, size=args.stream)
    stage = read_bundle(args.bundle).cascade
    least = 1.0 if stage is None else least_loss(len(stage.violating_scores), stage.confidence)
    full = Scorer.load(args.bundle, evidence=NO_EVIDENCE, variant=args.variant)
    rows = []
    for loss in sorted({max(loss, least + 1e-6) for loss in args.losses}):
        scorer = Scorer.load(args.bundle, evidence=NO_EVIDENCE, variant=args.variant, cascade=loss)
        assert scorer.cascade is not None
        for name, records in {**sets, "stream, 2 % violating": streamed}.items():
            row: dict[str, Any] = {"loss": loss, "set": name, **outcome(scorer.cascade, scorer, records)}
            if records is streamed:
                before, after = speed([full, scorer], records, repeats=args.repeats)
                row |= {"texts_per_second": before[0], "with_cascade": after[0]}
                row |= {"ratio": after[0] / before[0], "processor_ratio": after[1] / before[1]}
            rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| certified loss | set | records | compliant cleared | violating lost | times as fast (by processor time) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = ["-" if row[key] is None else f"{row[key]:.1%}" for key in ("cleared", "lost")]
        ratio = f"{row['ratio']:.2f} ({row['processor_ratio']:.2f})" if "ratio" in row else ""
        lines.append(
            f"| {row['loss']:.1%} | {row['set']} | {row['records']} | {' | '.join(shares)} | {ratio} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the benchmark folders")
    parser.add_argument(
        "--validation", type=Path, help="folder of JSONL files of out-of-distribution merchants"
    )
    parser.add_argument("--splits", type=Path, help="splits.json of the run, for the corpus's test split")
    parser.add_argument("--losses", default="0.02,0.05,0.1", help="certified losses (0.02,0.05,0.1)")
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--most", type=int, default=500, help="most records of a set (500)")
    parser.add_argument("--stream", type=int, default=300, help="texts of the stream (300)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    args.losses = [float(loss) for loss in args.losses.split(",")]
    rows = measure(args)
    if args.out:
        write_json(args.out, rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
