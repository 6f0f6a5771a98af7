"""Memory does not climb with new numbers of faces and new sizes of frames."""

from __future__ import annotations

import subprocess
import sys

import pytest

from repository import ROOT

PROGRAM = ROOT / "tests" / "doubles" / "many_frames.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
def test_memory_stays_over_frames_of_ever_new_sizes_and_numbers_of_faces():
    """Less than 1 MB for each 1,000 frames of 0 to 16 faces, once the first 4,000 have been."""
    frames, settled = 20_000, 4_000
    command = [sys.executable, str(PROGRAM), str(frames), str(settled)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=3600, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    before, after, most, numbers = map(float, result.stdout.split())
    assert most >= 12 and numbers >= 10, "there were frames of many faces, and of many numbers of them"
    assert after - before < (frames - settled) / 1000, f"{before:.1f} MB became {after:.1f} MB"
