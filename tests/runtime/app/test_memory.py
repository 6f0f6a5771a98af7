"""Memory does not grow with new numbers of faces and new sizes of frames."""

from __future__ import annotations

import subprocess
import sys

import pytest

from repository import ROOT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
def test_memory_stays_level_over_frames_of_new_sizes_and_numbers_of_faces():
    """It grows by less than 1 MB per 1,000 frames of 0 to 16 faces, after the first 4,000."""
    frames, settled = 20_000, 4_000
    command = [sys.executable, "-m", "doubles.many_frames", str(frames), str(settled)]
    result = subprocess.run(
        command, cwd=ROOT / "tests", capture_output=True, encoding="utf-8", timeout=3600, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    before, after, most, numbers = map(float, result.stdout.split())
    assert most >= 12 and numbers >= 10, "some frames had many faces, and the numbers of faces differed"
    assert after - before < (frames - settled) / 1000, f"{before:.1f} MB became {after:.1f} MB"
