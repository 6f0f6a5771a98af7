"""What `python -m benchmarks.service` measured: figures, the goals that are missed, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common.results import Results
from benchmarks.service.load import Load
from iern.train.evaluation.markdown import markdown_table

GOAL = 0.8
"""Least pictures a second of the service, over those of the library alone in the same round."""


def figures(loads: Sequence[Load], ratios: Sequence[float], batch: float) -> dict[str, Any]:
    """The figures of all rounds with one number of clients. `batch` is the mean size of a batch."""
    latencies = [each for load in loads for each in load.latencies]
    return {
        "clients": loads[0].clients,
        "rate": sum(load.statuses[200] for load in loads) / sum(load.seconds for load in loads),
        "ratio": float(np.median(ratios)),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 1) for q in (50, 99)} if latencies else None,
        "batch": batch,
        **counts(loads),
    }


def counts(loads: Sequence[Load]) -> dict[str, Any]:
    """How the requests ended."""
    statuses = sorted({status for load in loads for status in load.statuses})
    return {
        "sent": sum(load.sent for load in loads),
        "statuses": {str(status): sum(load.statuses[status] for load in loads) for status in statuses},
        "wrong": sum(load.wrong for load in loads),
        "lost": sum(load.lost for load in loads),
        "without_retry": sum(load.without_retry for load in loads),
    }


def missed_goals(results: Results) -> list[str]:
    """One sentence for each goal that is missed."""
    found = []
    for row in results["clients"]:
        if row["ratio"] < GOAL:
            found.append(f"{row['clients']} clients: {row['ratio']:.2f} times the library's rate, expected {GOAL:g}")
        if set(row["statuses"]) != {"200"}:
            found.append(f"{row['clients']} clients: answers {row['statuses']}, expected 200 only")
    full = results["full"]
    if not full["statuses"].get("503"):
        found.append("the full queue: no request was refused with 503")
    if set(full["statuses"]) - {"200", "503"}:
        found.append(f"the full queue: answers {full['statuses']}, expected 200 and 503 only")
    if full["without_retry"]:
        found.append(f"the full queue: {full['without_retry']} refusals without Retry-After")
    for row, name in [*((row, f"{row['clients']} clients") for row in results["clients"]), (full, "the full queue")]:
        if row["lost"] or row["wrong"]:
            found.append(f"{name}: {row['lost']} requests without an answer, {row['wrong']} answers of other faces")
    if results["status"] != 0:
        found.append(f"the service ended with status {results['status']} after SIGTERM, expected 0")
    return found


def markdown(results: Results) -> str:
    """The run as a page."""
    machine, full = results["machine"], results["full"]
    rows = [
        (
            str(row["clients"]),
            f"{row['rate']:.1f}",
            f"{row['ratio']:.2f}",
            "none" if row["latency_ms"] is None else f"{row['latency_ms']['p50']:.0f}, {row['latency_ms']['p99']:.0f}",
            f"{row['batch']:.1f}",
            str(row["sent"]),
        )
        for row in results["clients"]
    ]
    head = ("clients", "pictures/s", "over the library", "latency, ms (p50, p99)", "pictures a batch", "requests")
    answers = ", ".join(f"{count} with {status}" for status, count in full["statuses"].items())
    parts = [
        "# The service under load",
        f"{results['measured']}, {machine['processor']}, cores {machine['cores']}, load {machine['load']:.1f} when it "
        f"began, Python {machine['python']}. Written by `python -m benchmarks.service`.",
        f"Clients on the same machine send {results['pictures']} JPEGs of {results['size']} and wait for each answer. "
        "The library alone decodes and recognises the same pictures, one after another, in a process of its own: "
        f"{results['library_rate']:.1f} pictures/s. Both take turns of {results['seconds']:g} s for "
        f"{results['rounds']} rounds; the ratio is the median of the rounds, because other work on the machine slows "
        "both. The clients and HTTP share the cores with the service.",
        markdown_table(head, rows, left=0),
        f"With {full['clients']} clients and a queue of {full['waiting']}: {answers}, of {full['sent']} requests. "
        f"{full['lost']} were lost. Every refusal had Retry-After: {'no' if full['without_retry'] else 'yes'}.",
        "\n".join(f"- {goal}" for goal in results["missed"])
        or f"No goal is missed: at least {GOAL:g} of the library's rate, nothing lost, every answer the library's.",
    ]
    return "\n\n".join(parts) + "\n"
