"""Heads and tails on a device: every form in every mode, checked against float64, then timed in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.gpu_check.forms import (
    PRECISIONS,
    TOLERANCES,
    HeadSize,
    head_forms,
    in_double,
    random_emotion,
    random_head,
    tail_forms,
    tail_maps,
)
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import measure
from benchmarks.gpu_check.variants import Record, prepare, with_samples
from iern.runtime.errors import EngineError

PARTS = ("tails", "heads")


def configurations(part: str, scale: Scale, skip: Mapping[str, str], device: str) -> Iterator[Record]:
    """Every configuration of `tails` or `heads`, one after another; see `configuration`."""
    for precision in scale.precisions:
        for preset in scale.presets:
            for strata in scale.strata:
                for batch in scale.batches:
                    yield configuration(part, HeadSize.of(preset, strata, batch), precision, scale, skip, device)


def configuration(
    part: str, size: HeadSize, precision: str, scale: Scale, skip: Mapping[str, str], device: str
) -> Record:
    """One configuration of `tails` or `heads`, measured; `skip` says of `kernel` and of modes why not."""
    head, emotion = random_head(size), random_emotion(size)
    rows = sorted({0, size.batch - 1})  # float64 on the CPU takes its time
    expected = in_double(head, emotion, rows).numpy()
    if part == "heads":
        inputs, forms = (emotion,), head_forms(head, precision, "kernel" not in skip)
    else:
        inputs, forms = tail_maps(head, emotion, device), tail_forms(head, precision, "kernel" not in skip)

    def check(answer: list[np.ndarray]) -> Record:
        return deviations(answer, expected, rows, TOLERANCES[precision])

    dtype = PRECISIONS[precision]
    calls, facts, failed = prepare(forms, tuple(tensor.to(dtype) for tensor in inputs), check, skip, device)
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


def deviations(answer: list[np.ndarray], expected: np.ndarray, rows: list[int], tolerance: float) -> Record:
    """An answer for a batch against (len(rows), N, E) stratum logits in float64 of some of its faces.

    `logit_error` is over the range of the logits, `probability_error` absolute. Raises EngineError where the former is
    over `tolerance`, or any number is not finite.
    """
    if not all(np.isfinite(values).all() for values in answer):
        raise EngineError("the answer is not finite")
    probabilities, logits, by_stratum = (values[rows] for values in answer)
    mean = expected.mean(axis=1)
    powers = np.exp(mean - mean.max(axis=1, keepdims=True))
    logit_error = max(np.abs(by_stratum - expected).max(), np.abs(logits - mean).max()) / np.ptp(expected)
    if not logit_error <= tolerance:
        raise EngineError(f"logits differ from float64 by {logit_error:.1e} of their range, over {tolerance}")
    difference = np.abs(probabilities - powers / powers.sum(axis=1, keepdims=True)).max()
    return {"logit_error": float(logit_error), "probability_error": float(difference)}
