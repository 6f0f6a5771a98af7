"""Every implementation of a head agrees with float64 before it is timed, and the clocks are right. All on the CPU."""

from __future__ import annotations

import dataclasses
import json
import statistics as standard
import time

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gpu_check.heads import configuration, errors_against_float64
from benchmarks.gpu_check.implementations import (
    BATCHED,
    EXACT,
    KERNEL,
    LAYERS,
    PUBLISHED,
    WINDOWS,
    HeadSize,
    random_emotion,
    random_head,
)
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import CallTimes, PreparedCall, by_clock, measure, statistics
from benchmarks.gpu_check.variants import COMPILED, EAGER, GRAPH, prepare
from iern.runtime.errors import EngineError

TINY = Scale(most=4, least=2, seconds=0.1)
SIZE = HeadSize("tiny", width=8, strata=3, batch=3, side=5)
ON_CPU = {GRAPH: "no GPU", COMPILED: "takes long"}


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch):
    monkeypatch.setattr("benchmarks.gpu_check.timing.WARM_UP", 0.002)


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
@pytest.mark.parametrize(
    ("part", "implementations"), [("heads", (PUBLISHED, BATCHED, EXACT, KERNEL)), ("tails", (LAYERS, WINDOWS, KERNEL))]
)
def test_every_implementation_agrees_with_float64_and_is_timed(part, implementations, precision):
    found = configuration(part, SIZE, precision, TINY, ON_CPU, "cpu")
    assert found["failed"] == {}
    assert set(found["variants"]) == {f"{name}, {EAGER}" for name in implementations}
    for variant in found["variants"].values():
        assert variant["logit_error"] < (1e-6 if precision == "FP32" else 5e-3)
        assert set(variant["milliseconds"]) == {"wall", "gpu", "enqueue"}
        assert TINY.least <= variant["statistics"]["wall"]["n"] <= TINY.most
    json.dumps(found, allow_nan=False)


def test_a_head_without_a_kernel_is_measured_in_the_other_implementations():
    found = configuration("heads", SIZE, "FP32", TINY, {**ON_CPU, "kernel": "none here"}, "cpu")
    assert {name.split(",")[0] for name in found["variants"]} == {PUBLISHED, BATCHED, EXACT}


@pytest.mark.slow
def test_compiled_implementations_agree_with_float64():
    found = configuration("heads", SIZE, "FP32", TINY, {GRAPH: "no GPU"}, "cpu")
    assert found["failed"] == {}
    assert {name for name in found["variants"] if name.endswith(COMPILED)} == {
        f"{name}, {COMPILED}" for name in (PUBLISHED, BATCHED, EXACT, KERNEL)
    }


def test_errors_are_visible_in_the_logits_and_strata_of_the_random_head():
    size = dataclasses.replace(SIZE, width=32, side=7)
    head = random_head(size)
    with torch.no_grad():
        emotion = random_emotion(size)
        logits = torch.stack([head.classifier(head.reconstruction(emotion, c)) for c in head.confounders], dim=1)
    assert 0.3 < logits.std() < 3
    assert logits.std(dim=1).mean() > 0.05, "the strata hardly differ"


class Wrong(nn.Module):
    """A module with wrong outputs, or an error."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The input as every output."""
        if self.error:
            raise self.error
        return x, x, x


def test_an_implementation_that_is_wrong_or_fails_is_not_timed_and_the_others_are():
    def check(outputs: list[np.ndarray]) -> dict[str, float]:
        if outputs[0].min() < 0:
            raise EngineError("wrong")
        return {"probability_error": 0.0}

    class Right(Wrong):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x.abs(), x, x

    implementations = {"right": Right(), "wrong": Wrong(), "failing": Wrong(RuntimeError("boom"))}
    implementations["large"] = Wrong(torch.OutOfMemoryError("full"))
    calls, facts, failed = prepare(implementations, (torch.full((2, 2, 2, 2), -1.0),), check, ON_CPU, "cpu")
    assert list(calls) == ["right, eager"]
    assert failed == {"wrong, eager": "wrong", "failing": "RuntimeError: boom"}
    assert facts["large"] == {"skipped": "not enough memory on the GPU"}


@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_all_outputs_are_compared_with_float64(spoiled):
    expected = np.random.default_rng(0).normal(size=(2, 3, 4))
    mean = expected.mean(axis=1)
    right = [np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True), mean, expected]
    assert errors_against_float64(right, expected, [0, 1], 1e-6)["probability_error"] < 1e-12
    outputs = [values.copy() for values in right]
    outputs[spoiled] += 0.01
    if spoiled == 0:
        assert errors_against_float64(outputs, expected, [0, 1], 1e-6)["probability_error"] == pytest.approx(0.01)
    else:
        with pytest.raises(EngineError, match="logits differ from float64 by"):
            errors_against_float64(outputs, expected, [0, 1], 1e-6)
    outputs[spoiled][0] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        errors_against_float64(outputs, expected, [0, 1], 1e-6)


def test_the_three_clocks_separate_copies_computation_and_enqueueing():
    def computation(x: torch.Tensor) -> tuple[torch.Tensor]:
        time.sleep(0.005)
        return (x + 1,)

    call = PreparedCall(computation, (torch.zeros(2, 3),), "cpu")
    wall, gpu, enqueue = call()
    assert 5 <= enqueue <= gpu <= wall < 1000
    np.testing.assert_array_equal(call.outputs()[0], np.ones((2, 3)))


def test_outputs_are_computed_from_inputs_just_copied_and_not_left_from_an_earlier_call():
    kept: list[torch.Tensor] = []

    def once(x: torch.Tensor) -> tuple[torch.Tensor]:
        """Like a graph that replays nothing: later calls find the outputs of the first one."""
        kept.append(x + 1) if not kept else None
        return (kept[0],)

    assert np.isnan(PreparedCall(once, (torch.zeros(2),), "cpu").outputs()[0]).all()
    np.testing.assert_array_equal(PreparedCall(lambda x: (x + 1,), (torch.ones(2),), "cpu").outputs()[0], [2, 2])


def test_samples_are_as_many_as_fit_the_time_within_their_bounds():
    def call() -> CallTimes:
        time.sleep(0.001)
        return CallTimes(1.0, None, None)

    counts = {seconds: len(measure({"a": call}, 12, 3, seconds)["a"]["wall"]) for seconds in (0, 0.006, 10)}
    assert counts[0] == 3 and counts[10] == 12 and 3 <= counts[0.006] <= 6


def test_figures_are_those_of_the_standard_library():
    values = [float(value) for value in np.random.default_rng(1).gamma(2, size=99)]
    found, hundredths = statistics(values), standard.quantiles(values, n=100, method="inclusive")
    expected = {
        "n": 99,
        "min": min(values),
        "mean": standard.mean(values),
        "median": standard.median(values),
        "p90": hundredths[89],
        "p95": hundredths[94],
        "p99": hundredths[98],
        "max": max(values),
        "cv": standard.pstdev(values) / standard.mean(values),
    }
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_clock_that_is_not_read_leaves_no_samples():
    assert by_clock([CallTimes(1.0, 0.5, None), CallTimes(2.0, 0.25, None)]) == {"wall": [1.0, 2.0], "gpu": [0.5, 0.25]}
