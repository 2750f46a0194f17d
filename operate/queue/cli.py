"""Plan a day's looks, read reviewers' answers back, write them as records, evaluate another queue from the log."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...core.arguments import open_share, positive_number, share
from ...core.display import safe_repr, visible_line
from ...core.errors import RecordError, SettingsError
from ...core.progress import progress
from ...data.records.readers import read_records
from ...data.records.record import Record, record_from, record_to_row
from ...data.records.rows import open_rows
from ...data.records.writers import write_records
from ...serve.bundle_reader import read_bundle
from ...serve.decision_record import DecisionEvent, DecisionRecord
from ..log import LogWriter, histories, log_key
from .answers import new_events, read_answers, reviewed_rows
from .evaluating import RANKINGS, evaluate_queue
from .off_policy import Value
from .planning import Plan, Stakes, plan_day
from .ranking import QueueSettings, severity_weights

EPILOG = """examples:
  merchantguard queue plan decisions/ --looks 200 --bundle bundle/ --records merchants.jsonl --to items.jsonl
  merchantguard queue plan decisions/ --looks 200 --thompson --exposure volumes.csv --to items.jsonl
  merchantguard queue answers decisions/ answers.csv
  merchantguard queue records decisions/ --records merchants.jsonl --to reviewed.jsonl
  merchantguard queue evaluate decisions/ --looks 200 --exploit 0.9 --inform 0.05

plan logs an event with the inclusion probability of every waiting decision. items.jsonl holds records, whose ids are
decision ids; reviewers do not see what was decided, unless --show-decision. answers.csv has the columns decision_id, reviewer,
labels (violated policies, separated by semicolons, or none) and optionally unknown and time. While a service writes the log,
--events names another folder for plans and answers, which `monitor --events` reads too."""

_BATCH = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(
        dest="task", required=True, metavar="plan | answers | records | evaluate"
    )
    plan = commands.add_parser("plan", help="choose a day's looks, log them, and write them for review")
    answers = commands.add_parser("answers", help="read reviewers' answers back into the log")
    records = commands.add_parser("records", help="write what was reviewed as records")
    evaluate = commands.add_parser("evaluate", help="what another queue would have found")
    for each in (plan, answers, records, evaluate):
        each.add_argument("log", type=Path, help="folder of the decision log")
    answers.add_argument("answers", type=Path, nargs="+", metavar="FILE", help="JSONL or CSV")
    for each in (plan, answers, records, evaluate):
        each.add_argument(
            "--events", type=Path, metavar="LOG", help="log of plans and answers (default: the same)"
        )
    for each in (plan, evaluate):
        _add_settings(each)
    for each in (plan, records):
        each.add_argument(
            "--records", type=Path, nargs="*", default=[], metavar="FILE",
            help="the merchants' texts by record id; not needed where the log keeps texts",
        )  # fmt: skip
        each.add_argument("--to", type=Path, required=True, metavar="FILE", help="write records there")
    plan.add_argument("--day", metavar="DATE", help="day to plan (default: the log's last)")
    plan.add_argument("--thompson", action="store_true", help="explore policies whose calibration is open")
    plan.add_argument("--with-blocks", action="store_true", help="also look at what was blocked")
    plan.add_argument("--show-decision", action="store_true", help="reviewers see the decision: not blind")
    answers.add_argument(
        "--source", default="label-audit", help="where they come from (default: %(default)s)"
    )
    answers.add_argument("--not-blind", action="store_true", help="the reviewers saw the decision")
    evaluate.add_argument("--ranking", choices=RANKINGS, default="harm", help="of the other queue")
    evaluate.add_argument("--alpha", type=open_share, default=0.05, help="error of the intervals")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--looks", type=positive_number, default=200.0, help="looks a day (default: 200)")
    parser.add_argument("--exploit", type=share, default=0.8, help="share by expected harm (default: 0.8)")
    parser.add_argument("--inform", type=share, default=0.1, help="share by uncertainty (default: 0.1)")
    parser.add_argument("--bundle", type=Path, help="bundle whose severities weigh (default: all 1)")
    parser.add_argument(
        "--exposure", type=Path, metavar="FILE", help="JSONL or CSV: id of a merchant or record, exposure"
    )


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard queue`."""
    tasks = {"plan": _plan, "answers": _answers, "records": _records, "evaluate": _evaluate}
    return tasks[args.task](args)


def _logs(args: argparse.Namespace) -> list[Path]:
    """The log, and the one of plans and answers once it exists."""
    events = args.events
    return [args.log, events] if events is not None and any(events.glob("[0-9]*")) else [args.log]


def _stakes(args: argparse.Namespace) -> Stakes:
    severity: dict[str, float] = {}
    if args.bundle is not None:
        policies = read_bundle(args.bundle).policies
        weights = severity_weights([policy.severity for policy in policies])
        severity = {policy.id: float(w) for policy, w in zip(policies, weights, strict=True)}
    return Stakes(severity, {} if args.exposure is None else _exposure(args.exposure))


def _exposure(path: Path) -> dict[str, float]:
    result = {}

    def check(columns: Sequence[str]) -> None:
        if not {"id", "exposure"} <= set(columns):
            raise RecordError(f"{path}: give the columns id and exposure")

    for row in open_rows(path, body=False, on_columns=check):
        fields = row.fields or {}
        try:
            value = float(fields["exposure"])
        except (KeyError, TypeError, ValueError):
            value = -1.0
        if not 0 <= value < 1e15 or not fields.get("id"):
            raise RecordError(f"{path}, row {row.number}: id and an exposure of 0 or more are needed")
        result[str(fields["id"])] = value
    return result


