"""Heads and tails on a device: every implementation in every mode, checked against float64, then timed in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.common.results import Results
from benchmarks.gpu_check.implementations import (
    PRECISIONS,
    TOLERANCES,
    HeadSize,
    float64_stratum_logits,
    head_implementations,
    random_emotion,
    random_head,
    tail_implementations,
    tail_maps,
)
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import measure
from benchmarks.gpu_check.variants import prepare, with_samples
from iern.runtime.errors import EngineError
from iern.runtime.intervention import softmax

PARTS = ("tails", "heads")


def configurations(part: str, scale: Scale, skip: Mapping[str, str], device: str) -> Iterator[Results]:
    """Every configuration of `tails` or `heads`, one after another; see `configuration`."""
    for precision in scale.precisions:
        for preset in scale.presets:
            for strata in scale.strata:
                for batch in scale.batches:
                    yield configuration(part, HeadSize.of(preset, strata, batch), precision, scale, skip, device)


def configuration(
    part: str, size: HeadSize, precision: str, scale: Scale, skip: Mapping[str, str], device: str
) -> Results:
    """Measure one configuration of `tails` or `heads`. `skip` holds why `kernel` and modes are skipped."""
    head, emotion = random_head(size), random_emotion(size)
    rows = sorted({0, size.batch - 1})  # float64 on the CPU is slow
    expected = float64_stratum_logits(head, emotion, rows).numpy()
    if part == "heads":
        inputs, implementations = (emotion,), head_implementations(head, precision, "kernel" not in skip)
    else:
        inputs = tail_maps(head, emotion, device)
        implementations = tail_implementations(head, precision, "kernel" not in skip)

    def check(outputs: list[np.ndarray]) -> Results:
        return errors_against_float64(outputs, expected, rows, TOLERANCES[precision])

    dtype = PRECISIONS[precision]
    calls, facts, failed = prepare(implementations, tuple(tensor.to(dtype) for tensor in inputs), check, skip, device)
    samples = measure(calls, scale.most, scale.least, scale.seconds)
    return {
        "part": part,
        "preset": size.preset,
        "precision": precision,
        "strata": size.strata,
        "batch": size.batch,
        "variants": with_samples(facts, samples),
        "failed": failed,
    }


def errors_against_float64(
    outputs: list[np.ndarray], expected: np.ndarray, rows: list[int], tolerance: float
) -> Results:
    """Compare the outputs for a batch with (len(rows), N, E) stratum logits in float64 of some of its faces.

    `logit_error` is over the range of the logits, `probability_error` is absolute. Raises EngineError if the former is
    over `tolerance`, or any number is not finite.
    """
    if not all(np.isfinite(values).all() for values in outputs):
        raise EngineError("the outputs are not finite")
    probabilities, logits, by_stratum = (values[rows] for values in outputs)
    mean = expected.mean(axis=1)
    logit_error = max(np.abs(by_stratum - expected).max(), np.abs(logits - mean).max()) / np.ptp(expected)
    if not logit_error <= tolerance:
        raise EngineError(f"logits differ from float64 by {logit_error:.1e} of their range, over {tolerance}")
    difference = np.abs(probabilities - softmax(mean)).max()
    return {"logit_error": float(logit_error), "probability_error": float(difference)}
