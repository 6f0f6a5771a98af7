"""A Markdown table, the one writer of all pages."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]], left: int | None = None) -> str:
    """The table as Markdown; with `left`, that many columns are aligned left and the others, which are numbers, right.

    Without it, alignment is left to the reader's program.
    """
    rule = ["---" if left is None else ":---" if column < left else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))
