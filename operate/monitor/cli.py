"""Plan the audit sample, report what the audits say, watch for alarms, compare two bundles, step a rollout."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ...core.display import visible_line
from ...core.errors import SettingsError
from ...core.files import atomic_path, write_json, write_text
from ...serve.bundle_reader import read_bundle
from ...serve.decision_record import DecisionEvent, DecisionRecord
from ..log import histories, read_log
from .champion import Disagreement, Duel, Rollout, disagreements, duel
from .eprocess import Noise
from .figures import Figures, Settings, figures
from .ledger import Entry, ledger, majority
from .page import write_monitor_page
from .sample import daily_counts, parse_budget, plan_probabilities, write_plan
from .watch import prometheus_text

EPILOG = """examples:
  merchantguard monitor sample decisions/ --budget 200/day --to audit-sample.json
  merchantguard monitor report decisions/ --out monitor.html
  merchantguard monitor report decisions/ --champion-against shadow/ --target 0.95
  merchantguard monitor watch decisions/ --prometheus /var/lib/node_exporter/merchantguard.prom
  merchantguard monitor compare decisions/ shadow/ --to disagreements.jsonl
  merchantguard monitor rollout rollout.json decisions/ --challenger new-bundle

watch ends with status 1 on a precision alarm, so that a timer or a deployment can act on it. Certificates and alarms
may be looked at as often as one likes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(
        dest="task", required=True, metavar="sample | report | watch | compare | rollout"
    )
    sample = commands.add_parser("sample", help="plan the audit sample from the decisions of a log")
    sample.add_argument("log", type=Path, help="folder of the decision log")
    sample.add_argument("--budget", required=True, metavar="N/day", help="audits a day, such as 200/day")
    sample.add_argument("--to", type=Path, metavar="FILE", help="write the plan (JSON)")
    report = commands.add_parser("report", help="write the page of a log")
    report.add_argument("log", type=Path, help="folder of the decision log")
    report.add_argument("--out", type=Path, default=Path("monitor.html"), help="default: monitor.html")
    report.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    report.add_argument(
        "--champion-against", type=Path, metavar="LOG", help="log of a challenger on the same traffic"
    )
    watch = commands.add_parser("watch", help="export figures for Prometheus; status 1 on an alarm")
    watch.add_argument("log", type=Path, help="folder of the decision log")
    watch.add_argument(
        "--prometheus", type=Path, metavar="FILE", help="write the figures there, not to stdout"
    )
    compare = commands.add_parser("compare", help="champion and challenger on the same traffic")
    compare.add_argument("log", type=Path, help="log of the champion")
    compare.add_argument("challenger", type=Path, help="log of the challenger")
    compare.add_argument("--to", type=Path, metavar="FILE", help="write the disagreements that need a label")
    rollout = commands.add_parser("rollout", help="start a staged rollout, or take its next step")
    rollout.add_argument("state", type=Path, help="file of its state; made when it is missing")
    rollout.add_argument("log", type=Path, help="folder of the decision log")
    rollout.add_argument("--challenger", required=True, metavar="BUNDLE", help="the bundle's name in the log")
    rollout.add_argument("--least", type=int, default=50, help="audited blocks a stage (default: 50)")
    for each in (report, watch, rollout):
        _add_claims(each)


