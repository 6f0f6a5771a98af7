"""A table of results, for a page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def print_table(console: Console, title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """The table on the terminal."""
    table = Table(*head, title=title)
    for cells in body:
        table.add_row(*cells)
    console.print(table)
