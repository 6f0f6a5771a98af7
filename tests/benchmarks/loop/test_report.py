"""Ratios and goals are what a hand computes, the page holds them, and the command runs to its end."""

from __future__ import annotations

import json

import pytest

from benchmarks.loop.__main__ import main
from benchmarks.loop.figures import checked_goals, cpu, p50, p95, ratio
from benchmarks.loop.report import _joules, clip_table, markdown


def played(name: str, scale: float, faces: float = 1.0) -> dict:
    """Two rounds of three frames; everything grows with `scale`."""
    total = [[1 * scale, 2 * scale, 9 * scale], [2 * scale, 4 * scale, 6 * scale]]
    return {
        "name": name,
        "faces": faces,
        "total": total,
        "answer": total,
        "stages": {"detect": [scale, scale]},
        "cpu_seconds": [0.5 * scale, 1.5 * scale],
    }


def made_up_clip(name: str, times: float) -> dict:
    """A clip on which the rival takes so many times as long."""
    return {"name": name, "size": [4, 3], "contestants": [played("ours", 1.0), played("rival", times)]}


def test_costs_are_by_round():
    assert p50(played("a", 1)) == [2, 4]
    assert p95(played("a", 1)) == pytest.approx([2 + 0.9 * 7, 4 + 0.9 * 2])
    assert cpu(played("a", 2)) == [1, 3]


def test_a_ratio_is_the_median_of_the_rounds_ratios_with_their_range():
    found = ratio([10, 30, 8], [2, 3, 2])
    assert (found.median, found.lowest, found.highest) == (5, 4, 10)


def test_a_goal_is_met_by_the_ratio_on_its_clip_and_left_out_without_it():
    results = {"clips": [made_up_clip("demo", 5.5), made_up_clip("8 faces", 2.5)]}
    checked = checked_goals(results, "ours", "rival")
    assert [(goal["clip"], goal["at_least"], goal["met"]) for goal in checked] == [
        ("demo", 5.0, True),
        ("8 faces", 3.0, False),
        ("demo", 5.0, True),
    ]
    assert checked[1]["ratio"] == [2.5, 2.5, 2.5]
    assert checked_goals({"clips": [made_up_clip("1 face", 9)]}, "ours", "rival") == []
    assert checked_goals(results, "ours", "somebody else") == []


def test_the_table_has_medians_over_all_frames_and_ratios_to_the_reference():
    row_of_ours, row_of_rival = clip_table(made_up_clip("demo", 4.0), "rival").splitlines()[2:]
    less = "4.00 (4.00 to 4.00)"
    assert row_of_ours.startswith("| ours | 1.00 | 1.00 |  |  | 3.00 |")
    assert row_of_ours.endswith(f"| 3.00 | {less} | {less} | 1.000 | {less} |")
    assert row_of_rival.startswith("| rival | 1.00 | 4.00 |  |  | 12.0 |")
    assert row_of_rival.endswith("| 4.000 | 1.00 (1.00 to 1.00) |")


def test_the_joules_of_a_frame_are_those_of_a_second_over_its_frames():
    clip = made_up_clip("demo", 2.0)
    assert _joules(clip, 15) == ""
    clip["contestants"][0]["joules"] = {"processor package-0": [15.0, 30.0]}
    assert _joules(clip, 15).splitlines()[-1] == "- ours: processor package-0 1.500"


def test_the_command_plays_to_our_loop_and_writes_samples_and_page(tmp_path, capsys):
    target = tmp_path / "loop.json"
    arguments = ["--quick", "--faces", "2", "--without-published", "--without-variants", "--json", str(target)]
    assert main(arguments) == 0
    results = json.loads(target.read_text(encoding="utf-8"))
    assert [(clip["name"], clip["size"]) for clip in results["clips"]] == [
        ("demo", [640, 480]),
        ("2 faces", [1280, 720]),
    ]
    (ours,) = results["clips"][1]["contestants"]
    assert ours["name"] == "ours"
    assert ours["faces"] == 2
    assert target.with_suffix(".md").read_text(encoding="utf-8") == markdown(results)
    shown = capsys.readouterr().out
    assert "2 faces: 1 of 1 s" in shown
    assert "A quick run: these numbers mean nothing" in shown


@pytest.mark.parametrize("given", ["0", "17", "many"])
def test_a_number_of_faces_that_no_clip_has_is_refused(given, capsys):
    with pytest.raises(SystemExit) as left:
        main(["--faces", given])
    assert left.value.code == 2
    assert f"expected a number of faces from 1 to 16, found '{given}'" in capsys.readouterr().err


def test_help_names_every_contestant(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ("ours", "rival", "published", "packages"))
