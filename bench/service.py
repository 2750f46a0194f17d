"""The HTTP service: its throughput beside that of the micro-batcher in process, its answers under load, hot swaps.

    python bench/service.py bundle/ --seconds 20 --load-seconds 600 --swaps 20 --out service.json

Throughput: `--clients` clients in a process of their own, first without HTTP in this process, then over HTTP, by turns.
Load: texts arrive at random times at 0.5, 1 and 3 times the measured capacity, with a decision log; afterwards every
decision that was given out must be in the log, once. Swaps: as many exchanges of the bundle as asked for while clients
assess; every answer must be 200. Exit status 1 if something was lost, or answered with another status than 200, 429.

Other servers of the same model (infinity, LitServe, mosec) are measured by `python -m serving.compare`.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guard import guarded

from merchantguard.core.errors import SettingsError
from merchantguard.core.files import write_json
from merchantguard.data.records.readers import read_records
from merchantguard.data.shipped import corpus_paths
from merchantguard.operate.log import read_log, verify
from merchantguard.serve import MicroBatcher, Scorer
from merchantguard.serve.decision_record import DecisionRecord

_ADMIN = "benchmark-admin-key"


class Server:
    """A running `merchantguard serve`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def swap(self) -> None:
        """Exchange the bundle for itself."""
        url = f"http://127.0.0.1:{self.port}/v1/model"
        headers = {"x-api-key": _ADMIN, "content-type": "application/json"}
        request = urllib.request.Request(url, b"{}", headers, method="POST")
        with urllib.request.urlopen(request) as answer:
            answer.read()


