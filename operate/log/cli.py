"""Verify, search and export a decision log."""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ...core.files import atomic_path
from ...core.progress import progress
from ...serve.decision_record import DecisionEvent, DecisionRecord
from .reader import canonical, read_logs, verify
from .segments import Head, LogError, head

EPILOG = """examples:
  merchantguard log verify decisions/
  merchantguard log head decisions/ > head.json
  merchantguard log verify decisions/ --head head.json
  merchantguard log show decisions/ --request-id 4bf92f35
  merchantguard log show decisions/ --decision block --since 2026-11-01 --limit 5
  merchantguard log show decisions/ appeals/ --decision-id 0193b1c2-...
  merchantguard log export decisions/ decisions.parquet --events events.jsonl

show prints one entry a line as JSON: the decisions that match, each followed by its events. verify prints the number of
lines and the last chain, and ends with status 1 if a line was changed, is missing or is cut off. Lines cut from the very end
show only with a head that was kept elsewhere."""

_ROWS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="task", required=True, metavar="verify | head | show | export")
    check = commands.add_parser("verify", help="check every line of the log and its chain")
    check.add_argument("log", type=Path, help="folder of the log")
    known = check.add_mutually_exclusive_group()
    known.add_argument(
        "--head", type=Path, metavar="FILE", help="a kept output of `log head` that must be in the log"
    )
    known.add_argument("--expect-chain", metavar="CHAIN", help="a kept chain that must be in the log")
    last = commands.add_parser("head", help="print number and chain of the last line, to be kept elsewhere")
    last.add_argument("log", type=Path, help="folder of the log")
    show = commands.add_parser("show", help="print decisions with their events")
    _add_logs(show)
    for name in ("request-id", "decision-id", "merchant-id", "record-id", "decision"):
        show.add_argument(
            f"--{name}", metavar="VALUE", help=f"only decisions with this {name.replace('-', ' ')}"
        )
    show.add_argument("--limit", type=int, default=None, metavar="N", help="at most N decisions")
    _add_times(show)
    export = commands.add_parser("export", help="write the decisions as Parquet, for DuckDB or Spark")
    _add_logs(export)
    export.add_argument("out", type=Path, help="Parquet file to write")
    export.add_argument("--events", type=Path, metavar="FILE", help="also write the events, as JSON lines")
    _add_times(export)


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "log", type=Path, nargs="+", help="folder of the log; several are read together, as those of appeals"
    )


def _add_times(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since", metavar="TIME", help="ISO date or time in UTC; earlier decisions are left out"
    )
    parser.add_argument("--until", metavar="TIME", help="decisions at this time or later are left out")


def main(args: argparse.Namespace) -> int:
    """Run `merchantguard log`."""
    return {"verify": _verify, "head": _head, "show": _show, "export": _export}[args.task](args)


def _verify(args: argparse.Namespace) -> int:
    found = verify(args.log, _kept(args))
    for fault in found.faults:
        print(fault)
    state = f"{len(found.faults)} damaged" if found.faults else "none damaged"
    print(f"{args.log}: {found.lines:,} lines, {state}; last chain {found.chain}")
    return 1 if found.faults else 0


def _kept(args: argparse.Namespace) -> Head | None:
    """The head that the log must hold.

    :raises LogError: if the file or the chain is none.
    """
    seq, chain, place = None, args.expect_chain, "--expect-chain"
    if args.head is not None:
        try:
            document = json.loads(args.head.read_text(encoding="utf-8"))
            seq, chain, place = int(document["seq"]), str(document["chain"]), str(args.head)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LogError(f"{args.head}: no output of `merchantguard log head` ({error!r})") from None
    if chain is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{64}", chain):
        raise LogError(f"{place}: {chain!r} is no chain; it has 64 hexadecimal digits")
    return Head(seq, chain)


def _head(args: argparse.Namespace) -> int:
    found = head(args.log)
    print(json.dumps({"seq": found.seq, "chain": found.chain}))
    return 0


def _show(args: argparse.Namespace) -> int:
    fields = ("request_id", "decision_id", "merchant_id", "record_id", "decision")
    wanted = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    shown: dict[str, DecisionRecord] = {}
    events: list[DecisionEvent] = []
    for entry in _decisions(read_logs(args.log), events):
        if _matches(entry, wanted, args) and (args.limit is None or len(shown) < args.limit):
            shown[entry.decision_id] = entry
    for decision in shown.values():
        print(canonical(decision))
        own = (event for event in events if event.decision_id == decision.decision_id)
        for event in sorted(own, key=lambda event: event.time):
            print(canonical(event))
    if not shown:
        print(f"{', '.join(map(str, args.log))}: no decision matches", file=sys.stderr)
    return 0 if shown else 1


def _matches(entry: DecisionRecord, wanted: dict[str, str], args: argparse.Namespace) -> bool:
    in_time = (not args.since or entry.time >= args.since) and (not args.until or entry.time < args.until)
    return in_time and all(getattr(entry, name) == value for name, value in wanted.items())


def _export(args: argparse.Namespace) -> int:
    import pyarrow.parquet as pq

    from ...serve.bulk.decision_table import DECISIONS, decision_table

    if args.out.is_dir():
        raise LogError(f"{args.out} is a folder; name the Parquet file to write")
    entries = read_logs(args.log, since=args.since, until=args.until)
    events: list[DecisionEvent] = []
    rows = 0
    with (
        atomic_path(args.out) as temporary,
        progress("exporting") as update,
        pq.ParquetWriter(temporary, DECISIONS, compression="zstd") as writer,
    ):
        for records in _chunks(_decisions(entries, events), _ROWS):
            writer.write_batch(decision_table(records))
            rows += len(records)
            update(rows)
    print(f"{args.out}: {rows:,} decisions")
    if args.events is not None:
        with atomic_path(args.events) as temporary, open(temporary, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(event.to_dict(), ensure_ascii=False) + "\n" for event in events)
        print(f"{args.events}: {len(events):,} events")
    return 0


def _decisions(
    entries: Iterable[DecisionRecord | DecisionEvent], events: list[DecisionEvent]
) -> Iterator[DecisionRecord]:
    """The decisions; events are collected in `events`."""
    for entry in entries:
        if isinstance(entry, DecisionEvent):
            events.append(entry)
        else:
            yield entry


def _chunks(records: Iterator[DecisionRecord], size: int) -> Iterator[list[DecisionRecord]]:
    while chunk := list(islice(records, size)):
        yield chunk
