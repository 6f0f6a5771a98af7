"""The command `iern`: it finds the module of a command, and runs it as the script in the repository does."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

from iern.runtime.system.command import command, leave

import iern
from iern.help_page import help_page
from iern.runtime.system import remedies
from iern.runtime.system.absent_packages import line_for
from iern.runtime.system.command_table import COMMANDS, Command

WRONG_USAGE = 2


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `iern COMMAND ...` and return its exit status: that of the command, or 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    program = "python -m iern" if os.path.basename(sys.argv[0]) == "__main__.py" else "iern"
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(help_page(program), end="")
        return 0 if words else WRONG_USAGE
    if words[0] in ("-V", "--version"):
        print(f"iern {iern.__version__}")
        return 0
    for each in COMMANDS:
        if each.name == words[0]:
            return _run(each, program, words[1:])
    names = [each.name for each in COMMANDS]
    near = get_close_matches(words[0], names, n=1)
    meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(names)}"
    print(f"error: {program} has no command {words[0]!r}; {meant}", file=sys.stderr)
    return WRONG_USAGE


def run() -> NoReturn:
    """Run the command on the arguments of this process, and end the process. The installed script calls this."""
    leave(main())


def _run(chosen: Command, program: str, words: Sequence[str]) -> int:
    """The exit status of a command. A package that it lacks is one line with the remedy."""
    remedies.invoked_as(program, chosen)
    try:
        status: int = importlib.import_module(chosen.module).main(words)
    except ImportError as error:
        print(line_for(error, f"{program} {chosen.name}", chosen.extra), file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    run()
