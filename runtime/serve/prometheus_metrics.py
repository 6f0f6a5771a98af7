"""Metrics of the loop for Prometheus, in a registry of their own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.outputs.frame_result import FrameResult

if TYPE_CHECKING:
    import prometheus_client as prometheus
else:
    prometheus = importlib.import_module("prometheus_client")

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of `PrometheusMetrics.text`."""
LATENCY_BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Bounds of the buckets of the latency histogram, in seconds."""
DISAGREEMENT_BOUNDS = tuple(tenth / 10 for tenth in range(1, 10))
"""Bounds of the buckets of the disagreement histogram."""


class Watched(Protocol):
    """What the gauges show: a `LiveFeed` of the loop, or the service."""

    viewers: int

    def seconds_since_last(self) -> float:
        """Seconds since the last result. NaN before the first."""


class PrometheusMetrics:
    """A sink that counts results. `text` is the page that Prometheus reads."""

    def __init__(self, feed: Watched) -> None:
        self.registry = registry = prometheus.CollectorRegistry()
        self._frames = prometheus.Counter("iern_frames", "Frames analysed.", registry=registry)
        self._dropped = prometheus.Counter("iern_dropped_frames", "Frames that came too fast.", registry=registry)
        self._faces = prometheus.Counter(
            "iern_faces", "Faces by expression; below the threshold: uncertain.", ["expression"], registry=registry
        )
        self._latency = prometheus.Histogram(
            "iern_latency_seconds",
            "Time of a frame in each stage, and its age when it has its predictions.",
            ["stage"],
            buckets=LATENCY_BOUNDS,
            registry=registry,
        )
        self._disagreement = prometheus.Histogram(
            "iern_stratum_disagreement",
            "How far the predictions under the single strata are from their mean.",
            buckets=DISAGREEMENT_BOUNDS,
            registry=registry,
        )
        silence = prometheus.Gauge(
            "iern_silence_seconds", "Seconds since the last frame; NaN before the first.", registry=registry
        )
        silence.set_function(feed.seconds_since_last)
        viewers = prometheus.Gauge("iern_viewers", "Open pages.", registry=registry)
        viewers.set_function(lambda: feed.viewers)
        self._dropped_before: dict[str, int] = {}
        self._by_source: prometheus.Counter | None = None

    def __call__(self, result: FrameResult) -> None:
        self._frames.inc()
        source = result.frame.source
        if source:
            self._count_source(source)
        before = self._dropped_before.get(source, 0)
        restarted = result.dropped < before  # another source counts from 0
        self._dropped.inc(result.dropped - (0 if restarted else before))
        self._dropped_before[source] = result.dropped
        for stage, milliseconds in result.latency.stages().items():
            self._latency.labels(stage).observe(milliseconds / 1000)
        for face in result.faces:
            self._faces.labels(UNCERTAIN if face.uncertain else face.expression).inc()
            if face.disagreement is not None:
                self._disagreement.observe(face.disagreement)

    def _count_source(self, source: str) -> None:
        """Count a frame of one of several sources. A single source has no such metric."""
        if self._by_source is None:
            self._by_source = prometheus.Counter(
                "iern_source_frames", "Frames analysed, by source.", ["source"], registry=self.registry
            )
        self._by_source.labels(source).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)
