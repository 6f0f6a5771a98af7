"""Bootstrap intervals against the binomial's own spread, and their draws looked at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from iern.train.evaluation.bootstrap import REPLICATES, intervals


def share(values):
    """Weights -> the weighted mean of `values`, as the one figure."""
    values = np.asarray(values, float)
    return lambda weights: [float(weights @ values / weights.sum())]


def names(count):
    return [f"{i}.png" for i in range(count)]


def test_the_interval_of_a_share_is_as_wide_as_the_binomial_says():
    right = np.arange(2000) < 1600
    (low, high) = intervals(share(right), names(2000))[0]
    deviation = math.sqrt(0.8 * 0.2 / 2000)  # 1,000 draws know their own percentile to 0.09 of it
    assert low == pytest.approx(0.8 - 1.96 * deviation, abs=0.25 * deviation)
    assert high == pytest.approx(0.8 + 1.96 * deviation, abs=0.25 * deviation)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        (low, high) = intervals(share(random.random(150) < 0.7), names(150))[0]
        inside += low <= 0.7 <= high
    assert 51 <= inside <= 60, "of 60; fewer than 51 of a true 95 % come once in 4,000 times"


def test_faces_of_one_person_are_drawn_together():
    """20 people with 10 faces each, all right or all wrong: 20 draws, not 200."""
    right = np.repeat(np.arange(20) < 14, 10)
    people = [f"subject {i // 10}" for i in range(200)]
    (low, high), (narrow_low, narrow_high) = (
        intervals(share(right), people)[0],
        intervals(share(right), names(200))[0],
    )
    assert (high - low) / (narrow_high - narrow_low) == pytest.approx(math.sqrt(10), rel=0.15)


def test_each_draw_is_of_as_many_units_as_there_are_and_counts_a_persons_faces_alike():
    people, seen = ["a", "a", "b", "c"], []

    def look(weights):
        seen.append(weights.copy())
        return [0.0]

    intervals(look, people)
    drawn = np.array(seen)
    assert drawn.shape == (REPLICATES, 4)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert np.all(drawn[:, 1:].sum(axis=1) == 3)
    assert drawn.mean(axis=0) == pytest.approx(np.ones(4), abs=0.1)


def test_the_same_faces_give_the_same_intervals_and_another_seed_others():
    figure = share(np.random.default_rng(2).random(50))
    first = intervals(figure, names(50))
    assert first == intervals(figure, names(50))
    assert first != intervals(figure, names(50), seed=1)


def test_draws_in_which_a_figure_does_not_exist_are_left_out_and_one_that_never_does_has_no_interval():
    calls = iter(range(REPLICATES))

    def sometimes(weights):
        return [math.nan if next(calls) % 2 else 0.25, math.nan]

    assert intervals(sometimes, names(5)) == [[0.25, 0.25], None]


def test_one_person_alone_has_no_interval():
    assert intervals(share([1, 0, 1]), ["subject a"] * 3) == [None]
