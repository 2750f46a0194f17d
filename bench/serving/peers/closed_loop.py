"""Clients that each send the next request as soon as the last one is answered; as a script, over HTTP.

    PYTHON closed_loop.py PORT PATH INPUT.json OUTPUT.json

A running number is added to every text, so that no cache answers for the model. The clients warm up for half a slice
that does not count; then come `repeats` slices of `seconds` each, without a pause between them.
"""

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from harness import Job, read_job

Ask = Callable[[int, int], Awaitable[None]]
"""(client, running number of the request) -> answered."""


async def closed_loop(ask: Ask, *, clients: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Run the clients through all slices; requests on their way at the end are waited for."""
    numbers = itertools.count()
    answered: list[tuple[float, float]] = []
    started = time.perf_counter()
    warm = seconds / 2

    async def client(number: int) -> None:
        while (begun := time.perf_counter()) - started < warm + seconds * repeats:
            await ask(number, next(numbers))
            ended = time.perf_counter()
            answered.append((ended - started - warm, ended - begun))

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    return summarise(answered, seconds=seconds, repeats=repeats)


def summarise(answered: Sequence[tuple[float, float]], *, seconds: float, repeats: int) -> dict[str, Any]:
    """Texts per second of each slice, and latencies over all of them in ms, from (end, latency) in seconds."""
    counts = [0] * repeats
    latencies = []
    for end, latency in answered:
        if 0 <= end < seconds * repeats:
            counts[int(end / seconds)] += 1
            latencies.append(latency * 1000)
    if min(counts) == 0 or len(latencies) < 2:
        raise RuntimeError(f"too few answers in slices of {seconds:g} s: {counts}; take longer ones")
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "texts_per_second": [count / seconds for count in counts],
        "answers": len(latencies),
        "p50_ms": cuts[49],
        "p99_ms": cuts[98],
    }


def numbered(windows: Sequence[str], number: int) -> list[str]:
    """The windows of request `number`: its last one ends with the number."""
    return [*windows[:-1], f"{windows[-1]} {number}"]


async def http_loop(job: Job, *, port: int, path: str) -> dict[str, Any]:
    """The closed loop over HTTP, one kept connection per client."""
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(job.clients)]

    async def ask(client: int, number: int) -> None:
        windows = numbered(job.windows[number % len(job.windows)], number)
        await post(*pairs[client], path, {"windows": windows})

    try:
        return await closed_loop(ask, clients=job.clients, seconds=job.seconds, repeats=job.repeats)
    finally:
        for _, writer in pairs:
            writer.close()


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, content: dict[str, Any]
) -> bytes:
    """Post JSON and give the answer's body.

    :raises RuntimeError: with the answer, if its status is not 200.
    """
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(":") for line in lines[1:])}
    answer = await reader.readexactly(int(headers["content-length"]))
    if lines[0].split()[1] != "200":
        raise RuntimeError(f"{lines[0]}: {answer[:500]!r}")
    return answer


def main() -> int:
    """Measure the server that listens on PORT."""
    port, path, source, target = sys.argv[1:5]
    job = read_job(Path(), Path(source))
    found = asyncio.run(http_loop(job, port=int(port), path=path))
    Path(target).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
