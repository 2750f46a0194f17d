"""What evidence costs on a stream with few flagged texts.

    python -m serving.evidence_cost BUNDLE MERCHANTS/*.jsonl data/corpus/part-0*.jsonl --flagged 0.02

The stream consists of texts that the bundle itself flags and of texts that it clears. It is scored with evidence and
without, in turns; the overhead is the median of the ratios, less one: of elapsed time, and of processor time, which
other work on the same cores disturbs less. Spans cost nothing where nothing is flagged. The cost of the attribution that
they are read from shows against a `--baseline`, a bundle of the same run whose graphs do not give it.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guard import guarded

from merchantguard.core.errors import RecordError
from merchantguard.data.records.readers import read_records
from merchantguard.serve import EvidenceOptions, Scorer


def made_stream(scorer: Scorer, texts: Sequence[str], *, size: int, flagged: float) -> list[str]:
    """`size` of the texts, of which the scorer flags the share `flagged`.

    :raises RecordError: if there are too few of either kind.
    """
    by_decision: dict[bool, list[str]] = {True: [], False: []}
    for text, assessment in zip(texts, scorer.assess_many(texts), strict=True):
        by_decision[assessment.decision != "clear"].append(text)
    count = round(size * flagged)
    if len(by_decision[True]) < count or len(by_decision[False]) < size - count:
        raise RecordError(
            f"of {len(texts)} texts {len(by_decision[True])} are flagged; {count} flagged and {size - count} clear "
            "ones are needed: give more files or a smaller --size"
        )
    chance = random.Random(0)
    stream = chance.sample(by_decision[True], count) + chance.sample(by_decision[False], size - count)
    chance.shuffle(stream)
    return stream


def pass_seconds(scorer: Scorer, texts: Sequence[str]) -> tuple[float, float]:
    """Elapsed time of one pass, and the processor time of all threads."""
    started, used = time.perf_counter(), time.process_time()
    for _ in scorer.assess_many(texts, remember=0):
        pass
    return time.perf_counter() - started, time.process_time() - used


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = EvidenceOptions()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--flagged", type=float, default=0.02)
    parser.add_argument("--size", type=int, default=400, help="texts of the stream (400)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variant", default="auto")
    parser.add_argument("--left-out", type=int, default=defaults.left_out)
    parser.add_argument("--baseline", type=Path, help="bundle that scores without evidence (the same)")
    args = parser.parse_args()
    texts = [record.text for record in read_records(args.records, None).records]
    without = Scorer.load(
        args.baseline or args.bundle, variant=args.variant, evidence=replace(defaults, spans=0)
    )
    stream = made_stream(without, texts, size=args.size, flagged=args.flagged)
    options = replace(defaults, left_out=args.left_out)
    with_evidence = Scorer.load(args.bundle, variant=args.variant, evidence=options)
    pass_seconds(with_evidence, stream[:32])
    pairs = [
        (pass_seconds(without, stream), pass_seconds(with_evidence, stream)) for _ in range(args.repeats)
    ]
    overhead = [statistics.median(after[k] / before[k] for before, after in pairs) - 1 for k in (0, 1)]
    print(
        f"{without.variant}: {len(stream)} texts, {args.flagged:.0%} flagged: "
        f"{len(stream) / statistics.median(before[0] for before, _ in pairs):.1f} texts/s, evidence costs "
        f"{overhead[0]:+.1%} of the time, {overhead[1]:+.1%} of processor time"
    )
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
