"""Bootstrap intervals are those of the binomial, of the closed form and of SciPy, and their draws are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from iern.train.evaluation.bootstrap import (
    REPLICATES,
    balanced_mean_interval,
    intervals,
    mean_interval,
    resampled_means,
)


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

    def record(weights):
        seen.append(weights.copy())
        return [0.0]

    intervals(record, people)
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


def test_the_interval_of_a_mean_is_that_of_scipy_and_of_the_closed_form():
    differences = np.random.default_rng(4).choice([-1, 0, 1], 800, p=[0.1, 0.7, 0.2]).astype(float)
    found = mean_interval(differences)
    scipys = scipy.stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=9999, rng=1)
    error = differences.std() / np.sqrt(800)
    assert found.mean == differences.mean()
    for place, end in ((1, scipys.confidence_interval.low), (2, scipys.confidence_interval.high)):
        assert found[place] == pytest.approx(end, abs=0.1 * error)
        assert found[place] == pytest.approx(differences.mean() + (1, -1)[place == 1] * 1.96 * error, abs=0.1 * error)


def test_a_balanced_mean_counts_a_rare_group_as_much_as_a_common_one():
    random = np.random.default_rng(5)
    common, rare = random.random(900), random.random(50) / 2
    found = balanced_mean_interval(np.concatenate([common, rare]), np.repeat([0, 1], [900, 50]))
    error = np.sqrt(common.var() / 900 + rare.var() / 50) / 2
    assert found.mean == pytest.approx((common.mean() + rare.mean()) / 2)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    """Bootstrap intervals of few seeds are short; of thirty, 19 in 20 should hold the mean."""
    random = np.random.default_rng(1)
    held = [low <= 0.5 <= high for _, low, high in (mean_interval(random.normal(0.5, 0.1, 30)) for _ in range(200))]
    assert 0.88 < np.mean(held) < 0.99


@pytest.fixture(scope="module")
def right():
    """(1500,) Whether the prediction for each face is right."""
    return (np.random.default_rng(4).random(1500) < 0.7).astype(float)


def test_means_over_people_draw_the_faces_of_one_person_together(right):
    """Four copies of each face add nothing: by person the interval stays, by face it halves."""
    right = np.repeat(right, 4)[:, None]
    subjects = [str(i // 4) for i in range(len(right))]
    by_subject = np.std(resampled_means(right, subjects))
    by_face = np.std(resampled_means(right, [str(i) for i in range(len(right))]))
    share = right.mean()
    assert by_subject == pytest.approx(np.sqrt(share * (1 - share) / 1500), rel=0.06)
    assert by_face == pytest.approx(by_subject / 2, rel=0.1)


def test_people_with_different_numbers_of_faces_are_weighted_by_their_faces():
    """The linearised variance of a ratio of two sums, in which the number of faces varies as well."""
    random = np.random.default_rng(2)
    sizes = random.integers(1, 9, 800)
    rates = random.beta(2, 1, 800)
    values = np.concatenate([random.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]).astype(float)
    subjects = np.repeat(np.arange(800), sizes)
    drawn = resampled_means(values[:, None], [str(i) for i in subjects])
    residuals = np.bincount(subjects, values - values.mean())
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.002)
    assert drawn.std() == pytest.approx(np.sqrt((residuals**2).sum()) / len(values), rel=0.06)


def test_one_drawing_serves_all_columns_and_is_the_same_every_time(right):
    drawn = resampled_means(np.stack([right, right, 1 - right], -1), [str(i) for i in range(1500)])
    assert drawn.shape == (2000, 3)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert np.allclose(drawn[:, 0] + drawn[:, 2], 1)
    assert np.array_equal(resampled_means(right[:, None], [str(i) for i in range(1500)])[:, 0], drawn[:, 0])
