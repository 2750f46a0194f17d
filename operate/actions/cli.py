"""Check an action table, try it on a log, and decide appeals."""

import argparse
import json
from pathlib import Path

from ...core.display import visible_line
from ...core.errors import RecordError
from ...core.files import atomic_path
from ...data.taxonomy import load_taxonomy
from ...serve.bundle_reader import read_bundle
from ...serve.decision_record import DecisionRecord
from ..log import LogWriter, histories, read_logs
from .appeals import appeal, appeal_labels
from .table import STRONGEST_FIRST, load_table
from .trial import Trial, try_table

EPILOG = """examples:
  merchantguard actions show > actions.yaml
  merchantguard actions test actions.yaml decisions/ --since 2026-11-01
  merchantguard actions test new.yaml decisions/ --old actions.yaml --bundle bundle/
  merchantguard actions appeal decisions/ 0193b1c2-... --to appeals/ --reviewer ann --not-violated counterfeit
  merchantguard actions labels decisions/ appeals/ --to appeals.jsonl

show prints the shipped table. test shows what a table would have done to logged decisions; the log has neither exposure nor
history, so rules on these are tried without. An appeal is decided by a reviewer who has not reviewed the decision. A running service keeps its
log to itself: appeals go to a log of their own (--to), and later commands read both."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="task", required=True, metavar="show | test | appeal | labels")
    commands.add_parser("show", help="print the shipped table")
    test = commands.add_parser("test", help="what a table would have done to logged decisions")
    test.add_argument("table", type=Path, help="action table (YAML)")
    _add_logs(test)
    test.add_argument(
        "--old", type=Path, metavar="TABLE", help="compare with this table, not with the logged actions"
    )
    test.add_argument(
        "--bundle", type=Path, help="bundle with the policies' severities (default: shipped taxonomy)"
    )
    test.add_argument("--since", metavar="TIME", help="only decisions from this ISO time on")
    test.add_argument("--until", metavar="TIME", help="only decisions before this ISO time")
    hear = commands.add_parser("appeal", help="log the outcome of an appeal")
    _add_logs(hear, "; further ones with reviews of the decision")
    hear.add_argument("decision_id", help="the decision; `merchantguard log show` finds it")
    hear.add_argument(
        "--to",
        type=Path,
        metavar="LOG",
        help="folder of the log to write, made when it is missing (default: the first log, which no service may write)",
    )
    hear.add_argument("--reviewer", required=True, help="who decides; not who reviewed it before")
    for name, text in (
        ("violated", "are violated"),
        ("not-violated", "are not violated"),
        ("unclear", "are unclear"),
    ):
        hear.add_argument(
            f"--{name}", action="append", default=[], metavar="POLICY", help=f"policies that {text}"
        )
    hear.add_argument("--reason", default="")
    labels = commands.add_parser("labels", help="write the outcomes of appeals as labels")
    _add_logs(labels, " and those of its appeals")
    labels.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="JSONL file, to join with records by id"
    )


def _add_logs(parser: argparse.ArgumentParser, others: str = "") -> None:
    parser.add_argument("log", type=Path, nargs="+", help=f"folder of the decision log{others}")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard actions`."""
    return {"show": _show, "test": _test, "appeal": _appeal, "labels": _labels}[args.task](args)


def _show(args: argparse.Namespace) -> int:
    print((Path(__file__).parent / "default.yaml").read_text(encoding="utf-8"), end="")
    return 0


def _test(args: argparse.Namespace) -> int:
    table, old = load_table(args.table), load_table(args.old) if args.old else None
    if args.bundle is not None:
        severity = {policy.id: policy.severity for policy in read_bundle(args.bundle).policies}
    else:
        severity = {policy.id: policy.severity for policy in load_taxonomy().policies}
    entries = read_logs(args.log, since=args.since, until=args.until)
    records = (entry for entry in entries if isinstance(entry, DecisionRecord))
    _print_trial(try_table(table, records, severity, old=old))
    return 0


def _print_trial(trial: Trial) -> None:
    print(f"{trial.decisions:,} decisions\n\n{'action':<22}{'before':>10}{'after':>10}{'change':>10}")
    for action in STRONGEST_FIRST:
        before, after = trial.before[action], trial.after[action]
        if before or after:
            print(f"{action:<22}{before:>10,}{after:>10,}{after - before:>+10,}")
    print("\nrules that decided")
    for rule, count in trial.rules.most_common():
        print(f"  {count:>10,}  {visible_line(rule)}")
    for change, count in trial.changes.most_common():
        print(f"\n{' -> '.join(change)}: {count:,}")
        for each in trial.examples[change]:
            found = (
                ", ".join(f"{f.policy} {f.probability:.2f}" for f in each.decision.findings) or "no finding"
            )
            print(
                f"  {each.decision.decision_id}  {visible_line(found)}  by rule {visible_line(each.after.rule)}"
            )


def _appeal(args: argparse.Namespace) -> int:
    if not any(each.decision.decision_id == args.decision_id for each in histories(*args.log)):
        raise RecordError(f"{', '.join(map(str, args.log))}: no decision {args.decision_id!r}")
    labels: dict[str, bool | None] = dict.fromkeys(args.violated, True)
    labels |= dict.fromkeys(args.not_violated, False) | dict.fromkeys(args.unclear)
    target = args.to or args.log[0]
    with LogWriter(
        target
    ) as log:  # read again under its lock: of two appeals at once the second sees the first
        both = histories(*args.log, target)
        history = next(each for each in both if each.decision.decision_id == args.decision_id)
        event = appeal(log, history, reviewer=args.reviewer, labels=labels, reason=args.reason)
    print(json.dumps(event.to_dict(), ensure_ascii=False))
    return 0


def _labels(args: argparse.Namespace) -> int:
    rows = list(appeal_labels(*args.log))
    with atomic_path(args.to) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{args.to}: {len(rows):,} labels from appeals")
    return 0
