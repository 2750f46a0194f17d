"""Rank the labels that may be wrong: every label gets a probability that it is wrong, and the reasons."""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from ... import __version__
from ...core.arguments import count, whole_number
from ...core.errors import AuditError
from ...core.files import sha256_file
from ...data.records.readers import RecordSet, read_records
from ...data.taxonomy import Taxonomy, load_taxonomy
from ...train.settings import Settings
from ..ranking.model_outputs import ModelOutputs, read_probabilities
from ..sampling.scan import ScanResult, Sizes, scan_records
from ..storage.items import CAUSES, QUEUE_NAMES, Item
from ..storage.store import SCAN, ScanSummary, write_scan
from .options import training_settings

EPILOG = """examples:
  label-audit scan records.jsonl --out audit
  label-audit scan records.jsonl --out audit --quick       # a minute or two; ranks less well
  label-audit scan records.jsonl --out audit --resume
  label-audit scan a.jsonl b.parquet --out audit --config configs/mpnet.yaml --folds 10 optim.epochs=4
  label-audit scan records.jsonl --out audit --probabilities out-of-fold.parquet --gold checked.jsonl

Without --probabilities one model per fold is trained on the other folds; finished folds are kept, and --resume continues
after them. --quick does not train an encoder: logistic regression on the vectors of the
base model and on n-grams. A file of probabilities (JSONL, CSV or Parquet) has an id and one column per policy, from models that did not see
the record in training.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit scan`."""
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="record files; group.key=value among them overrides a setting"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="AUDIT", help="folder of the audit")
    parser.add_argument("--config", type=Path, help="settings of the training; default: configs/minilm.yaml")
    parser.add_argument("--folds", type=whole_number(2), default=5, help="models to train (default: 5)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="logistic regression on the base model's vectors and n-grams, instead of training an encoder per fold",
    )
    parser.add_argument("--probabilities", type=Path, help="out-of-fold probabilities, instead of training")
    parser.add_argument("--gold", type=Path, help="records with the same ids and verified labels")
    parser.add_argument("--resume", action="store_true", help="continue the scan in AUDIT, or scan again")
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )
    parser.add_argument("--most", type=count, help="most suspects (default: two per record, up to 100,000)")
    parser.add_argument(
        "--controls", type=count, help="random controls (default: a fifth of the records, 100 to 400)"
    )
    parser.add_argument(
        "--gold-items", type=count, help="gold items (default: a twentieth of the records, 10 to 200)"
    )


def main(args: argparse.Namespace) -> int:
    """Scan as asked; the summary goes to standard output."""
    overrides = [word for word in args.data if "=" in word and not Path(word).exists()]
    paths = [Path(word) for word in args.data if word not in overrides]
    settings = training_settings(args.config, overrides)
    _check(args, paths)
    taxonomy = load_taxonomy(Path(settings.data.taxonomy) if settings.data.taxonomy else None)
    read = read_records(paths, taxonomy, strict=args.strict, rejects=args.out / "rejects.jsonl")
    if read.faults:
        print(f"{len(read.faults)} bad rows were set aside in {args.out / 'rejects.jsonl'}", file=sys.stderr)
    if not read.records:
        raise AuditError(f"{paths[0]}: contains no usable record, so there is nothing to scan")
    gold = None if args.gold is None else read_records([args.gold], taxonomy, strict=True).records
    outputs = _model_outputs(args, read, taxonomy, settings)
    sizes = Sizes(suspects=args.most, controls=args.controls, gold=args.gold_items)
    result = scan_records(read.records, taxonomy, outputs, gold=gold, sizes=sizes, seed=settings.seed)
    write_scan(
        args.out,
        taxonomy=taxonomy,
        records=read.records,
        duplicates=result.duplicates.tolist(),
        items=result.items,
        summary=_summary(args, read, settings, result),
    )
    _print_queues(result, taxonomy, args.out)
    return 0