def _settings(args: argparse.Namespace) -> QueueSettings:
    return QueueSettings(args.looks, args.exploit, args.inform)


def _append(folder: Path, events: Iterable[DecisionEvent]) -> None:
    """Write events and wait for the disk, so many at a time as the log's queue takes."""
    batch = []
    with LogWriter(folder) as log, progress("events") as update:
        for number, event in enumerate(events, 1):
            batch.append(log.append(event))
            if len(batch) == _BATCH:
                for future in batch:
                    future.result()
                batch = []
                update(number)
        for future in batch:
            future.result()


def _texts(args: argparse.Namespace, decisions: Iterable[DecisionRecord]) -> dict[str, Record]:
    """Records by record id, and by decision id where the log keeps the text."""
    kept = {each.decision_id: each for each in decisions}
    result = (
        {record.id: record for record in read_records(args.records, None).records} if args.records else {}
    )
    for name, each in kept.items():
        if each.text is not None and (each.record_id or "") not in result:
            result[name] = _record(each)
    return result


def _record(decision: DecisionRecord) -> Record:
    return record_from({"id": decision.decision_id, "text": decision.text}, None)


def _plan(args: argparse.Namespace) -> int:
    found = histories(*_logs(args))
    plan = plan_day(
        found,
        _settings(args),
        log_key(args.log),
        day=args.day,
        stakes=_stakes(args),
        thompson=args.thompson,
        with_blocks=args.with_blocks,
        blind=not args.show_decision,
    )
    rows = _items(plan, _texts(args, plan.decisions))
    write_records(rows, args.to)
    try:
        _append(args.events or args.log, plan.events())
    except BaseException:
        args.to.unlink(missing_ok=True)  # looks that are not logged must not reach a reviewer
        raise
    for policy, offset in plan.offsets.items():
        print(f"{visible_line(policy)}: logits shifted by {offset:+.2f}", file=sys.stderr)
    print(f"{args.to}: {len(rows):,} of {len(plan.decisions):,} decisions of {plan.day} to look at")
    return 0


def _items(plan: Plan, texts: dict[str, Record]) -> list[dict[str, Any]]:
    """The chosen as unlabelled records: blind in the order of their ids, else by harm with what was decided."""
    chosen = [k for k, hit in enumerate(plan.chosen) if hit]
    order = chosen if plan.blind else sorted(chosen, key=lambda k: -plan.harm[k])
    rows, missing = [], []
    for k in order:
        decision = plan.decisions[k]
        record = texts.get(decision.record_id or "") or texts.get(decision.decision_id)
        if record is None:
            missing.append(decision.record_id or decision.decision_id)
            continue
        row = record_to_row(record)
        for name in ("labels", "unknown", "annotator", "labelled_at", "evidence"):
            row.pop(name, None)
        ids = {"id": decision.decision_id, "decision_id": decision.decision_id}
        row |= ids | {"record_id": decision.record_id, "merchant_id": decision.merchant_id}
        if not plan.blind:
            row |= {"decision": decision.decision, "probabilities": dict(decision.probabilities)}
        rows.append(row)
    if missing:
        raise SettingsError(
            f"{len(missing):,} chosen decisions have no text, such as {safe_repr(missing[0])}: name the files that were scored "
            "with --records, or let the service keep texts"
        )
    return rows


def _answers(args: argparse.Namespace) -> int:
    known = {each.decision.decision_id: each for each in histories(*_logs(args))}
    blind = False if args.not_blind else None
    read = [
        event for path in args.answers for event in read_answers(path, known, source=args.source, blind=blind)
    ]
    events = new_events(read, known)
    if events:
        _append(args.events or args.log, events)
    print(f"{len(events):,} reviews added, {len(read) - len(events):,} were in the log already")
    return 0


def _records(args: argparse.Namespace) -> int:
    found = histories(*_logs(args))
    reviewed = [each for each in found if any(event.kind == "review" for event in each.events)]
    rows = list(reviewed_rows(reviewed, _texts(args, [each.decision for each in reviewed])))
    if len(rows) < len(reviewed):
        print(f"{len(reviewed) - len(rows):,} reviewed decisions have no text: left out", file=sys.stderr)
    if not rows:
        raise SettingsError("no reviewed decision has a text; read answers back, and name --records")
    write_records(rows, args.to)
    print(f"{args.to}: {len(rows):,} records")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    own, other = evaluate_queue(
        histories(*_logs(args)), _settings(args), stakes=_stakes(args), ranking=args.ranking, alpha=args.alpha
    )
    print("violating merchants found by a planned decision")
    print(f"{'':<14}{'IPS':>8}{'SNIPS':>8}{'DR':>8}{'interval (DR)':>20}{'at all times (IPS)':>20}"
          f"{'weight':>8}{'size':>8}")  # fmt: skip
    for name, value in (("this queue", own), ("the other", other)):
        print(_line(name, value))
    return 0


def _line(name: str, value: Value) -> str:
    low, high = value.dr_interval or (float("nan"), float("nan"))
    return (
        f"{name:<14}{value.ips:>8.4f}{value.snips:>8.4f}{value.dr or 0.0:>8.4f}{f'{low:.4f} to {high:.4f}':>20}"
        f"{f'{value.anytime[0]:.4f} to {value.anytime[1]:.4f}':>20}{value.mean_weight:>8.2f}{value.effective:>8.0f}"
    )
