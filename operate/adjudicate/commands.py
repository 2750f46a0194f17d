"""What the subcommands of `merchantguard adjudicate` do."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from ...core.errors import SettingsError
from ...core.files import read_json, write_json, write_text
from ...core.progress import progress
from ...data.cleaning.text import clean
from ...data.records.decoding import decode_text
from ...data.records.readers import iter_records
from ...data.records.record import Record
from ...data.records.rows import SUFFIXES, open_rows
from ...data.records.writers import write_records
from ...data.taxonomy import load_taxonomy
from ...serve.cli.inputs import expand_folders, read_inputs
from ...serve.scorer import Scorer
from .adjudicator import Adjudicator, Progress, Stopped
from .case import Case, find_cases
from .delegation import Delegation, certify, table
from .injection.hidden import hidden_of_row, hidden_text
from .injection.red_team import FAMILIES, attacks
from .injection.signal import injection_signals
from .journal import Journal
from .lookup.choose import extended, further_pages
from .lookup.fetch import Fetcher
from .lookup.guard import Guard
from .proof import quote_scores
from .providers.local_gguf import LocalGguf
from .providers.openai_compatible import OpenAICompatible
from .providers.protocol import Prices, Provider
from .providers.replay import Replay, transcript_lines
from .results.decision_events import log_opinions
from .results.page import write_page
from .results.weak_records import annotator_table, weak_rows
from .routing import Limits
from .verdicts import Row, read_rows, row_of, write_rows

OPINIONS, PAGE, SUMMARY = "opinions.jsonl", "opinions.html", "summary.json"


def ask(args: argparse.Namespace, out: TextIO) -> int:
    """Ask about the cases of files; 1 where the provider gave up."""
    taxonomy = load_taxonomy(args.taxonomy)
    scorer = Scorer.load(args.bundle, threads=args.threads)
    provider = _provider(args)
    rules = Delegation.read(args.rules) if args.rules else None
    if rules is not None:
        rules.check(build=provider.build, bundle=scorer.bundle.digest)
    cases = list(find_cases(scorer, _records(args.files), _hidden(args.files)))
    with Journal(args.out) as journal:
        adjudicator = Adjudicator(
            provider, journal, taxonomy, quote_scores(scorer), _limits(args), tokens=args.tokens,
            parallel=args.parallel, a_minute=args.a_minute,
        )  # fmt: skip
        state, found, questions, fault = Progress(), list[tuple[Case, Row]](), [], None
        with progress("second opinions", total=len(cases)) as update:
            try:
                for each in adjudicator.run(cases, state):
                    row = row_of(each)
                    found.append((each.case, rules.move(row) if rules is not None else row))
                    questions.append((each.question, each.build, each.reply))
                    update(len(found))
            except Stopped as error:
                fault = error
            if args.look_up and fault is None:
                try:
                    found = list(_looked_up(adjudicator, found, args.look_up, state, rules))
                except Stopped as error:
                    fault = error
        usage = journal.usage()
    write_rows([row for _, row in found], args.out / OPINIONS)
    write_page(found, taxonomy, args.out / PAGE)
    if args.transcripts is not None:
        write_text(args.transcripts, transcript_lines(questions))
    if args.log is not None:
        logged, missing = log_opinions(found, args.log)
        print(f"{args.log}: {logged} events; {missing} cases have no decision there", file=sys.stderr)
    rows = [row for _, row in found]
    summary = {
        "build": provider.build, "bundle": scorer.bundle.digest, "cases": len(cases), "asked": state.asked,
        "cached": state.cached, "failed": state.failed, "left_over": state.left_over, "cost": state.cost,
        "cost_in_all": usage.cost, "questions_in_all": usage.questions,
        "verdicts": Counter(row.verdict for row in rows), "unproven": sum(row.stated != row.verdict for row in rows),
        "injection": sum(bool(row.injection) for row in rows), "cleared": sum(row.move == "clear" for row in rows),
    }  # fmt: skip
    write_json(args.out / SUMMARY, summary)
    for name, value in summary.items():
        print(f"{name}: {dict(value) if isinstance(value, dict) else value}", file=out)
    if fault is not None:
        print(f"stopped: {fault}; the same command goes on", file=sys.stderr)
    return 1 if fault is not None or state.failed else 0


def _looked_up(
    adjudicator: Adjudicator,
    found: list[tuple[Case, Row]],
    pages: int,
    state: Progress,
    rules: Delegation | None,
) -> Iterator[tuple[Case, Row]]:
    """The cases, those that could not be told once more with further pages of their domains, if there are any."""
    again: dict[tuple[str, str], Case] = {}
    policies = {policy.id: policy for policy in adjudicator.taxonomy.policies}
    for case, row in found:
        if row.verdict == "cannot tell" and case.domain:
            fetcher = Fetcher(Guard(case.domain))
            start = f"https://{case.domain}/"
            longer = extended(case, list(further_pages(start, policies[case.policy], fetcher, most=pages)))
            if longer is not None:
                again[case.record, case.policy] = longer
    second = {}
    for each in adjudicator.run(again.values(), state):
        row = row_of(each)
        second[row.record, row.policy] = (each.case, rules.move(row) if rules is not None else row)
    for case, row in found:
        yield second.get((row.record, row.policy), (case, row))


def certify_opinions(args: argparse.Namespace, out: TextIO) -> int:
    """Certify rules from labelled records and print the table; 1 where nothing is certified."""
    rows = list(read_rows(args.opinions / OPINIONS))
    summary = read_json(args.opinions / SUMMARY)
    labels: dict[tuple[str, str], bool] = {}
    wanted = {(row.record, row.policy) for row in rows}
    for record in _labelled(args.labelled):
        for policy in {policy for name, policy in wanted if name == record.id}:
            if policy in record.labels:
                labels[record.id, policy] = True
            elif policy not in record.unknown and "*" not in record.unknown:
                labels[record.id, policy] = False
    found = certify(
        rows, labels, bundle=summary["bundle"], error=args.error, level=args.level, pooled=args.pooled
    )
    print(table(found, summary["cost_in_all"] / max(summary["questions_in_all"], 1)), file=out)
    if args.to is not None:
        found.save(args.to)
    return 0 if any(each.confidence is not None for each in found.certificates) else 1


def write_weak_records(args: argparse.Namespace, out: TextIO) -> int:
    """Write weak training records."""
    rows = list(read_rows(args.opinions / OPINIONS))
    wanted = {row.record for row in rows}
    records = {record.id: record for record in _records(args.files) if record.id in wanted}
    written = list(weak_rows(rows, records))
    write_records(written, args.to)
    print(f"{args.to}: {len(written)} records from {len(rows)} answers", file=out)
    if args.annotator is not None:
        print(f"{args.annotator}: {annotator_table(rows, args.annotator)} answers", file=out)
    return 0


def red_team(args: argparse.Namespace, out: TextIO) -> int:
    """Print which share of the attacks gives a signal, by family."""
    for part in ("development", "test"):
        seen: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for attack in attacks(part, args.each):
            page = f"Home | Shop | Contact\n{attack.text}\nOpen Monday to Friday."
            total[attack.family] += 1
            seen[attack.family] += bool(injection_signals(page, clean(page).text, attack.hidden))
        print(f"{part}: {seen.total()} of {total.total()} attacks give a signal", file=out)
        for family in FAMILIES:
            print(f"  {family:<14} {seen[family]} of {total[family]}", file=out)
    return 0


def _records(names: Sequence[str]) -> Iterator[Record]:
    def bad(fault: object, row: object) -> None:
        print(fault, file=sys.stderr)

    return read_inputs(expand_folders(names), stdin_format="jsonl", on_fault=bad)


def _hidden(names: Sequence[str]) -> dict[str, str]:
    """By record, what its HTML hides from visitors; records keep the text alone, so that the files are read once more."""
    found: dict[str, str] = {}
    for path in map(Path, expand_folders(names)):
        if path.suffix.lower() in (".html", ".htm"):
            found[path.name] = hidden_text(decode_text(path.read_bytes(), markup=True).text)
        elif path.name.lower().endswith(SUFFIXES):
            for row in open_rows(path):
                if row.fields is not None and (text := hidden_of_row(row.fields)):
                    found[str(row.fields.get("id"))] = text
    return found


def _labelled(names: Sequence[str]) -> Iterator[Record]:
    def bad(fault: object, row: object) -> None:
        print(fault, file=sys.stderr)

    return iter_records([Path(name) for name in expand_folders(names)], None, on_fault=bad, unique_ids=False)


def _provider(args: argparse.Namespace) -> Provider:
    given = [name for name in ("gguf", "model", "replay") if getattr(args, name) is not None]
    if len(given) != 1:
        raise SettingsError(
            "say who is asked: one of --gguf FILE, --model NAME (with --url) or --replay FILE"
        )
    if args.gguf is not None:
        return LocalGguf(args.gguf, context=args.context)
    if args.replay is not None:
        return Replay.read(args.replay)
    return OpenAICompatible(
        args.model, url=args.url, prices=_prices(args), timeout=args.timeout, decisions=args.decisions
    )


def _prices(args: argparse.Namespace) -> Prices:
    if args.prices is None:
        if args.budget is not None:
            raise SettingsError("--budget needs --prices IN,OUT: money for a million tokens")
        return Prices()
    try:
        first, second = (float(value) for value in args.prices.split(","))
    except ValueError:
        raise SettingsError(f"--prices {args.prices}: write two numbers, such as 0.4,1.6") from None
    return replace(Prices(), input=first, output=second)


def _limits(args: argparse.Namespace) -> Limits:
    return Limits(args.budget, args.a_day, args.a_merchant, args.largest_amount)