def _check(args: argparse.Namespace, paths: list[Path]) -> None:
    if not paths:
        raise AuditError("no data file is given; name at least one")
    if args.quick and args.probabilities is not None:
        raise AuditError("--quick and --probabilities exclude each other; leave one out")
    begun = (args.out / SCAN).exists() or any((args.out / "folds").glob("fold-*"))
    if begun and not args.resume:
        raise AuditError(
            f"{args.out}: already contains a scan; --resume continues it or scans again (answers are kept), or choose another --out"
        )


def _model_outputs(
    args: argparse.Namespace, read: RecordSet, taxonomy: Taxonomy, settings: Settings
) -> ModelOutputs:
    """From the file of --probabilities, or from models that are trained here."""
    if args.probabilities is not None:
        return ModelOutputs(read_probabilities(args.probabilities, read.records, taxonomy))
    # Imported late: with a file of probabilities no training library is needed.
    from ...train.cli.options import quiet_libraries
    from ...train.fitting.linear_out_of_fold import linear_out_of_fold
    from ...train.fitting.out_of_fold import encoder_vectors, out_of_fold

    quiet_libraries()
    folder = args.out / "folds"
    if args.quick:
        quick, vectors = linear_out_of_fold(
            read.records, taxonomy, settings, folder / "vectors", folds=args.folds
        )
        return ModelOutputs(quick.probabilities, quick.margins, vectors)
    outputs = out_of_fold(
        read.records,
        taxonomy,
        settings,
        folder,
        folds=args.folds,
        on_progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print("computing the encoder's vectors for the neighbour search", file=sys.stderr, flush=True)
    vectors = encoder_vectors(read.records, settings, folder / "vectors")
    return ModelOutputs(outputs.probabilities, outputs.margins, vectors)


def _summary(
    args: argparse.Namespace, read: RecordSet, settings: Settings, result: ScanResult
) -> ScanSummary:
    trained = args.probabilities is None
    ranking = result.ranking
    factors = zip(ranking.annotator_names, ranking.noise.annotator_factors.tolist(), strict=False)
    return ScanSummary(
        version=__version__,
        files=read.files,
        rejected=len(read.faults),
        records=len(read.records),
        seed=settings.seed,
        probabilities=None if trained else {str(args.probabilities): sha256_file(args.probabilities)},
        gold=None if args.gold is None else {str(args.gold): sha256_file(args.gold)},
        folds=args.folds if trained else None,
        settings=settings.model_dump(mode="json") if trained else None,
        labelled_cells=int(ranking.cells.mask.sum()),
        wrong_positive_rate=ranking.wrong_positive_rate,
        annotator_factors=dict(factors),
    )


def _print_queues(result: ScanResult, taxonomy: Taxonomy, out: Path) -> None:
    """A table by queue, the annotators that stand out, and the next step."""
    console = Console()
    queue = Column("queue", no_wrap=True)
    table = Table(queue, "labels", "probably wrong", "highest chance", "policies most concerned")
    for cause in CAUSES:
        items = [item for item in result.items if item.cause == cause]
        table.add_row(QUEUE_NAMES[cause], f"{len(items):,}", *_queue_figures(items, taxonomy))
    console.print(table)
    ranking = result.ranking
    if ranking.annotators is not None:
        factors = ranking.noise.annotator_factors
        for number in np.argsort(-factors, kind="stable")[:3].tolist():
            if factors[number] > 1.5:
                name = ranking.annotator_names[number] or "records without an annotator"
                console.print(
                    f"{name!r} makes about {factors[number]:.1f} times as many errors as the average annotator",
                    markup=False,
                )
    console.print(f"next: label-audit review {out}", markup=False)


def _queue_figures(items: list[Item], taxonomy: Taxonomy) -> tuple[str, str, str]:
    """Expected wrong labels, highest probability of a label error, and the policies with the most expected errors."""
    if not items or items[0].cause in ("control", "gold"):
        return "", "", ""
    sums = dict.fromkeys(taxonomy.ids, 0.0)
    for item in items:
        sums[item.policy] += item.p_label_error
    top = [policy for policy in sorted(sums, key=lambda policy: -sums[policy])[:3] if sums[policy] > 0]
    highest = max(item.p_label_error for item in items)
    return f"{sum(sums.values()):.0f}", f"{highest:.2f}", ", ".join(top)
