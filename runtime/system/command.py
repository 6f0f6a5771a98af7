"""The end of every command: its exit status, and one line for an error.

Scripts import this before the packages that may be absent (pyproject.toml has isort put it there), because from then on
an absent package is one line too.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from iern.runtime.errors import IernError, report
from iern.runtime.system.absent_packages import explain_in_script

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 plus the number of SIGINT."""

explain_in_script()


class Main(Protocol):
    """A command: arguments, by default those of the process -> exit status."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(main: Callable[[Sequence[str] | None], int | None]) -> Main:
    """Decorate a command's `main(argv)`, so that it returns an exit status instead of raising.

    The status is 0 or what `main` returns, 1 after an IernError or OSError (one line on stderr), and 130 after Ctrl-C.
    argparse itself exits with 2 after wrong usage.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file may be no text
        try:
            return main(argv) or 0
        except (IernError, OSError) as error:
            return report(error)
        except KeyboardInterrupt:
            return INTERRUPTED

    return run


def leave(status: int) -> NoReturn:
    """End the process with an exit status, without waiting for a thread that is blocked inside a C library.

    A camera's read cannot be interrupted, and Python would wait for it. Call this last, when all files are closed.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
