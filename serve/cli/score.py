"""Assess files of merchant text with a bundle."""

import argparse
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

from ...core.arguments import count, open_share, positive_count
from ...core.errors import RecordError
from ...core.progress import progress
from ...data.records.readers import RowFault, rejects_file
from ...data.records.record import Record
from ...data.records.rejections import Rejections
from ..assessment import Assessment
from ..scorer import BATCH_TOKENS, Scorer
from .inputs import FORMATS, read_inputs
from .results import ResultRow, result_writer

REJECTED = 3
"""Exit status if some rows are rejected and all others are scored."""

EPILOG = """\
examples:
  merchantguard score bundle/ merchants.jsonl --out assessments.jsonl
  merchantguard score bundle/ site.html listing.txt
  curl -s https://shop.example | merchantguard score bundle/ - --format html

files: .jsonl, .jsonl.gz, .csv, .csv.gz, .parquet by the record contract; .html, .htm and .txt are one record each.
offsets of a span count the characters of the document that is read (only the visible text of HTML).
exit status: 0 if all rows are scored; 3 if some are rejected and the others are scored; anything else if it failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard score` to a parser."""
    parser.add_argument("bundle", type=Path, help="folder that `merchantguard export` wrote")
    parser.add_argument("files", nargs="+", metavar="FILE", help="what to score; - is standard input")
    parser.add_argument("--out", type=Path, help="a .jsonl or .parquet file (default: JSONL to stdout)")
    parser.add_argument(
        "--format", choices=FORMATS, default="jsonl", help="format of standard input (default: %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument("--rejects", type=Path, help="a JSONL file for the bad rows and their faults")
    parser.add_argument("--threads", type=count, help="cores to use; 0: all (the default)")
    parser.add_argument(
        "--variant",
        default="auto",
        help="variant of the bundle to use: plain, fused, openvino, ... (default: the fastest one that runs here)",
    )
    parser.add_argument(
        "--cascade",
        type=open_share,
        metavar="LOSS",
        help="clear what is surely compliant by a cheap first stage that is certified to lose at most this share of "
        "violating texts, such as 0.05; rows that it clears have no probabilities",
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive_count,
        default=BATCH_TOKENS,
        help="tokens of one run of the model: more need more memory (default: %(default)s)",
    )


def main(args: argparse.Namespace) -> int:
    """Score the files that `args` names and return the exit status.

    :raises MerchantGuardError: if the bundle, a file or, with --strict, a row is not usable.
    """
    try:
        return _score(args)
    except BrokenPipeError:
        # The reader of standard output has gone; give the interpreter somewhere to flush the rest to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _score(args: argparse.Namespace) -> int:
    scorer = Scorer.load(
        args.bundle, threads=args.threads or "auto", variant=args.variant, cascade=args.cascade
    )
    decisions: Counter[str] = Counter()
    rejections = Rejections()
    with (
        rejects_file(args.rejects) if args.rejects else nullcontext(_ignore) as keep,
        result_writer(args.out) as write,
        progress("scored") as update,
    ):

        def on_fault(fault: RowFault, raw: str) -> None:
            if args.strict:
                raise RecordError(str(fault))
            rejections.add(fault)
            keep(fault, raw)
            if not args.rejects:
                print(f"rejected: {fault}", file=sys.stderr)

        records = read_inputs(args.files, stdin_format=args.format, on_fault=on_fault)
        for record, assessment in assess_records(scorer, records, batch_tokens=args.batch_tokens):
            write(ResultRow.of(record, assessment, scorer.policies))
            decisions[assessment.decision] += 1
            update(decisions.total())
    _summarise(decisions, scorer.variant, rejections, args.rejects)
    return REJECTED if rejections.total else 0


def assess_records(
    scorer: Scorer, records: Iterable[Record], *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[Record, Assessment]]:
    """Each record with its assessment, in order, lazily."""
    waiting: deque[Record] = deque()

    def texts() -> Iterator[str]:
        for record in records:
            waiting.append(record)
            yield record.text

    for assessment in scorer.assess_many(texts(), batch_tokens=batch_tokens):
        yield waiting.popleft(), assessment


def _summarise(decisions: Counter[str], variant: str, rejections: Rejections, rejects: Path | None) -> None:
    counts = ", ".join(f"{decisions[name]:,} {name}" for name in ("block", "review", "clear"))
    print(f"scored {decisions.total():,} ({variant}): {counts}", file=sys.stderr)
    if rejections.total:
        where = f"; see {rejects}" if rejects else ""
        print(f"rejected {rejections.total:,} bad rows{where}", file=sys.stderr)
    if rejections.are_most(decisions.total()):
        print(rejections.explain(decisions.total()), file=sys.stderr)


def _ignore(fault: RowFault, raw: str) -> None:
    """Without a rejects file a bad row is only reported."""
