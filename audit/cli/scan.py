"""Rank the labels that may be wrong: every cell of record and policy gets a probability that its label is wrong, and why."""

import argparse
import sys
from collections import defaultdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from ... import __version__
from ...core.arguments import count, whole_number
from ...core.errors import AuditError
from ...core.files import sha256_file
from ...data.records.readers import RecordSet, read_records
from ...data.taxonomy import Taxonomy, load_taxonomy
from ...train.settings import Settings, load_settings
from ..ranking.opinions import read_probabilities
from ..sampling.scan import Opinions, ScanResult, Sizes, scan_records
from ..storage.items import CAUSES, Item
from ..storage.store import SCAN, write_scan

EPILOG = """examples:
  label-audit scan records.jsonl --out audit
  label-audit scan records.jsonl --out audit --resume
  label-audit scan a.jsonl b.parquet --out audit --config configs/mpnet.yaml --folds 10 optim.epochs=4
  label-audit scan records.jsonl --out audit --probabilities out-of-fold.parquet --gold checked.jsonl

Without --probabilities one model per fold is trained, each on the other folds; folds that are finished are kept, and
--resume goes on after them. A file of probabilities has an id and a column per policy (JSONL, CSV or Parquet), by models
that did not see the record in training.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `label-audit scan`."""
    parser.add_argument(
        "data", nargs="+", metavar="DATA", help="record files; group.key=value among them overrides a setting"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="AUDIT", help="folder of the audit")
    parser.add_argument("--config", type=Path, help="settings of the training; default: configs/minilm.yaml")
    parser.add_argument("--folds", type=whole_number(2), default=5, help="models to train (default: 5)")
    parser.add_argument("--probabilities", type=Path, help="out-of-fold probabilities, instead of training")
    parser.add_argument("--gold", type=Path, help="records with the same ids whose labels are surely right")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what is in AUDIT already, or scan it again"
    )
    parser.add_argument(
        "--strict", action="store_true", help="stop at the first bad row instead of setting it aside"
    )
    parser.add_argument("--most", type=count, help="suspects at most (default: two a record, up to 100,000)")
    parser.add_argument(
        "--controls", type=count, help="random controls (default: a fifth of the records, 100 to 400)"
    )
    parser.add_argument(
        "--planted", type=count, help="planted items (default: a twentieth of the records, 10 to 200)"
    )


def main(args: argparse.Namespace) -> int:
    """Scan as asked; the summary goes to standard output."""
    overrides = [word for word in args.data if "=" in word and not Path(word).exists()]
    paths = [Path(word) for word in args.data if word not in overrides]
    settings = _settings(args.config, overrides)
    _check(args, paths)
    taxonomy = load_taxonomy(Path(settings.data.taxonomy) if settings.data.taxonomy else None)
    read = read_records(paths, taxonomy, strict=args.strict, rejects=args.out / "rejects.jsonl")
    if read.faults:
        print(f"{len(read.faults)} bad rows were set aside in {args.out / 'rejects.jsonl'}", file=sys.stderr)
    if not read.records:
        raise AuditError(f"{paths[0]}: holds no usable record; nothing can be scanned")
    gold = None if args.gold is None else read_records([args.gold], taxonomy, strict=True).records
    opinions = _opinions(args, read, taxonomy, settings)
    sizes = Sizes(most=args.most, controls=args.controls, planted=args.planted)
    result = scan_records(read.records, taxonomy, opinions, gold=gold, sizes=sizes, seed=settings.seed)
    write_scan(
        args.out,
        taxonomy=taxonomy,
        records=read.records,
        duplicates=result.duplicates.tolist(),
        items=result.items,
        about=_about(args, read, settings, result),
    )
    _summarise(result, taxonomy, args.out)
    return 0


def _settings(config: Path | None, overrides: list[str]) -> Settings:
    if config is not None:
        return load_settings(config, overrides=overrides)
    with as_file(files("merchantguard").joinpath("configs/minilm.yaml")) as shipped:
        return load_settings(shipped, overrides=overrides)


