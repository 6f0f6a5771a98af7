"""Which results are published: at most so many a second, or only those in which the faces have changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from doubles.made_up_results import grey_result
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.frame_result import FrameResult
from iern.runtime.outputs.selection import Selection


def seen(*faces: tuple[int | None, str]) -> FrameResult:
    """A result with faces of these tracks and expressions. `uncertain` is a happy face below the threshold."""
    box = Detection(5, 15, 20, 20, np.zeros((5, 2)), 0.9)
    found = [
        Face(box, {"happy" if name == "uncertain" else name: 1.0}, 0.0, name == "uncertain", track)
        for track, name in faces
    ]
    return dataclasses.replace(grey_result(0), faces=found)


def test_without_limits_every_result_is_passed_on():
    selection = Selection(clock=lambda: 0.0)
    assert all(selection(grey_result(0)) for _ in range(5))


@pytest.mark.parametrize(("rate", "passed"), [(1, 10), (2.5, 25), (10, 100), (0.1, 1)])
def test_at_most_the_rate_is_passed_on(rate, passed):
    """Ten seconds at 40 results a second. The clock counts in binary fractions, so that no sum is rounded."""
    moments = iter([number / 64 for number in range(640)])
    selection = Selection(rate, clock=lambda: next(moments))
    count = sum(selection(grey_result(0)) for _ in range(640))
    assert 0.85 * passed <= count <= passed


def test_on_change_only_comings_goings_and_other_expressions_are_passed_on():
    steps = [
        (seen(), True),
        (seen(), False),
        (seen((1, "happy")), True),
        (seen((1, "happy")), False),
        (seen((1, "happy"), (2, "sad")), True),
        (seen((2, "sad"), (1, "happy")), False),
        (seen((2, "happy"), (1, "sad")), True),
        (seen((2, "uncertain"), (1, "sad")), True),
        (seen((1, "sad")), True),
        (seen((3, "sad")), True),
        (seen((None, "sad")), True),
        (seen((None, "sad"), (None, "sad")), True),
        (seen(), True),
    ]
    selection = Selection(on_change=True, clock=lambda: 0.0)
    assert [selection(result) for result, _ in steps] == [passed for _, passed in steps]


def test_a_change_that_comes_too_early_is_passed_on_when_the_rate_allows_it_if_it_lasts():
    moments = iter([0.0, 0.25, 0.5, 1.0, 1.25, 1.5, 2.5])
    selection = Selection(1.0, on_change=True, clock=lambda: next(moments))
    names = ["sad", "happy", "happy", "happy", "sad", "happy", "happy"]
    assert [selection(seen((1, name))) for name in names] == [True, False, False, True, False, False, False]


def test_each_of_several_sources_has_its_own_rate_and_its_own_changes():
    def of(source: str, result: FrameResult) -> FrameResult:
        return dataclasses.replace(result, frame=dataclasses.replace(result.frame, source=source))

    changes = Selection(on_change=True, clock=lambda: 0.0)
    steps = [("front", "happy", True), ("back", "sad", True), ("front", "happy", False), ("back", "happy", True)]
    assert [changes(of(source, seen((1, name)))) for source, name, _ in steps] == [passed for *_, passed in steps]
    limited = Selection(rate=1, clock=lambda: 0.0)
    assert [limited(of(source, seen())) for source in ("front", "back", "front")] == [True, True, False]
