"""Spark and Daft against the bare scorer on the same rows and cores: speed, memory, loads, and killed workers.

    python -m bulk.engines BUNDLE --data merchants.jsonl --rows 20000 --cores 2
    python -m bulk.engines BUNDLE --rows 1000000 --short --only core

`core` is `serve.bulk`'s record-batch function in this process, which also shows whether memory stays flat; Daft takes the same
function (`pip install daft`; it is left out where it is not installed). Each engine runs in its own process and reads the
same Parquet file; the time includes writing the results, and for the scorer making them.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from guard import guarded

from merchantguard.data.records.readers import read_records
from merchantguard.serve import Scorer
from merchantguard.serve.bulk.core import BatchScorer
from merchantguard.serve.bulk.spark import loads, score_dataframe, session

_BATCH_ROWS = 1_000
_WORDS = [
    "tea",
    "coffee",
    "shop",
    "order",
    "today",
    "letter",
    "cup",
    "green",
    "black",
    "sale",
    "new",
    "price",
    "town",
    "paper",
    "card",
    "gift",
    "blue",
    "small",
]


def write_rows(path: Path, rows: int, data: list[Path], short: bool, seed: int) -> None:
    """`rows` texts, drawn from records or made of a few words, no two alike."""
    draw = random.Random(seed)
    texts = [] if short else [record.text for record in read_records(data, None).records]
    made = [
        f"{' '.join(draw.choices(_WORDS, k=8))} {n}" if short else f"{texts[n % len(texts)]} {n}"
        for n in range(rows)
    ]
    table = pa.table({"id": [str(n) for n in range(rows)], "text": made})
    pq.write_table(table, path, row_group_size=max(1, min(10_000, rows // 16)))


def scorer_alone(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """`Scorer.assess_many` over the texts, without any engine."""
    scorer = Scorer.load(args.bundle, threads=args.cores)
    began = time.perf_counter()
    texts = (text for batch in pq.ParquetFile(source).iter_batches() for text in batch["text"].to_pylist())
    rows = sum(1 for _ in scorer.assess_many(texts))
    return {"seconds": time.perf_counter() - began, "rows": rows}


def core(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """The record-batch function in this process; memory after a tenth of the rows and at the end."""
    scorer = Scorer.load(args.bundle, threads=args.cores)
    file = pq.ParquetFile(source)
    score = BatchScorer(scorer, file.schema_arrow)
    began, done, early = time.perf_counter(), 0, 0.0
    with pq.ParquetWriter(out, score.schema) as writer:
        for batch in file.iter_batches(_BATCH_ROWS):
            writer.write_batch(score(batch))
            done += batch.num_rows
            if not early and done >= args.rows / 10:
                early = _resident()
    return {
        "seconds": time.perf_counter() - began,
        "rows": done,
        "MB at 10 %": early,
        "MB at the end": _resident(),
    }


def spark(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """`score_dataframe`, warm: the session, the workers and the bundle are there before the clock starts."""
    opened = _session(args)
    scored = score_dataframe(opened.read.parquet(str(source)), args.bundle)
    scored.limit(2).collect()
    began = time.perf_counter()
    scored.write.parquet(str(out))
    return {"seconds": time.perf_counter() - began, "rows": opened.read.parquet(str(out)).count()}


def spark_loads(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """How often 16 small tasks open the bundle."""

    def count(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield pa.RecordBatch.from_pydict(
                {"pid": [os.getpid()] * batch.num_rows, "loads": [loads()] * batch.num_rows}
            )

    opened = _session(args)
    df = opened.read.parquet(str(source)).limit(160).repartition(16)
    rows = score_dataframe(df, args.bundle).mapInArrow(count, "pid long, loads long").collect()
    found = {row["pid"]: row["loads"] for row in rows}
    return {"tasks": 16, "processes": len(found), "loads": sum(found.values()), "cores": args.cores}


def spark_killed(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """One Python worker killed in the middle: rows that are lost or doubled."""
    opened = _session(args)
    scored = score_dataframe(opened.read.parquet(str(source)), args.bundle)
    return _with_a_kill(args, lambda: scored.write.parquet(str(out)), out, "pyspark.daemon")


def daft(args: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """The same function as a batch function of Daft, in this process's threads."""
    frame = _daft(args, source)
    began = time.perf_counter()
    frame.write_parquet(str(out))
    return {"seconds": time.perf_counter() - began, "rows": pq.read_table(out).num_rows}


