"""A table of results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def print_table(console: Console, title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """Print the table on the terminal."""
    table = Table(*head, title=title)
    for cells in body:
        table.add_row(*cells)
    console.print(table)
