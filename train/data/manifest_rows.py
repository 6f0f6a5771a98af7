"""The rows of a manifest.csv, with their lines; what would be misread without a word is an error."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from iern.runtime.errors import DataError

REQUIRED_COLUMNS = ("path", "expression", "confounder")
KNOWN_COLUMNS = (*REQUIRED_COLUMNS, "split", "subject")
"""All other columns are allowed: the votes for expressions, and whatever else the data has."""
NEAR = 0.8
"""A column that is so similar to an absent known one is a misspelling (difflib's ratio, 0 to 1)."""

Row = tuple[str, dict[str, str]]
"""Where a row is, in words, and its fields by column."""


def manifest_rows(manifest: Path) -> Iterator[Row]:
    """The rows of a manifest, without empty ones and comments.

    Raises DataError, which names the line, for a misspelt column or a row of another length than the header.
    """
    with open(manifest, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header: list[str] | None = None
        try:
            for cells in reader:
                where = f"{manifest} line {reader.line_num}"
                if _skipped(cells, manifest.parent):
                    continue
                if header is None:
                    header = _checked_header(manifest, cells)
                else:
                    yield where, dict(zip(header, _checked_cells(where, cells, header), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{manifest}: not a UTF-8 CSV file ({error})") from error
    if header is None:
        raise DataError(f"{manifest}: is empty; expected a line with the columns {', '.join(REQUIRED_COLUMNS)}")


def refuse_vote_columns(manifest: Path, columns: Sequence[str], expressions: Sequence[str]) -> None:
    """Raise DataError if a column is an expression but for capitals and blanks: its votes would not count."""
    by_spelling = {name.strip().casefold(): name for name in expressions}
    for column in columns:
        meant = by_spelling.get(column.strip().casefold(), column)
        if column not in expressions and meant != column:
            raise DataError(f"{manifest}: the column {column!r} is not the expression {meant!r}; spell them alike")


def _skipped(cells: list[str], root: Path) -> bool:
    """Whether a line is empty, or a comment and not a file whose name begins with `#`."""
    if not any(cell.strip() for cell in cells):
        return True
    return cells[0].lstrip().startswith("#") and not (root / cells[0]).is_file()


def _checked_header(manifest: Path, columns: list[str]) -> list[str]:
    absent = [column for column in KNOWN_COLUMNS if column not in columns]
    for column in columns:
        near = get_close_matches(column.strip().casefold(), absent, n=1, cutoff=NEAR)
        if near and column not in KNOWN_COLUMNS:
            raise DataError(f"{manifest}: unknown column {column!r}; did you mean {near[0]!r}?")
    missing = [column for column in REQUIRED_COLUMNS if column in absent]
    if missing:
        raise DataError(f"{manifest}: no column {', '.join(missing)}; found {columns}")
    twice = [column for column, count in Counter(columns).items() if count > 1 and column]
    if twice:
        raise DataError(f"{manifest}: the column {', '.join(twice)} is there twice; leave one out")
    return columns


def _checked_cells(where: str, cells: list[str], header: list[str]) -> list[str]:
    """The cells of a row, as many as columns. Raises DataError for more, as after a decimal comma, or fewer."""
    if len(cells) > len(header):
        raise DataError(f"{where}: more fields than columns; write numbers with a decimal point, quote commas in names")
    if len(cells) < len(header):
        raise DataError(
            f"{where}: {len(cells)} fields, expected {len(header)} ({', '.join(header)}); leave a field empty, "
            "but keep its comma"
        )
    return cells
