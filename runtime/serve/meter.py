"""The loop's figures for Prometheus, in a registry of their own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from iern.runtime.faces.face import UNCERTAIN
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.serve.feed import Feed

if TYPE_CHECKING:
    import prometheus_client as prometheus
else:
    prometheus = importlib.import_module("prometheus_client")

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus wants to hear of `Meter.text`."""
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Bounds of the latencies' buckets."""
SHARES = tuple(tenth / 10 for tenth in range(1, 10))


class Meter:
    """A sink that counts; `text` is what Prometheus reads."""

    def __init__(self, feed: Feed) -> None:
        self._registry = registry = prometheus.CollectorRegistry()
        self._frames = prometheus.Counter("iern_frames", "Frames judged.", registry=registry)
        self._dropped = prometheus.Counter("iern_dropped_frames", "Frames that came too fast.", registry=registry)
        self._faces = prometheus.Counter(
            "iern_faces", "Faces judged; those below the threshold as uncertain.", ["expression"], registry=registry
        )
        about = "Time of a frame in each stage, and its age at its answers."
        self._latency = prometheus.Histogram(
            "iern_latency_seconds", about, ["stage"], buckets=SECONDS, registry=registry
        )
        about = "How much a face's answer depends on the context."
        self._disagreement = prometheus.Histogram("iern_stratum_disagreement", about, buckets=SHARES, registry=registry)
        about = "Since the last frame; NaN before the first."
        prometheus.Gauge("iern_silence_seconds", about, registry=registry).set_function(feed.silence)
        prometheus.Gauge("iern_viewers", "Open pages.", registry=registry).set_function(lambda: feed.watchers)
        self._dropped_before = 0

    def __call__(self, view: FrameResult) -> None:
        self._frames.inc()
        fewer = view.dropped < self._dropped_before  # another source counts anew
        self._dropped.inc(view.dropped - (0 if fewer else self._dropped_before))
        self._dropped_before = view.dropped
        for stage, milliseconds in view.latency.stages().items():
            self._latency.labels(stage).observe(milliseconds / 1000)
        for face in view.faces:
            self._faces.labels(UNCERTAIN if face.uncertain else face.expression).inc()
            self._disagreement.observe(face.disagreement)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return prometheus.generate_latest(self._registry)
