"""Divides the cores between the processes of pytest-xdist, so that tests that run at once do not compete for them."""

from __future__ import annotations

import os


def pytest_configure() -> None:
    """Keep a process of pytest-xdist, and the processes that its tests start, to its own share of the cores.

    Otherwise each test starts as many threads as the machine has cores (`cpu_budget`), and they wait for those of the
    other processes. Without pytest-xdist, a test has all cores.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if worker.isdigit() and hasattr(os, "sched_setaffinity"):
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(worker) % count :: count] or cores)