def _check(args: argparse.Namespace, paths: list[Path]) -> None:
    if not paths:
        raise AuditError("no data file is given; name at least one")
    begun = (args.out / SCAN).exists() or any((args.out / "folds").glob("fold-*"))
    if begun and not args.resume:
        raise AuditError(
            f"{args.out}: holds a scan already; --resume goes on with it or scans anew (answers stay), or choose another --out"
        )


def _opinions(args: argparse.Namespace, read: RecordSet, taxonomy: Taxonomy, settings: Settings) -> Opinions:
    """From the file that was named, or from models trained here."""
    if args.probabilities is not None:
        return Opinions(read_probabilities(args.probabilities, read.records, taxonomy))
    # Imported late: with probabilities at hand no training library is needed.
    from ...train.cli.train import quiet_libraries
    from ...train.fitting.out_of_fold import encoder_vectors, out_of_fold

    quiet_libraries()
    folder = args.out / "folds"
    outputs = out_of_fold(
        read.records,
        taxonomy,
        settings,
        folder,
        folds=args.folds,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print("vectors of the encoder, for neighbours", file=sys.stderr, flush=True)
    vectors = encoder_vectors(read.records, settings, folder / "vectors")
    return Opinions(outputs.probabilities, outputs.margins, vectors)


def _about(
    args: argparse.Namespace, read: RecordSet, settings: Settings, result: ScanResult
) -> dict[str, Any]:
    """Where the scan came from, as JSON."""
    trained = args.probabilities is None
    return {
        "version": __version__,
        "files": read.files,
        "rejected": len(read.faults),
        "records": len(read.records),
        "seed": settings.seed,
        "probabilities": None if trained else {str(args.probabilities): sha256_file(args.probabilities)},
        "gold": None if args.gold is None else {str(args.gold): sha256_file(args.gold)},
        "folds": args.folds if trained else None,
        "settings": settings.model_dump(mode="json") if trained else None,
        "known_cells": int(result.ranking.cells.known.sum()),
        "wrong_positive_rate": result.ranking.wrong_rate,
        "annotators": {
            name: float(factor)
            for name, factor in zip(
                result.ranking.annotator_names, result.ranking.mistakes.annotator_factors, strict=False
            )
        },
    }


def _summarise(result: ScanResult, taxonomy: Taxonomy, out: Path) -> None:
    """A table by cause, the annotators that stand out, and where to go on."""
    console = Console()
    queue = Column("queue", no_wrap=True)
    table = Table(queue, "items", "expected wrong", "highest", "policies most concerned")
    queues: dict[str, list[Item]] = defaultdict(list)
    for item in result.items:
        queues[item.cause].append(item)
    for cause in CAUSES:
        items = queues[cause]
        suspicions = [item.suspicion for item in items]
        sums = {policy: 0.0 for policy in taxonomy.ids}
        for item in items:
            sums[item.policy] += item.suspicion
        top = [policy for policy in sorted(sums, key=lambda policy: -sums[policy])[:3] if sums[policy] > 0]
        known = cause in ("control", "planted")
        table.add_row(
            cause,
            f"{len(items):,}",
            "" if known else f"{sum(suspicions):.0f}",
            "" if known or not items else f"{max(suspicions):.2f}",
            "" if known else ", ".join(top),
        )
    console.print(table)
    ranking = result.ranking
    if ranking.annotators is not None:
        factors = ranking.mistakes.annotator_factors
        for number in np.argsort(-factors, kind="stable")[:3].tolist():
            if factors[number] > 1.5:
                name = ranking.annotator_names[number] or "records without an annotator"
                console.print(
                    f"{name!r} errs about {factors[number]:.1f} times as often as the average", markup=False
                )
    console.print(f"next: label-audit review {out}", markup=False)