def _daft(args: argparse.Namespace, source: Path) -> Any:
    import daft as engine

    file = pq.ParquetFile(source)
    score = BatchScorer(
        Scorer.load(args.bundle, threads=args.cores),
        pa.schema({"text": file.schema_arrow.field("text").type}),
    )
    kind = engine.DataType.from_arrow_type(
        pa.struct([score.schema.field(name) for name in ("decision", "any_violation", "error")])
    )

    @engine.func.batch(return_dtype=kind)
    def scored(texts: Any) -> Any:
        rows = score(pa.RecordBatch.from_arrays([texts.to_arrow().cast(pa.large_string())], names=["text"]))
        return pa.array(rows.select(["decision", "any_violation", "error"]).to_pylist())

    frame = engine.read_parquet(str(source))
    return frame.with_column("scored", scored(engine.col("text")))


def _session(args: argparse.Namespace) -> Any:
    settings = {"spark_ui_enabled": "false", "spark_driver_memory": "2g"}
    opened = session(f"local[{args.cores},4]", **settings)
    opened.sparkContext.setLogLevel("ERROR")
    return opened


def _with_a_kill(
    args: argparse.Namespace, work: Callable[[], Any], out: Path, command: str
) -> dict[str, Any]:
    faults: list[str] = []

    def guarded_work() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001
            faults.append(type(error).__name__)

    thread = threading.Thread(target=guarded_work)
    thread.start()
    killed = 0
    while thread.is_alive() and not killed:
        time.sleep(0.2)
        for pid in _busy_workers(command):
            os.kill(pid, signal.SIGKILL)
            killed += 1
            break
    thread.join()
    ids = pq.read_table(out, columns=["id"])["id"].to_pylist() if out.exists() else []
    lost = args.rows - len(set(ids))
    return {
        "killed": killed,
        "failed": ",".join(faults) or "no",
        "lost": lost,
        "doubled": len(ids) - len(set(ids)),
    }


def _busy_workers(command: str) -> list[int]:
    """Workers below this process that have computed for a second and more."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,cputimes,args"], check=True, capture_output=True, text=True
    ).stdout
    lines = [line.split(None, 3) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, *_ in lines}
    found = []
    for pid, parent, seconds, *args in lines:
        above, steps = int(parent), 0
        while above in parents and above != os.getpid() and steps < 20:
            above, steps = parents[above], steps + 1
        if args and command in args[0] and above == os.getpid() and int(seconds) >= 1:
            found.append(int(pid))
    return found


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


ENGINES = {each.__name__: each for each in (scorer_alone, core, spark, spark_loads, spark_killed, daft)}


def main() -> int:
    """Run each engine in its own process and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--short", action="store_true", help="texts of some ten words")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        name, source, out = args.inside.split(",")
        print("FIGURES " + json.dumps(ENGINES[name](args, Path(source), Path(out))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.parquet"
        write_rows(source, args.rows, args.data, args.short or not args.data, args.seed)
        for name in args.only:
            _run(name, source, Path(folder) / f"{name}.parquet")
    return 0


def _run(name: str, source: Path, out: Path) -> None:
    command = [sys.executable, "-m", "bulk.engines", *sys.argv[1:], "--inside", f"{name},{source},{out}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("FIGURES ")), None)
    if line is None:
        print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1:]} |", flush=True)
        return
    figures = json.loads(line.removeprefix("FIGURES "))
    if "seconds" in figures:
        figures["rows/s"] = round(figures["rows"] / figures["seconds"], 1)
        figures["seconds"] = round(figures["seconds"], 1)
    print(f"| {name} | {' | '.join(f'{key} {value}' for key, value in figures.items())} |", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
