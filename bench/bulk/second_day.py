"""What a second day costs on which little changed, and what skipping by an older bundle's score may lose.

python -m bulk.second_day BUNDLE merchants.jsonl --changed 0.02
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from guard import guarded

from merchantguard.data.records.readers import read_records, write_records
from merchantguard.data.records.record import record_to_row
from merchantguard.serve.cli import score


def timed(*arguments: object) -> float:
    """Seconds of one call of `merchantguard score`, loading the bundle included."""
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    began = time.perf_counter()
    score.main(parser.parse_args(list(map(str, arguments))))
    return time.perf_counter() - began


def changed_rows(rows: Sequence[dict[str, object]], share: float, seed: int) -> list[dict[str, object]]:
    """The rows with a word appended to that share of the texts."""
    draw = random.Random(seed)
    chosen = set(draw.sample(range(len(rows)), round(share * len(rows))))
    return [
        row | {"text": f"{row['text']} today"} if place in chosen else row for place, row in enumerate(rows)
    ]


def main() -> int:
    """Score a first and a second day, and print both times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--changed", type=float, default=0.02)
    parser.add_argument("--limit", type=int, default=5_000, help="rows (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = [record_to_row(record) for record in read_records(args.files, None).records[: args.limit]]
    rows = [{"id": row["id"], "text": row["text"]} for row in rows if "text" in row]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_records(rows, folder / "one.jsonl")
        write_records(changed_rows(rows, args.changed, args.seed), folder / "two.jsonl")
        given = [args.bundle, "--threads", args.threads]
        first = timed(*given, folder / "one.jsonl", "--out", folder / "one.parquet")
        reuse = ["--previous", folder / "one.parquet"]
        second = timed(*given, folder / "two.jsonl", *reuse, "--out", folder / "two.parquet")
    print("| rows | changed | first day, s | second day, s | share |")
    print("|---|---|---|---|---|")
    print(f"| {len(rows):,} | {args.changed:.1%} | {first:.1f} | {second:.1f} | {second / first:.1%} |")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
