"""Clients of the service for `service.py`, in a process of their own.

    python bench/service_load.py PLAN.json OUTPUT.json

A plan with `clients` is a closed loop: each sends the next text when the last is answered. One with `rate` is an open
loop: texts arrive at random (Poisson) times, whether or not earlier ones are answered. A running number is added to
every text, so that no cache answers.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any


class Connections:
    """Kept connections; one is opened where all are busy."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, text: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of `POST /v1/assess`; status 0 if the connection broke."""
        try:
            pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            status, answer = await _exchange(*pair, json.dumps({"input": text}).encode())
        except (OSError, asyncio.IncompleteReadError) as error:
            return 0, {"error": str(error)}
        self._idle.append(pair)
        return status, answer


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, dict[str, Any]]:
    head = "POST /v1/assess HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(":") for line in lines[1:])}
    answer = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), json.loads(answer)


async def load(plan: dict[str, Any]) -> dict[str, Any]:
    """Run the plan; statuses, latencies of the answers with 200 in seconds, and the decisions given out."""
    connections, numbers = Connections(plan["port"]), itertools.count(plan.get("first", 0))
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    decisions: list[str] = []
    started = time.perf_counter()

    async def one() -> None:
        number, begun = next(numbers), time.perf_counter()
        status, answer = await connections.post(f"{plan['texts'][number % len(plan['texts'])]} {number}")
        statuses[status] += 1
        if status == 200:
            latencies.append(time.perf_counter() - begun)
            decisions.extend(d for each in answer["results"] if (d := each.get("decision_id")))

    async def client() -> None:
        while time.perf_counter() - started < plan["seconds"]:
            await one()

    async with asyncio.TaskGroup() as group:
        if "clients" in plan:
            for _ in range(plan["clients"]):
                group.create_task(client())
        else:
            await _arrivals(group, one, plan["rate"], plan["seconds"])
    return {
        "statuses": dict(statuses), "latencies": latencies, "decisions": decisions,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


async def _arrivals(group: asyncio.TaskGroup, one: Any, rate: float, seconds: float) -> None:
    draw, started, due = random.Random(0), time.perf_counter(), 0.0
    while (due := due + draw.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
        group.create_task(one())


if __name__ == "__main__":
    found = asyncio.run(load(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
