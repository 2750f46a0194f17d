"""How often the first evidence span of a found violation overlaps a passage that a person quoted for it.

    python -m serving.evidence quickstart/bundle data/corpus/part-0*.jsonl --splits quickstart/run/splits.json
    python -m serving.evidence bundle/ held_out.jsonl --share 0.5

Give records that the bundle's model was not trained on. "Chance" is the share for a passage drawn at random from the
text; passages of a short text overlap a quote easily, so look at the difference between the two.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from guard import guarded
from run_splits import of_splits

from merchantguard.data.passages import split_passages
from merchantguard.data.records.readers import read_records
from merchantguard.data.records.record import Record
from merchantguard.serve import EvidenceOptions, Finding, Scorer

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One found violation: whether its first span, and any span, overlaps a quote, and the share of passages that do."""

    probability: float
    first: bool
    any: bool
    chance: float
    characters: int
    of_text: float
    spans: int


def quote_ranges(text: str, quotes: Sequence[str]) -> list[Range]:
    """Every place where one of the quotes occurs."""
    ranges = []
    for quote in quotes:
        start = text.find(quote)
        while start >= 0:
            ranges.append((start, start + len(quote)))
            start = text.find(quote, start + 1)
    return ranges


def overlaps(span: Range, ranges: Sequence[Range]) -> bool:
    """Whether the span shares a character with one of the ranges."""
    return any(span[0] < end and start < span[1] for start, end in ranges)


def measure(record: Record, finding: Finding) -> Row:
    """Compare a finding's spans with the record's quotes for its policy."""
    quotes = quote_ranges(record.text, record.evidence[finding.policy])
    spans = [(span.start, span.end) for span in finding.spans]
    passages = split_passages(record.text)
    return Row(
        probability=finding.probability,
        first=bool(spans) and overlaps(spans[0], quotes),
        any=any(overlaps(span, quotes) for span in spans),
        chance=float(np.mean([overlaps(passage, quotes) for passage in passages])),
        characters=spans[0][1] - spans[0][0] if spans else 0,
        of_text=(spans[0][1] - spans[0][0]) / len(record.text) if spans else 0.0,
        spans=len(spans),
    )


def show(title: str, rows: Sequence[Row]) -> None:
    """Print one line of the table."""
    if not rows:
        return
    columns = np.array(
        [[row.first, row.any, row.chance, row.characters, row.of_text, row.spans] for row in rows]
    )
    first, any_, chance, characters, of_text, spans = columns.mean(axis=0)
    margin = 1.96 * np.sqrt(first * (1 - first) / len(rows))
    print(
        f"{title:<24}{len(rows):>6}{first:>9.1%} ±{margin:>5.1%}{any_:>9.1%}{chance:>9.1%}"
        f"{characters:>9.0f}{of_text:>9.1%}{spans:>7.2f}"
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = EvidenceOptions()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("records", type=Path, nargs="+", help="records with labels and evidence")
    parser.add_argument("--splits", type=Path, help="a run's splits.json: only --parts of it are measured")
    parser.add_argument("--parts", default="test", help="splits to measure, with commas (test)")
    parser.add_argument("--share", type=float, default=defaults.share)
    parser.add_argument("--alone", type=float, default=defaults.alone)
    parser.add_argument("--left-out", type=int, default=defaults.left_out)
    parser.add_argument("--near", type=float, default=defaults.near)
    parser.add_argument("--shortest", type=int, default=defaults.shortest)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    options = EvidenceOptions(
        share=args.share, alone=args.alone, left_out=args.left_out, near=args.near, shortest=args.shortest
    )
    scorer = Scorer.load(args.bundle, threads=args.threads, evidence=options)
    records = [record for record in read_records(args.records, None).records if record.evidence]
    records = of_splits(records, args.splits, args.parts.split(","))
    rows: list[tuple[Record, Row]] = []
    violations = sum(len(record.evidence) for record in records)
    for record, assessment in zip(records, scorer.assess_many(r.text for r in records), strict=True):
        found = [finding for finding in assessment.findings if finding.policy in record.evidence]
        rows.extend((record, measure(record, finding)) for finding in found)
    if not rows:
        print("no violation with a quote was found", file=sys.stderr)
        return 1
    print(f"{options}\n{len(rows)} of {violations} violations with a quote found")
    print(
        f"{'':<24}{'found':>6}{'first':>9}{'':>7}{'any':>9}{'chance':>9}{'chars':>9}{'of text':>9}{'spans':>7}"
    )
    show("all", [row for _, row in rows])
    show("probability from 0.5", [row for _, row in rows if row.probability >= 0.5])
    for low, high in ((0, 300), (300, 600), (600, 1500), (1500, 10**9)):
        inside = [row for record, row in rows if low <= len(record.text) < high]
        show(f"texts of {low} to {high}" if high < 10**9 else f"texts from {low}", inside)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
