"""TensorBoard has points from the first iterations on, and they are the losses of the iterations between them."""

from __future__ import annotations

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iern.train.training import progress as module
from iern.train.training.progress import Progress

LOSSES = np.linspace(4, 1, 100)


def points(out) -> list[tuple[int, float]]:
    """The steps and values of the curve inside epochs, as TensorBoard reads them."""
    reader = EventAccumulator(str(out / "tensorboard"))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars("iteration/classification")]


def train(progress, epoch: int, first: int = 0):
    """Report the mean losses so far after every tenth iteration, as the trainer does."""
    with progress.epoch(epoch, 2, 100, first) as advance:
        for iteration in range(first + 10, 101, 10):
            advance(iteration, {"classification": float(LOSSES[:iteration].mean())})
            yield iteration


def test_the_first_point_is_on_disk_after_the_first_report_and_the_next_one_waits(tmp_path):
    progress = Progress(tmp_path, active=True)
    reports = train(progress, 0)
    assert next(reports) == 10
    assert points(tmp_path) == [(10, pytest.approx(LOSSES[:10].mean()))]
    assert len(list(reports)) == 9
    assert len(points(tmp_path)) == 1, f"no second point within {module.BOARD_EVERY} seconds"


def test_each_point_is_the_mean_since_the_one_before_and_steps_count_through_the_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BOARD_EVERY", 0.0)
    progress = Progress(tmp_path, active=True)
    for epoch in (0, 1):
        assert len(list(train(progress, epoch))) == 10
    expected = [LOSSES[i : i + 10].mean() for i in range(0, 100, 10)]
    steps, values = zip(*points(tmp_path), strict=True)
    assert steps == tuple(range(10, 201, 10))
    assert values == pytest.approx(expected * 2, rel=1e-5)


def test_a_run_resumed_inside_an_epoch_has_no_point_of_iterations_that_it_did_not_see(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BOARD_EVERY", 0.0)
    progress = Progress(tmp_path, active=True)
    assert len(list(train(progress, 0, first=40))) == 6
    assert points(tmp_path) == [(i, pytest.approx(LOSSES[i - 10 : i].mean(), rel=1e-5)) for i in range(60, 101, 10)]


def test_other_processes_write_nothing(tmp_path):
    progress = Progress(tmp_path, active=False)
    assert len(list(train(progress, 0))) == 10
    progress.close()
    assert not list(tmp_path.iterdir())
