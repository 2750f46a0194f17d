"""Fit a bundle's calibration, thresholds and certificates to your own records, without training."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...core.arguments import open_share
from ...core.errors import RecordError, SettingsError
from ...core.files import write_json
from ...core.progress import progress
from ...data.records.readers import iter_records, read_records
from ...data.taxonomy import Taxonomy
from ...export.build import export_bundle
from ...serve.bundle import DOCUMENT
from ...serve.bundle_reader import read_bundle
from ...serve.scorer import Scorer
from ...train.run import SETTINGS, load_run
from ...train.settings import ThresholdSettings
from ..monitor.early_warnings import label_shift
from .recalibrate import Recalibrated, recalibrate, report

EPILOG = """examples:
  merchantguard recalibrate bundle/ --records reviewed.jsonl --out bundle-ours/
  merchantguard recalibrate bundle/ --records reviewed.jsonl --stream crawl.jsonl --out bundle-ours/
  merchantguard recalibrate runs/minilm --records reviewed.jsonl --prevalence 0.01 --budget 0.03 --out bundle-ours/

The records must be your own merchants, labelled, and not what the model was trained on. --stream estimates from unlabelled
records how many of your merchants violate some policy (expectation maximisation over calibrated probabilities, Saerens 2002),
which --prevalence states outright. A run is exported first. The figures "after" are cross-fitted: each half of the records is
decided by what the other half fits."""

LEAST_STREAM = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "source", type=Path, metavar="RUN_OR_BUNDLE", help="folder of a bundle or of a finished run"
    )
    parser.add_argument(
        "--records", type=Path, nargs="+", required=True, metavar="FILE", help="labelled records"
    )
    parser.add_argument(
        "--stream", type=Path, nargs="+", metavar="FILE", help="unlabelled records, for the prevalence"
    )
    parser.add_argument(
        "--prevalence", type=open_share, help="share of your merchants that violate some policy"
    )
    parser.add_argument("--budget", type=open_share, help="share of ordinary merchants that may go to review")
    parser.add_argument("--precision", type=open_share, default=0.95, help="of blocks (default: %(default)s)")
    parser.add_argument(
        "--version", help="version of the new bundle (default: the old one with the records' hash)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the new bundle")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard recalibrate`."""
    if args.stream and args.prevalence:
        raise SettingsError("give --stream, which estimates the prevalence, or --prevalence, not both")
    if args.out.resolve() == args.source.resolve():
        raise SettingsError(f"--out {args.out} is the source; choose another folder")
    with tempfile.TemporaryDirectory(prefix="merchantguard-") as temporary:
        bundle = _bundle(args.source, Path(temporary))
        taxonomy = Taxonomy.from_json(dict(read_bundle(bundle).document["taxonomy"]))
        prevalence = _estimate(bundle, args.stream) if args.stream else args.prevalence
        given: dict[str, Any] = {"precision_target": args.precision}
        given |= {} if prevalence is None else {"prevalence": min(prevalence, 0.5)}
        given |= {} if args.budget is None else {"review_budget": args.budget}
        records = read_records(args.records, taxonomy, strict=True).records
        found = recalibrate(
            bundle, records, args.out, targets=ThresholdSettings(**given), version=args.version
        )
    write_json(args.out.with_name(args.out.name + ".recalibration.json"), report(found))
    _print(found, args.out)
    return 0


def _bundle(source: Path, temporary: Path) -> Path:
    """The folder of a bundle: the source, or the export of a run."""
    if (source / DOCUMENT).is_file():
        return source
    if not (source / SETTINGS).is_file():
        raise SettingsError(f"{source}: neither a bundle ({DOCUMENT}) nor a run ({SETTINGS})")
    export_bundle(load_run(source), temporary / "bundle")
    return temporary / "bundle"


def _estimate(bundle: Path, files: list[Path]) -> float:
    """The prevalence among unlabelled records."""
    faults: list[object] = []
    scorer = Scorer.load(bundle)
    texts = (
        record.text for record in iter_records(files, None, on_fault=lambda fault, raw: faults.append(fault))
    )
    found = []
    with progress("scoring the stream") as update:
        for assessment in scorer.assess_many(texts):
            found.append(float(assessment.any_violation))
            update(len(found))
    if len(found) < LEAST_STREAM:
        raise RecordError(
            f"{len(found)} records in the stream are too few to estimate a prevalence from: at least {LEAST_STREAM}"
        )
    stated = scorer.bundle.prevalence
    estimate = float(label_shift(np.array(found), 0.5 if stated is None else stated.stated))
    print(f"prevalence in the stream: {estimate:.4f} of {len(found):,} records (an estimate, not a bound)")
    return min(max(estimate, 1e-4), 0.5)


def _print(found: Recalibrated, out: Path) -> None:
    rows = [("", "before", "after")]
    for title, text in (
        ("violating records found", lambda f: _share(f.found)),
        ("ordinary records to review", lambda f: _share(f.ordinary_to_review)),
        ("blocks, right among them", lambda f: f"{f.blocked}, {f.blocked_right}"),
        ("mean probability (stated prevalence)", lambda f: f"{f.expected:.4f} ({f.observed:.4f})"),
    ):
        rows.append((title, text(found.before), text(found.after)))
    print(f"{found.before.records:,} records, {found.before.violating:,} of them violating")
    for title, before, after in rows:
        print(f"  {title:<40}{before:>20}{after:>20}")
    for reason in found.left_out:
        print(f"  left out: {reason}")
    print(f"policies that block: {found.certified}\n{out}: {found.bundle.label} {found.bundle.digest[:12]}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
