"""What the pages tell people to type, the commands take; what they point to is there; what they quote is said."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.audit import __main__ as audit
from benchmarks.gpu_check import __main__ as gpu_check
from doubles.gpu.made_up_manifest import ORIN, made_up_manifest
from iern.export import command_line as export
from iern.runtime.app import command_line as options
from iern.runtime.backends.trt.engine_file import Gpu, check_fits
from iern.runtime.doctor import __main__ as doctor
from iern.runtime.errors import EngineError
from repository import CODE, ROOT, pyproject, relative

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 130
"""Lines. More, and nobody reads it to the end: the rest belongs to a page of docs/."""
INDEX = ROOT / "docs" / "index.md"
GUIDES = [ROOT / "docs" / name for name in ("desktop.md", "jetson.md", "hardware.md")]

pages = pytest.mark.parametrize("page", PAGES, ids=relative)


class ParsedError(Exception):
    """Ends a command when its arguments are understood."""


def only_parsed(main: Callable[[Sequence[str]], int]) -> Callable[[Sequence[str]], None]:
    """`main` as far as its parser takes the arguments; SystemExit where it does not."""

    def parse(argv: Sequence[str]) -> None:
        understood = argparse.ArgumentParser.parse_args

        def parse_and_stop(parser: argparse.ArgumentParser, words: Sequence[str]) -> NoReturn:
            understood(parser, words)
            raise ParsedError

        with pytest.MonkeyPatch.context() as patch, pytest.raises(ParsedError):
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
            main(argv)

    return parse


PARSERS: dict[str, Callable[[Sequence[str]], object]] = {
    "export/to_trt.py": export.parse,
    "iern.export.to_trt": export.parse,
    "runtime/webcam.py": options.parse,
    "iern.runtime.webcam": options.parse,
    "iern.runtime.doctor": only_parsed(doctor.main),
    "benchmarks.gpu_check": only_parsed(gpu_check.main),
    "benchmarks.audit": only_parsed(audit.main),
}
"""What is run, as a file, or a module, with Python or in a container -> what takes its arguments."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Program and arguments of every command line on a page that runs one of ours, in a block or between backticks."""
    lines = re.findall(r"^    (.+)$|`([^`\n]+)`", text_of(page).replace("\\\n", " "), re.MULTILINE)
    found = [re.search(r"(?:python (?:-m )?|iern-\w+ )([\w./]+)(.*)", next(filter(None, line))) for line in lines]
    return [
        (match[1], shlex.split(match[2], comments=True)) for match in found if match is not None and match[1] in PARSERS
    ]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end in, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pages
def test_every_command_line_is_one_that_the_command_takes(page):
    for program, argv in commands(page):
        PARSERS[program](argv)


@pytest.mark.parametrize("program", ["export/to_trt.py", "iern.runtime.doctor"])
def test_a_command_line_with_a_mistake_is_noticed(program):
    with pytest.raises(SystemExit):
        PARSERS[program](["--no-such-option"])


def test_the_guides_are_full_of_such_command_lines():
    counted = [program for page in GUIDES for program, _ in commands(page)]
    assert set(counted) == set(PARSERS)
    assert len(counted) > 30


@pages
def test_every_link_within_the_repository_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_every_file_of_the_repository_that_a_guide_names_is_there(page):
    folders = "|".join((*CODE, "tests", "docs"))
    named = set(re.findall(rf"(?<![\w./])(?:{folders})/[\w./]+\.\w+", text_of(page)))
    absent = {name for name in named if not (ROOT / name).is_file() and not name.endswith((".json", ".png"))}
    assert named
    assert not absent


def test_the_index_lists_every_page():
    listed = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)\s#]+\.md)\)", text_of(INDEX))}
    assert set(PAGES) - {ROOT / "README.md", INDEX} <= listed


def test_the_readme_stays_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= LONGEST_README


@pages
def test_every_extra_that_is_to_be_installed_exists(page):
    extras = {name for group in re.findall(r"(?:'\.|iern)\[([\w,-]+)\]", text_of(page)) for name in group.split(",")}
    assert extras <= set(pyproject()["project"]["optional-dependencies"])


def test_the_refusals_of_engines_are_quoted_as_they_are_said():
    thor = Gpu("NVIDIA Thor", "sm_110", "13.2")
    manifest = made_up_manifest(Path("office.fp16.onnx"))
    of_another_board = dataclasses.replace(manifest, tensorrt="10.16.2")
    for built, here in ((manifest, ORIN), (of_another_board, thor)):
        with pytest.raises(EngineError) as refusal:
            check_fits(Path("office.fp16.engine"), built, "10.16.2", here)
        said, again, _ = str(refusal.value).partition("build it again: ")
        assert f"    {said}{again}...\n" in text_of(ROOT / "docs" / "jetson.md")
