"""Assess files of merchant text with a bundle."""

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.arguments import count, open_share, positive_count, share
from ...core.errors import RecordError, SettingsError
from ...core.progress import Update, progress
from ...data.records.readers import RowFault, rejects_file
from ...data.records.record import Record
from ...data.records.rejections import Rejections
from ...data.records.warc import Outcomes
from ...data.site_text import text_of
from ..assessment import Assessment
from ..bulk.identity import ScoredBy
from ..bulk.job import Block, Job, column_names
from ..bulk.log_key import read_key
from ..bulk.parts import Parts
from ..bulk.previous import Previous
from ..bulk.reuse import Reuse, SkippingLoss
from ..decision_record import Recorder
from ..scorer import BATCH_TOKENS, Scorer
from .decisions import join_logs, write_log
from .inputs import FORMATS, STDIN, count_rows, expand_folders, read_inputs
from .results import check_out, join_parts, part_suffix, write_part, write_stdout

REJECTED = 3
"""Exit status if some rows are rejected and all others are scored."""

_ROWS_SHOWN_AT_ONCE = 64
_PART_ROWS = 2_000
ENGINES = ("local", "spark")

EPILOG = """\
examples:
  merchantguard score bundle/ merchants.jsonl --out assessments.jsonl
  merchantguard score bundle/ site.html listing.txt
  merchantguard score bundle/ crawl/*.warc.gz --out sites.parquet --flat
  merchantguard score bundle/ today.parquet --previous yesterday/results.parquet --out results.parquet
  curl -s https://shop.example | merchantguard score bundle/ - --format html
  merchantguard score --engine spark bundle/ merchants/ --out results/ --text site_text --id merchant_id

files: .jsonl, .jsonl.gz, .csv, .csv.gz, .parquet by the record contract; .warc, .warc.gz and lists of them (warc.paths), a
registered domain being one record; .html, .htm and .txt are one record each; of a folder all such files in it.
offsets of a span count the characters of the document that is read (only the visible text of HTML).
a job that is killed goes on where it stopped when the same command is given again; until then its part files lie in OUT.parts.
exit status: 0 if all rows are scored; 3 if some are rejected and the others are scored; anything else if it failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `merchantguard score` to a parser."""
    parser.add_argument("bundle", type=Path, help="folder that `merchantguard export` wrote")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="what to score: files, folders; - is standard input"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="a .jsonl, .parquet or (flat) .csv file; with Spark a folder (default: JSONL to stdout)",
    )
    parser.add_argument(
        "--flat",
        action="store_true",
        help="beside OUT.parquet also OUT.flat.parquet: one row a finding, one column a policy's probability",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="jsonl", help="format of standard input (default: %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument("--rejects", type=Path, help="a JSONL file for the bad rows and their faults")
    parser.add_argument(
        "--carry",
        metavar="NAME,NAME",
        help="fields of the records that the results keep; 'none' for none (default: domain, country, collected_at and all "
        "that the record contract does not name)",
    )
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
    parser.add_argument(
        "--repeats",
        action="store_true",
        help="read what the pages of a site repeat (menus, footers) every time, instead of once",
    )
    _add_reuse(parser)
    _add_spark(parser)


def _add_reuse(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("only what changed")
    group.add_argument(
        "--previous",
        type=Path,
        metavar="RESULTS",
        help="earlier results (.parquet, .jsonl or a folder): texts that were scored with the same bundle and settings are "
        "copied",
    )
    group.add_argument(
        "--skip-below",
        type=open_share,
        metavar="P",
        help="with --previous of another bundle: also copy clear rows whose probability of any violation was below P; what "
        "that may lose is measured on a share of them and stated",
    )
    group.add_argument(
        "--control",
        type=share,
        default=0.02,
        help="the share of such rows that is scored all the same, to measure the loss (default: %(default)s)",
    )
    group.add_argument(
        "--log", type=Path, help="a .jsonl file for the decision records of the rows that are scored"
    )
    group.add_argument(
        "--log-key",
        type=Path,
        metavar="FILE",
        help="the secret with which the log hashes texts (at least 16 bytes)",
    )
    group.add_argument(
        "--part-rows",
        type=positive_count,
        default=_PART_ROWS,
        help="rows of a part file: so many at most are scored again after a kill (default: %(default)s)",
    )


def _add_spark(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Spark")
    group.add_argument(
        "--engine", choices=ENGINES, default="local", help="where to score (default: %(default)s)"
    )
    group.add_argument(
        "--text", default="text", help="column of texts, or of lists of pages (default: %(default)s)"
    )
    group.add_argument("--id", default="id", help="column that names a row (default: %(default)s)")
    group.add_argument(
        "--master", help="master of the Spark session (default: what spark-submit says, else local[*])"
    )
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="score the files that came into a folder since the last run with this checkpoint, each exactly once",
    )


def main(args: argparse.Namespace) -> int:
    """Score the files that `args` names and return the exit status.

    :raises MerchantGuardError: if the bundle, a file or, with --strict, a row is not usable.
    """
    _check(args)
    if args.engine == "spark":
        from ..bulk.spark.job import score_files

        return score_files(args)
    try:
        return _score(args)
    except BrokenPipeError:
        # The reader of standard output has gone; give the interpreter somewhere to flush the rest to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _check(args: argparse.Namespace) -> None:
    if args.skip_below is not None and args.previous is None:
        raise SettingsError("--skip-below looks at earlier results: give --previous too")
    if (args.log is None) != (args.log_key is None):
        raise SettingsError(
            "--log and --log-key go together: the log hashes texts with a secret that the file holds"
        )
    if args.log is not None and args.out is None:
        raise SettingsError(
            "--log needs --out: a log of rows that only went through a pipe could not be completed"
        )
    if args.engine == "local":
        check_out(args.out, flat=args.flat)
        if args.checkpoint is not None:
            raise SettingsError(
                "--checkpoint belongs to --engine spark; here the same command goes on where it stopped"
            )


@dataclass(slots=True)
class _Totals:
    """What the blocks and parts counted."""

    decisions: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    copied: int = 0
    truncated: int = 0
    loss: SkippingLoss = field(default_factory=SkippingLoss)

    def add(self, counts: dict[str, Any]) -> None:
        self.decisions.update(counts["decisions"])
        self.rows += counts["rows"]
        self.copied += counts["copied"]
        self.truncated += counts["truncated"]
        self.loss.skipped += counts["skipped"]
        self.loss.controls += counts["controls"]
        self.loss.found += counts["found"]


@dataclass(slots=True)
class _Faults:
    """Bad rows: counted, kept aside or shown."""

    strict: bool
    keep: Any
    shown: bool
    rejections: Rejections = field(default_factory=Rejections)

    def __call__(self, fault: RowFault, raw: str) -> None:
        if self.strict:
            raise RecordError(str(fault))
        self.rejections.add(fault)
        self.keep(fault, raw)
        if self.shown:
            print(f"rejected: {fault}", file=sys.stderr)


def _score(args: argparse.Namespace) -> int:
    names = expand_folders(args.files)
    scorer = Scorer.load(
        args.bundle, threads=args.threads or "auto", variant=args.variant, cascade=args.cascade
    )
    job = _job(args, scorer)
    totals, outcomes = _Totals(), Outcomes()
    with rejects_file(args.rejects) if args.rejects else nullcontext(_ignore) as keep:
        faults = _Faults(args.strict, keep, shown=args.rejects is None)
        records = read_inputs(names, stdin_format=args.format, on_fault=faults, outcomes=outcomes)
        total = None if STDIN in names else count_rows(names)
        if args.out is None:
            written = _to_stdout(job, records, totals, total)
        else:
            written = _to_file(args, job, names, records, totals, total)
    _summarise(totals, scorer.variant, faults.rejections, args.rejects, outcomes, written)
    return REJECTED if faults.rejections.total else 0


def _job(args: argparse.Namespace, scorer: Scorer) -> Job:
    by = ScoredBy.of_scorer(scorer, read_once=not args.repeats)
    carry = None
    if args.carry is not None:
        carry = (
            [] if args.carry == "none" else [name.strip() for name in args.carry.split(",") if name.strip()]
        )
    reuse = None
    if args.previous is not None:
        reuse = Reuse(Previous(args.previous), by.key, below=args.skip_below, control=args.control)
    recorder = None
    if args.log is not None:
        recorder = Recorder(scorer.bundle, read_key(args.log_key), scorer.variant)
    return Job(scorer, by, not args.repeats, args.batch_tokens, carry, reuse, recorder)


def _to_stdout(job: Job, records: Iterable[Record], totals: _Totals, total: int | None) -> list[Path]:
    with progress("scored", total=total) as update:
        began = time.monotonic()
        for block in job.blocks(records, rows=_ROWS_SHOWN_AT_ONCE):
            write_stdout(block.rows)
            totals.add(block.counts())
            _report(update, totals, totals.rows, began)
    return []


def _to_file(
    args: argparse.Namespace,
    job: Job,
    names: Sequence[str],
    records: Iterator[Record],
    totals: _Totals,
    total: int | None,
) -> list[Path]:
    """Write part files, behind those that an earlier run of the same job left, and join them."""
    parts = Parts(args.out, part_suffix(args.out), _description(args, job.by, names))
    for counts in parts.counts:
        totals.add(counts)
    if parts.rows:
        print(f"going on after {parts.rows:,} rows of an earlier run", file=sys.stderr)
    try:
        for _ in range(parts.rows):
            next(records)
        with progress("scored", total=total, done=parts.rows) as update:
            began, before = time.monotonic(), totals.rows
            for block in job.blocks(records, rows=args.part_rows):
                _write_block(parts, block, job)
                totals.add(block.counts())
                _report(update, totals, totals.rows - before, began)
        policies = [policy.id for policy in job.scorer.policies]
        written = join_parts(parts.paths(), args.out, parts.columns or [], policies, flat=args.flat)
        if args.log is not None:
            written.append(join_logs(parts, args.log))
    except (RecordError, StopIteration) as error:
        parts.remove()  # the input is at fault: no later run can go on from here
        if isinstance(error, StopIteration):
            raise RecordError("the input has fewer rows than when the job began; start again") from error
        raise
    parts.remove()
    return written


def _write_block(parts: Parts, block: Block, job: Job) -> None:
    if parts.columns is None:
        parts.set_columns(column_names(block.rows, job.carry))
    path = parts.next_path()
    write_part(path, block.rows, parts.columns or [])
    if job.recorder is not None:
        write_log(path, block.logged)
    parts.add(block.counts())


def _description(args: argparse.Namespace, by: ScoredBy, names: Sequence[str]) -> dict[str, Any]:
    """What makes a later run the same job: what scores, how, and files that have not changed."""
    given = {
        name: getattr(args, name)
        for name in ("format", "carry", "skip_below", "control", "part_rows", "strict")
    }
    files = [(name, *_state(Path(name))) for name in names]
    # Standard input cannot be read again from where it stopped.
    once = [os.urandom(8).hex()] if STDIN in names else []
    previous = None if args.previous is None else [str(args.previous), *_state(args.previous)]
    logged = None if args.log is None else str(args.log)
    return {"key": by.key, "files": files, "once": once, "previous": previous, "log": logged, **given}


def _state(path: Path) -> tuple[int, int]:
    if not path.exists():
        return 0, 0
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _report(update: Update, totals: _Totals, done: int, began: float) -> None:
    seconds = max(time.monotonic() - began, 1e-9)
    update(totals.rows, f"{done / seconds:,.1f} texts/s")


def assess_records(
    scorer: Scorer, records: Iterable[Record], *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[Record, Assessment]]:
    """Each record with its assessment, in order, lazily; what the pages of a site repeat is read once."""
    waiting: deque[Record] = deque()

    def texts() -> Iterator[Any]:
        for record in records:
            waiting.append(record)
            yield text_of(record)

    for assessment in scorer.assess_many(texts(), batch_tokens=batch_tokens):
        yield waiting.popleft(), assessment


def _summarise(
    totals: _Totals,
    variant: str,
    rejections: Rejections,
    rejects: Path | None,
    outcomes: Outcomes,
    written: Sequence[Path],
) -> None:
    counts = ", ".join(f"{totals.decisions[name]:,} {name}" for name in ("block", "review", "clear"))
    copied = f", {totals.copied:,} of them copied from earlier results" if totals.copied else ""
    print(f"scored {totals.rows:,} ({variant}): {counts}{copied}", file=sys.stderr)
    if totals.loss.skipped:
        print(_loss(totals.loss), file=sys.stderr)
    if totals.truncated:
        print(f"{totals.truncated:,} texts go on after the last window that was read", file=sys.stderr)
    if outcomes:
        print(f"captures: {outcomes.summary()}", file=sys.stderr)
    if rejections.total:
        where = f"; see {rejects}" if rejects else ""
        print(f"rejected {rejections.total:,} bad rows{where}", file=sys.stderr)
    if rejections.are_most(totals.rows):
        print(rejections.explain(totals.rows), file=sys.stderr)
    for path in written:
        print(f"wrote {path}", file=sys.stderr)


def _loss(loss: SkippingLoss) -> str:
    share_found = f"{loss.found:,} of {loss.controls:,} controls were not clear"
    if not loss.controls:
        return f"skipped {loss.skipped:,} texts that the older bundle scored low; no control was drawn: the loss is not known"
    return (
        f"skipped {loss.skipped:,} texts that the older bundle scored low; {share_found}: with 95 % confidence at most "
        f"{loss.bound:.2%} of the skipped ones would be found"
    )


def _ignore(fault: RowFault, raw: str) -> None:
    """Without a rejects file a bad row is only reported."""
