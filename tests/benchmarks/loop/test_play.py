"""Contestants are real processes: their answers, their processor time, and what is reported if one fails."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from benchmarks.loop import checkout
from benchmarks.loop.checkout import checkout_of, description, importing_from
from benchmarks.loop.clips import FPS, Clip
from benchmarks.loop.contestant import Contestant, Running
from benchmarks.loop.field import OURS, our_loops, parse_variant, refuse_equal_names
from benchmarks.loop.play import WARM_FRAMES, play
from iern.runtime.errors import IernError
from iern.runtime.power.sensors import EnergyCounter
from repository import ROOT

SIZE = (64, 48)

BRIGHT = """
    import sys, time
    sys.path.insert(0, {root!r})
    from benchmarks.loop.stdin_loop import answer_frames

    def analyse(frame):
        assert frame.flags.writeable
        return int(frame[0, 0, 0]), {{"detect": 1.5, "process_seconds": time.process_time()}}

    answer_frames(analyse, *sys.argv[1:])
"""
"""A loop that finds as many faces as the first pixel is bright, and reports its own processor time."""


def contestant(program: str, name: str = "made up") -> Contestant:
    text = textwrap.dedent(program)
    return Contestant(name, "", lambda size, records: [sys.executable, "-c", text, size, str(records)], {})


def grey(value: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), value, np.uint8)


def raised() -> float:
    raise OSError("gone")


def test_each_frame_gets_the_answer_of_that_frame(tmp_path):
    with Running(contestant(BRIGHT.format(root=str(ROOT))), SIZE, tmp_path) as running:
        answers = [running(grey(value)) for value in (3, 0, 7)]
    assert [answer.faces for answer in answers] == [3, 0, 7]
    assert all(answer.stages["detect"] == 1.5 for answer in answers)
    assert all(0 < answer.stages["total"] < answer.milliseconds for answer in answers)


def test_the_processor_time_is_that_which_the_process_counts_itself(tmp_path):
    with Running(contestant(BRIGHT.format(root=str(ROOT))), SIZE, tmp_path) as running:
        before = running.cpu_seconds
        own = running(grey(1)).stages["process_seconds"]
        assert before <= own <= running.cpu_seconds
        assert own > 0.01  # the imports of NumPy alone


def test_a_contestant_that_fails_is_named_with_its_last_words(tmp_path):
    with (
        Running(contestant("raise SystemExit('no such model')", "fragile"), SIZE, tmp_path) as running,
        pytest.raises(IernError, match=r"fragile: ended with status 1 before it answered \(no such model\)"),
    ):
        running(grey(0))


def test_all_contestants_see_the_same_frames_in_rounds_of_a_second():
    clip = Clip("three", [grey(value) for value in (0, 1, 2)])
    program = BRIGHT.format(root=str(ROOT))
    numbers, gone = itertools.count(0, 5), iter((1.0, 2.0))
    counters = [
        EnergyCounter("package", lambda: float(next(numbers) % 12), range=12.0),
        EnergyCounter("gone", lambda: raised() if (value := next(gone, None)) is None else value),
    ]
    both = [contestant(program, "first"), contestant(program, "second")]
    first, second = play(clip, both, seconds=2, counters=counters)
    assert (first["name"], second["name"]) == ("first", "second")
    # The first frame starts the contestant, WARM_FRAMES of each round are not kept: as many zeros, ones and twos.
    assert FPS % 3 == WARM_FRAMES % 3 == 0
    assert first["faces"] == second["faces"] == 1.0
    assert [len(frames) for frames in first["total"]] == [FPS, FPS] == [len(frames) for frames in first["answer"]]
    assert first["stages"]["detect"] == [1.5, 1.5]
    assert all(seconds > 0 for seconds in first["cpu_seconds"])
    assert first["joules"] == second["joules"] == {"package": [5.0, 5.0]}  # it grows by 5 a reading, and begins again


def test_our_loop_answers_the_frames_of_a_clip(tmp_path):
    (ours,) = our_loops({})
    with Running(ours, SIZE, tmp_path) as running:
        answer = running(grey(100))
    assert ours.name == OURS
    assert answer.faces == 0
    assert set(answer.stages) >= {"detect", "preprocess", "infer", "total"}


def made_up_checkout(root, program: str = "") -> None:
    """A checkout with a `webcam` alone."""
    (root / "runtime").mkdir(parents=True)
    (root / "runtime" / "webcam.py").write_text(program, encoding="utf-8")
    (root / ".typecheck" / "iern").mkdir(parents=True)
    (root / ".typecheck" / "iern" / "runtime").symlink_to("../../runtime")


def test_python_imports_another_checkout_and_not_the_installed_package(tmp_path):
    made_up_checkout(tmp_path / "other")
    (tmp_path / "links").mkdir()
    environment = importing_from(tmp_path / "other", tmp_path / "links")
    program = "import iern.runtime.webcam as module; print(module.__file__)"
    command = [sys.executable, "-c", program]
    imported = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True).stdout
    assert imported.startswith(str(tmp_path))


@pytest.mark.parametrize("program", [None, "import no_such_module"], ids=["another project", "broken"])
def test_a_folder_whose_loop_cannot_be_imported_is_refused(tmp_path, program):
    (tmp_path / "other").mkdir()
    (tmp_path / "links").mkdir()
    if program:
        made_up_checkout(tmp_path / "other", program)
    with pytest.raises(IernError, match=r"its loop cannot be imported .*expected a checkout of this project"):
        importing_from(tmp_path / "other", tmp_path / "links")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one commit of a made-up checkout, in place of this repository's."""
    made_up_checkout(tmp_path / "clone")
    git = ["git", "-C", str(tmp_path / "clone"), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(checkout, "ROOT", tmp_path / "clone")
    return tmp_path / "clone"


def test_a_commit_is_unpacked_as_it_was(tmp_path, clone):
    (clone / "runtime" / "webcam.py").write_text("changed since", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    root = checkout_of("v1", tmp_path / "folder")
    assert (root / "runtime" / "webcam.py").read_text(encoding="utf-8") == ""
    assert (root / ".typecheck" / "iern" / "runtime" / "webcam.py").is_file()
    assert description(clone).endswith("-dirty")
    assert description(root) == ""


def test_a_rival_that_is_neither_folder_nor_commit_is_refused(tmp_path, clone):
    with pytest.raises(IernError, match="--rival v2: is neither a folder nor a commit of this clone"):
        checkout_of("v2", tmp_path)


def test_a_variant_has_a_name_and_arguments():
    assert parse_variant("small faces: --detect-size 320") == ("small faces", ("--detect-size", "320"))
    with pytest.raises(ValueError, match="expected a name, a colon and arguments"):
        parse_variant("--detect-size 320")


def test_two_contestants_of_one_name_are_refused():
    with pytest.raises(IernError, match="two contestants are called ours"):
        refuse_equal_names(our_loops({OURS: ("--detect-size", "320")}))
