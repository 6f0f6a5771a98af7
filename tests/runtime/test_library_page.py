"""Every line of Python on the library's page, and in the README about it, runs and prints what the page says.

The lines run with the bundled model, in a folder with the files that they name.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from repository import PHOTOS, ROOT

PROMISED = "# -> "
"""On a line of its own: what the line before prints."""
NOT_PYTHON = "pip install"


def blocks(text: str) -> list[str]:
    """The indented blocks of Python of a page, in order."""
    found = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", text, re.MULTILINE)
    return [textwrap.dedent(block) for block in found if not block.strip().startswith(NOT_PYTHON)]


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> tuple[Path, list[str], list[str]]:
    """The folder of the run, and the lines that the README's block and those of the page print, in one process."""
    folder = tmp_path_factory.mktemp("library")
    photo = cv2.imread(str(PHOTOS / "astronaut.jpg"))
    (folder / "photo.jpg").write_bytes((PHOTOS / "astronaut.jpg").read_bytes())
    cv2.imwrite(str(folder / "empty.jpg"), np.full((60, 80, 3), 128, np.uint8))
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, photo.shape[1::-1])
    for _ in range(3):
        writer.write(photo)
    writer.release()
    programs = [readme_block(), "print('---')", page_program()]
    runner = f"for program in {programs!r}: exec(program, {{}})"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", runner], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    of_readme, _, of_page = result.stdout.partition("---\n")
    return folder, of_readme.splitlines(), of_page.splitlines()


def readme_block() -> str:
    return blocks((ROOT / "README.md").read_text(encoding="utf-8").partition("# As a library")[2])[0]


def page_program() -> str:
    return "\n".join(blocks((ROOT / "docs" / "library.md").read_text(encoding="utf-8")))


def words_and_numbers(line: str) -> tuple[list[str], list[float]]:
    parts = re.split(r"(\d+(?:\.\d+)?)", line)
    return parts[::2], [float(number) for number in parts[1::2]]


def test_the_lines_on_the_page_print_what_it_says(printed):
    folder, _, (first, *lines) = printed
    promised = re.findall(rf"^ *{PROMISED}(.*)$", page_program(), re.MULTILINE)
    assert len(promised) > 10
    assert re.fullmatch(r"happiness [01]\.\d+ False", first)
    assert lines.pop() == promised[-1], "the last loop prints its line for each of two frames"
    for line, expected in zip(lines, promised, strict=True):
        words, numbers = words_and_numbers(line)
        expected_words, expected_numbers = words_and_numbers(expected)
        assert words == expected_words
        assert numbers == pytest.approx(expected_numbers, abs=2), "other machines round differently"
    annotated = cv2.imread(str(folder / "annotated.png"))
    assert (annotated != cv2.imread(str(folder / "photo.jpg"))).any()


def test_every_call_of_the_page_is_in_a_block_that_runs():
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    indented = [line for line in text.splitlines() if line.startswith("    ") and NOT_PYTHON not in line]
    assert [line.strip() for line in indented] == [line.strip() for line in page_program().splitlines() if line]


def test_the_lines_in_the_readme_work_as_they_are(printed):
    assert len([line for line in readme_block().splitlines() if line]) <= 5
    (line,) = printed[1]
    assert re.search(r"happiness\W+[01]\.\d", line)
