"""Every form of a head agrees with float64 before it is timed, and the clocks tell what they say. All on the CPU."""

from __future__ import annotations

import dataclasses
import json
import statistics as standard
import time

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.gpu_check.forms import (
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
from benchmarks.gpu_check.heads import configuration, deviations
from benchmarks.gpu_check.plan import Scale
from benchmarks.gpu_check.timing import Prepared, Sample, by_clock, measure, statistics
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
    ("part", "forms"), [("heads", (PUBLISHED, BATCHED, EXACT, KERNEL)), ("tails", (LAYERS, WINDOWS, KERNEL))]
)
def test_every_form_agrees_with_float64_and_is_timed(part, forms, precision):
    found = configuration(part, SIZE, precision, TINY, ON_CPU, "cpu")
    assert found["failed"] == {}
    assert set(found["variants"]) == {f"{form}, {EAGER}" for form in forms}
    for variant in found["variants"].values():
        assert variant["logit_error"] < (1e-6 if precision == "FP32" else 5e-3)
        assert set(variant["milliseconds"]) == {"wall", "gpu", "enqueue"}
        assert TINY.least <= variant["statistics"]["wall"]["n"] <= TINY.most
    json.dumps(found, allow_nan=False)


def test_a_head_without_a_kernel_is_measured_in_the_other_forms():
    found = configuration("heads", SIZE, "FP32", TINY, {**ON_CPU, "kernel": "none here"}, "cpu")
    assert {name.split(",")[0] for name in found["variants"]} == {PUBLISHED, BATCHED, EXACT}


@pytest.mark.slow
def test_compiled_forms_agree_with_float64():
    found = configuration("heads", SIZE, "FP32", TINY, {GRAPH: "no GPU"}, "cpu")
    assert found["failed"] == {}
    assert {name for name in found["variants"] if name.endswith(COMPILED)} == {
        f"{form}, {COMPILED}" for form in (PUBLISHED, BATCHED, EXACT, KERNEL)
    }


def test_the_random_head_gives_logits_and_strata_that_errors_can_be_seen_in():
    size = dataclasses.replace(SIZE, width=32, side=7)
    head = random_head(size)
    with torch.no_grad():
        emotion = random_emotion(size)
        logits = torch.stack([head.classifier(head.reconstruction(emotion, c)) for c in head.confounders], dim=1)
    assert 0.3 < logits.std() < 3
    assert logits.std(dim=1).mean() > 0.05, "the strata hardly differ"


class Wrong(nn.Module):
    """Answers, but not right."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The input as every output."""
        if self.error:
            raise self.error
        return x, x, x


def test_a_form_that_answers_wrong_or_fails_is_not_timed_and_the_others_are():
    def check(answer: list[np.ndarray]) -> dict[str, float]:
        if answer[0].min() < 0:
            raise EngineError("wrong")
        return {"probability_error": 0.0}

    class Right(Wrong):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return x.abs(), x, x

    forms = {"right": Right(), "wrong": Wrong(), "failing": Wrong(RuntimeError("boom"))}
    forms["large"] = Wrong(torch.OutOfMemoryError("full"))
    calls, facts, failed = prepare(forms, (torch.full((2, 2, 2, 2), -1.0),), check, ON_CPU, "cpu")
    assert list(calls) == ["right, eager"]
    assert failed == {"wrong, eager": "wrong", "failing": "RuntimeError: boom"}
    assert facts["large"] == {"skipped": "not enough memory on the GPU"}


@pytest.mark.parametrize("spoiled", [0, 1, 2])
def test_an_answer_is_held_against_float64_in_all_its_parts(spoiled):
    expected = np.random.default_rng(0).normal(size=(2, 3, 4))
    mean = expected.mean(axis=1)
    right = [np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True), mean, expected]
    assert deviations(right, expected, [0, 1], 1e-6)["probability_error"] < 1e-12
    answer = [values.copy() for values in right]
    answer[spoiled] += 0.01
    if spoiled == 0:
        assert deviations(answer, expected, [0, 1], 1e-6)["probability_error"] == pytest.approx(0.01)
    else:
        with pytest.raises(EngineError, match="logits differ from float64 by"):
            deviations(answer, expected, [0, 1], 1e-6)
    answer[spoiled][0] = np.nan
    with pytest.raises(EngineError, match="not finite"):
        deviations(answer, expected, [0, 1], 1e-6)


def test_the_three_clocks_tell_copies_computation_and_enqueueing_apart():
    def form(x: torch.Tensor) -> tuple[torch.Tensor]:
        time.sleep(0.005)
        return (x + 1,)

    call = Prepared(form, (torch.zeros(2, 3),), "cpu")
    wall, gpu, enqueue = call()
    assert 5 <= enqueue <= gpu <= wall < 1000
    np.testing.assert_array_equal(call.answer()[0], np.ones((2, 3)))


def test_an_answer_is_computed_from_inputs_just_copied_and_not_left_from_an_earlier_call():
    kept: list[torch.Tensor] = []

    def once(x: torch.Tensor) -> tuple[torch.Tensor]:
        """As a graph that replays nothing: later calls find what the first one wrote."""
        kept.append(x + 1) if not kept else None
        return (kept[0],)

    assert np.isnan(Prepared(once, (torch.zeros(2),), "cpu").answer()[0]).all()
    np.testing.assert_array_equal(Prepared(lambda x: (x + 1,), (torch.ones(2),), "cpu").answer()[0], [2, 2])


def test_samples_are_as_many_as_fit_the_time_within_their_bounds():
    def call() -> Sample:
        time.sleep(0.001)
        return Sample(1.0, None, None)

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
    assert by_clock([Sample(1.0, 0.5, None), Sample(2.0, 0.25, None)]) == {"wall": [1.0, 2.0], "gpu": [0.5, 0.25]}
