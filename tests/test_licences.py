"""Everything shipped that is not source code has a row in docs/licences.md, with its source, licence and checksum.

The kernel's binaries are built from this source. They have a manifest instead, see tests/cpp_ext/test_binaries.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iern.runtime.system.files import sha256
from repository import ROOT, relative, tracked_files

TABLE = ROOT / "docs" / "licences.md"
FOLDERS = ("docs/", "runtime/models/", "runtime/media/", "tests/data/")
OURS = {".py", ".md", ".Dockerfile", ".service"}
"""Code and prose of this repository."""


def rows() -> dict[str, tuple[str, str, str, str]]:
    """File -> (what, source, licence, sha256), from the first table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| file "))
    table = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        file, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        what, source, licence, checksum = rest
        table[file.strip("`")] = (what, source, licence, checksum.strip("`"))
    return table


def shipped() -> list[Path]:
    """The models, clips and images. A licence text needs no licence."""
    return [
        path
        for path in tracked_files()
        if relative(path).startswith(FOLDERS) and path.suffix not in OURS and not path.name.endswith(".LICENSE.txt")
    ]


def test_every_shipped_model_clip_and_image_has_a_row_and_every_row_a_file():
    assert set(rows()) == {relative(path) for path in shipped()}


@pytest.mark.parametrize("file", rows())
def test_a_row_names_source_and_licence_and_the_checksum_is_that_of_the_file(file):
    what, source, licence, checksum = rows()[file]
    assert what
    assert source
    assert licence
    assert checksum == sha256(ROOT / file)


def test_the_texts_that_the_table_links_to_exist():
    links = re.findall(r"\]\((\.\./[^)#]+)\)", TABLE.read_text(encoding="utf-8"))
    assert {"../runtime/models/yunet.LICENSE.txt", "../cpp_ext/binaries/manifest.json"} <= set(links)
    assert all((TABLE.parent / link).is_file() for link in links)
