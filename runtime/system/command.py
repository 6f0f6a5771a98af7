"""What every command of this project has in common at its end: exit statuses, and one line for an error."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from iern.runtime.errors import IernError, report

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 plus the number of SIGINT."""

Main = Callable[[Sequence[str] | None], int]


def command(main: Callable[[Sequence[str] | None], int | None]) -> Main:
    """Decorate a command's `main(argv)`, so that it returns an exit status instead of raising.

    0, or what `main` returns; 1 after one line on stderr for IernError and OSError; 130 after Ctrl-C. Usage errors
    leave with 2, from argparse.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except (IernError, OSError) as error:
            return report(error)
        except KeyboardInterrupt:
            return INTERRUPTED

    return run