def _add_claims(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=float, default=0.95, help="precision of blocks (default: 0.95)")
    parser.add_argument("--alpha", type=float, default=0.05, help="error of certificates and alarms")
    parser.add_argument(
        "--false-error", type=float, default=0.0, help="reviewers' rate of calling a right block wrong"
    )
    parser.add_argument("--missed-error", type=float, default=0.0, help="and of calling a wrong block right")
    parser.add_argument("--due-days", type=float, default=7.0, help="audits without answer are then overdue")
    parser.add_argument(
        "--bundle", type=Path, help="the bundle in force: label shift starts from its stated share"
    )
    parser.add_argument(
        "--events",
        type=Path,
        nargs="*",
        default=[],
        metavar="LOG",
        help="logs with reviews of these decisions",
    )
    parser.add_argument("--now", metavar="TIME", help="look at it as of this time (default: the last entry)")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard monitor`."""
    tasks = {"sample": _sample, "report": _report, "watch": _watch, "compare": _compare, "rollout": _rollout}
    return tasks[args.task](args)


def _figures(args: argparse.Namespace) -> Figures:
    if not 0 < args.target < 1 or not 0 < args.alpha < 1:
        raise SettingsError(f"--target {args.target} and --alpha {args.alpha} must be between 0 and 1")
    noise = Noise(args.false_error, args.missed_error)
    entries = ledger(histories(args.log, *args.events), now=args.now, due_days=args.due_days)
    return figures(entries, Settings(args.target, args.alpha, noise, _prevalence(args.bundle, entries)))


def _prevalence(folder: Path | None, entries: Sequence[Entry]) -> float | None:
    """The share that the bundle in force states its probabilities for.

    :raises SettingsError: if it is not the bundle that decided last.
    """
    if folder is None or not entries:
        return None
    bundle = read_bundle(folder)
    if bundle.digest != entries[-1].record.bundle_digest:
        raise SettingsError(
            f"{folder}: bundle {bundle.name} {bundle.version} did not make the log's last decision; name the bundle in force"
        )
    return bundle.prevalence.stated if bundle.prevalence is not None else None


def _sample(args: argparse.Namespace) -> int:
    budget = parse_budget(args.budget)
    counts = daily_counts(each for each in read_log(args.log) if isinstance(each, DecisionRecord))
    plan = plan_probabilities(counts, budget)
    print(f"{'stratum':<12}{'a day':>12}{'probability':>14}{'audits a day':>14}")
    for name, probability in plan.items():
        print(f"{name:<12}{counts[name]:>12,.1f}{probability:>14.4f}{counts[name] * probability:>14.1f}")
    if args.to is not None:
        write_plan(args.to, plan)
    return 0


def _report(args: argparse.Namespace) -> int:
    found = _figures(args)
    against = _duel(args.log, args.champion_against)[0] if args.champion_against else None
    write_monitor_page(args.out, found, title=f"Monitor of {args.log.name}", duel=against)
    if args.json is not None:
        write_json(args.json, found.to_json())
    print(f"{args.out}: {found.decisions:,} decisions, {len(found.alarms)} alarms")
    return 0


def _watch(args: argparse.Namespace) -> int:
    found = _figures(args)
    text = prometheus_text(found)
    if args.prometheus is None:
        print(text, end="")
    else:
        write_text(args.prometheus, text)
    for each in found.alarms:
        print(
            f"alarm: precision of {visible_line(each.scope)} is below {args.target:g} ({each.audits} audits)",
            file=sys.stderr,
        )
    return 1 if found.alarms else 0


def _duel(champion: Path, challenger: Path) -> tuple[Duel, list[tuple[Disagreement, bool | None]], int]:
    """The sequential test, every disagreement with its label, and how many texts both saw."""
    first = [entry for entry in read_log(champion) if isinstance(entry, DecisionRecord)]
    second = [entry for entry in read_log(challenger) if isinstance(entry, DecisionRecord)]
    events: dict[str, list[DecisionEvent]] = {}
    for log in (champion, challenger):
        for entry in read_log(log):
            if isinstance(entry, DecisionEvent) and entry.kind == "review" and entry.blind is not False:
                events.setdefault(entry.decision_id, []).append(entry)
    found, both = disagreements(first, second)
    labelled: list[tuple[Disagreement, bool | None]] = []
    for each in found:
        ids = (each.champion.decision_id, each.challenger.decision_id)
        votes = majority([event for key in ids for event in events.get(key, [])])
        labelled.append((each, votes.get(each.policy)))
    wins = [label == each.challenger_flags for each, label in labelled if label is not None]
    return duel(wins), labelled, both


def _compare(args: argparse.Namespace) -> int:
    result, labelled, both = _duel(args.log, args.challenger)
    waiting = [each for each, label in labelled if label is None]
    print(f"{both:,} texts seen by both, {len(labelled):,} disagreements, {result.labels:,} with a label")
    print(f"the challenger is right in {result.challenger_wins:,} of {result.labels:,}: {result.verdict}")
    if args.to is not None:
        with atomic_path(args.to) as temporary, open(temporary, "w", encoding="utf-8") as stream:
            for each in waiting:
                row = {
                    "decision_id": each.champion.decision_id,
                    "record": each.champion.record_id,
                    "policy": each.policy,
                    "probability": each.champion.probabilities.get(each.policy),
                }
                stream.write(json.dumps(row) + "\n")
        print(f"{args.to}: {len(waiting):,} disagreements that need a label")
    return 0


def _rollout(args: argparse.Namespace) -> int:
    state = (
        Rollout.read(args.state)
        if args.state.exists()
        else Rollout(args.challenger, salt=f"{args.challenger} {args.state.name}")
    )
    settings = Settings(args.target, args.alpha, Noise(args.false_error, args.missed_error))
    entries = ledger(histories(args.log, *args.events), now=args.now, due_days=args.due_days)
    own = [entry for entry in entries if entry.record.bundle == state.challenger]
    if own:
        found = figures(own, settings)
        audits = sum(each.audits for each in found.precision if each.scope == "all blocks")
        state = state.step(audits=audits, alarm=bool(found.alarms), least=args.least)
    state.write(args.state)
    print(f"{visible_line(state.challenger)}: {100 * state.share:g} % of merchants ({state.reason})")
    return 1 if state.stage < 0 else 0
