"""Metrics of the service for Prometheus: those of the loop, and those of its requests and batches."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.serve.prometheus_metrics import PrometheusMetrics

if TYPE_CHECKING:
    import prometheus_client as prometheus
else:
    prometheus = importlib.import_module("prometheus_client")

BATCH_BOUNDS = (1, 2, 4, 8, 16)
"""Bounds of the buckets of the histogram of batches, in pictures."""


class ServiceMetrics:
    """Counts requests, batches and results. `viewers` is the number of open cameras."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """`waiting` returns the requests that are being received, wait or are answered."""
        self.viewers = 0
        self._last = float("nan")
        self._dropped = 0
        self._results = PrometheusMetrics(self)
        registry = self._results.registry
        self._requests = prometheus.Counter(
            "iern_requests", "Answers of the service by HTTP status.", ["status"], registry=registry
        )
        self._batches = prometheus.Histogram(
            "iern_batch_pictures", "Pictures of a batch.", buckets=BATCH_BOUNDS, registry=registry
        )
        queue = prometheus.Gauge("iern_waiting_requests", "Requests that are not answered yet.", registry=registry)
        queue.set_function(waiting)

    def __call__(self, result: FrameResult, dropped: int = 0) -> None:
        """Count a picture or a camera's frame that was answered, and the frames that were dropped for it."""
        self._last = time.monotonic()
        self._dropped += dropped
        self._results(dataclasses.replace(result, dropped=self._dropped))

    def add_batch(self, pictures: int) -> None:
        """Count a batch."""
        self._batches.observe(pictures)

    def add_status(self, status: int) -> None:
        """Count an answer."""
        self._requests.labels(str(status)).inc()

    def seconds_since_last(self) -> float:
        """Seconds since the last result. NaN before the first."""
        return time.monotonic() - self._last

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self._results.text()