@contextmanager
def serving(bundle: Path, folder: Path, *arguments: str) -> Iterator[Server]:
    """The service in a process of its own, its log in a file."""
    command = [
        sys.executable,
        "-m",
        "merchantguard.cli",
        "serve",
        str(bundle),
        "--port",
        "0",
        "--pause",
        "0",
        *arguments,
    ]
    environment = {**os.environ, "MERCHANTGUARD_ADMIN_KEYS": _ADMIN}
    log = folder / "service.log"
    with open(log, "w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stderr=stream, text=True, env=environment)
    try:
        yield Server(process, _port(process, log))
    finally:
        process.terminate()
        process.wait(timeout=120)


def _port(process: "subprocess.Popen[str]", log: Path) -> int:
    while process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"listening"' in line:
                return int(json.loads(line)["url"].rpartition(":")[2])
        time.sleep(0.1)
    raise SettingsError(f"the service did not start: {log.read_text(encoding='utf-8')[-2000:]}")


@contextmanager
def clients(folder: Path, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Clients that run the plan meanwhile; what they found is in the mapping after the block."""
    source, target = folder / "plan.json", folder / "found.json"
    source.write_text(json.dumps(plan), encoding="utf-8")
    script = Path(__file__).with_name("service_load.py")
    found: dict[str, Any] = {}
    with subprocess.Popen([sys.executable, str(script), str(source), str(target)]) as process:
        yield found
    if process.returncode:
        raise RuntimeError("the clients failed")
    found.update(json.loads(target.read_text(encoding="utf-8")))


def in_process(scorer: Scorer, texts: list[str], count: int, seconds: float) -> dict[str, float]:
    """The same closed loop against a micro-batcher of this process."""
    latencies: list[float] = []
    started, number = time.perf_counter(), 10_000_000

    async def client(batcher: MicroBatcher) -> None:
        nonlocal number
        while (begun := time.perf_counter()) - started < seconds:
            number += 1
            await batcher.assess_async(f"{texts[number % len(texts)]} {number}")
            latencies.append(time.perf_counter() - begun)

    async def all_clients(batcher: MicroBatcher) -> None:
        await asyncio.gather(*(client(batcher) for _ in range(count)))

    with MicroBatcher(scorer) as batcher:
        asyncio.run(all_clients(batcher))
    return _figures(latencies, time.perf_counter() - started)


def _figures(latencies: list[float], seconds: float) -> dict[str, float]:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"texts_per_second": len(latencies) / seconds, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


def throughput(args: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, Any]:
    """In process and over HTTP by turns; the ratio is that of the medians."""
    options = ["--threads", str(args.threads)]
    scorer = Scorer.load(args.bundle, threads=args.threads)
    turns: dict[str, list[dict[str, float]]] = {"in process": [], "HTTP": []}
    with serving(args.bundle, folder, *options) as server:
        for turn in range(args.repeats):
            turns["in process"].append(in_process(scorer, texts, args.clients, args.seconds))
            plan = {
                "port": server.port, "texts": texts, "clients": args.clients, "seconds": args.seconds,
                "first": turn * 1_000_000,
            }  # fmt: skip
            with clients(folder, plan) as found:
                pass
            turns["HTTP"].append(_figures(found["latencies"], found["seconds"]))
    median = {
        name: statistics.median(each["texts_per_second"] for each in found) for name, found in turns.items()
    }
    return {"turns": turns, "ratio": median["HTTP"] / median["in process"], "capacity": median["HTTP"]}


def under_load(
    args: argparse.Namespace, texts: list[str], folder: Path, rate: float, name: str
) -> dict[str, Any]:
    """An open loop at `rate` texts per second, with a decision log that must hold all that was given out."""
    log = folder / f"log-{name}"
    with serving(args.bundle, folder, "--threads", str(args.threads), "--log", str(log)) as server:
        plan = {"port": server.port, "texts": texts, "rate": rate, "seconds": args.load_seconds}
        memory = []
        with clients(folder, plan) as found:
            for _ in range(10):
                time.sleep(args.load_seconds / 10)
                memory.append(round(server.resident_mb, 1))
    logged = Counter(entry.decision_id for entry in read_log(log) if isinstance(entry, DecisionRecord))
    given = found["decisions"]
    return _figures(found["latencies"], found["seconds"]) | {
        "load": name,
        "rate": rate,
        "statuses": found["statuses"],
        "resident_mb": memory,
        "given_out": len(given),
        "lost": sum(each not in logged for each in given),
        "twice": sum(count > 1 for count in logged.values()),
        "log_faults": list(verify(log).faults),
    }


def swaps(args: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, Any]:
    """Exchanges of the bundle while clients assess."""
    with serving(args.bundle, folder, "--threads", str(args.threads)) as server:
        plan = {"port": server.port, "texts": texts, "clients": 8, "seconds": args.swaps * args.swap_seconds}
        memory = [round(server.resident_mb, 1)]
        with clients(folder, plan) as found:
            for _ in range(args.swaps):
                server.swap()
                memory.append(round(server.resident_mb, 1))
    return {"swaps": args.swaps, "statuses": found["statuses"], "resident_mb": memory}


def main() -> int:
    """Measure, print, and say whether something was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="a bundle with golden.jsonl")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn of the throughput")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--load-seconds", type=float, default=600.0, help="of each load")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--swap-seconds", type=float, default=3.0, help="of load for each exchange")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    args = parser.parse_args()
    texts = [record.text for record in read_records(corpus_paths(), None).records]
    with tempfile.TemporaryDirectory(prefix="service-") as name:
        folder = Path(name)
        found: dict[str, Any] = {"throughput": throughput(args, texts, folder)}
        capacity = found["throughput"]["capacity"]
        found["loads"] = [
            under_load(args, texts, folder, capacity * times, f"{times}x") for times in (0.5, 1, 3)
        ]
        found["swaps"] = swaps(args, texts, folder)
    print(json.dumps(found, indent=2))
    if args.out is not None:
        write_json(args.out, found)
    return 0 if _sound(found) else 1


def _sound(found: dict[str, Any]) -> bool:
    loads = found["loads"]
    answered = {status for each in loads for status in each["statuses"]}
    lost = any(each["lost"] or each["twice"] or each["log_faults"] for each in loads)
    return answered <= {"200", "429"} and not lost and set(found["swaps"]["statuses"]) == {"200"}


if __name__ == "__main__":
    sys.exit(guarded(main))
