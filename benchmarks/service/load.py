"""Clients that send pictures to the service as fast as it answers, and count every answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

REQUEST_SECONDS = 60.0
"""Seconds after which an answer counts as lost."""


@dataclass
class Load:
    """What a number of clients got during a time."""

    clients: int
    seconds: float = 0.0
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Milliseconds from sending a picture until its answer with status 200."""
    wrong: int = 0
    """Answers with other expressions than the library's for that picture."""
    lost: int = 0
    """Requests without an answer."""
    without_retry: int = 0
    """Refusals with 503 that do not say when to try again."""


def load(url: str, pictures: Sequence[bytes], expected: Sequence[Sequence[str]], clients: int, seconds: float) -> Load:
    """Run that many clients for that time. `expected` are the library's expressions of each picture.

    Every client sends the next picture when it has its answer. At the end each waits for its last answer.
    """
    return asyncio.run(_load(url, pictures, expected, clients, seconds))


async def _load(
    url: str, pictures: Sequence[bytes], expected: Sequence[Sequence[str]], clients: int, seconds: float
) -> Load:
    found = Load(clients)
    following = itertools.cycle(range(len(pictures)))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(REQUEST_SECONDS)) as session:
        began = time.perf_counter()

        async def client() -> None:
            while time.perf_counter() - began < seconds:
                number = next(following)
                await _send(session, f"{url}v1/faces", pictures[number], expected[number], found)

        await asyncio.gather(*(client() for _ in range(clients)))
        found.seconds = time.perf_counter() - began
    return found


async def _send(session: aiohttp.ClientSession, url: str, picture: bytes, expected: Sequence[str], found: Load) -> None:
    found.sent += 1
    began = time.perf_counter()
    try:
        async with session.post(url, data=picture) as reply:
            answer = json.loads(await reply.read())
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError):
        found.lost += 1
        return
    found.statuses[reply.status] += 1
    if reply.status == 200:
        found.latencies.append(1000 * (time.perf_counter() - began))
        found.wrong += [face["expression"] for face in answer["faces"]] != list(expected)
    elif reply.status == 503:
        found.without_retry += "Retry-After" not in reply.headers
        await asyncio.sleep(0.05)  # much earlier than asked: the queue is to stay full


def batch_means(before: str, after: str) -> float:
    """The mean number of pictures of the batches between two readings of /metrics. NaN without a batch."""
    count, pictures = (
        _value(after, f"iern_batch_pictures_{name}") - _value(before, f"iern_batch_pictures_{name}")
        for name in ("count", "sum")
    )
    return pictures / count if count else float("nan")


def _value(text: str, name: str) -> float:
    lines: Iterator[str] = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(next(lines).split()[1])
