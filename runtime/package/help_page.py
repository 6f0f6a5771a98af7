"""The help of `iern`: the commands to begin with, all commands, and what is still to be installed for them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from iern.runtime.system import remedies
from iern.runtime.system.command_table import COMMANDS, REQUIRED, Command

HELP = """\
usage: {iern} COMMAND [OPTION ...]

Facial expression recognition that is not fooled by dataset bias, in real time.

Three commands to begin with:
  {iern} doctor            is everything here that the others need?
  {iern} webcam            the live picture of camera 0; q in the window ends it
  {iern} webcam --demo     the same on a bundled clip, which needs no camera

Run a model, the bundled one or your own:
{run}
Make a model of your own:
{make}
`{iern} COMMAND --help` explains a command, and `{iern} --version` prints the version.
In Python: from iern import ExpressionRecognizer
"""


def help_page(program: str) -> str:
    """The page for `iern`, or for `python -m iern`, as the program was called."""
    width = 2 + max(len(each.name) for each in COMMANDS)
    running = [each for each in COMMANDS if each.script.startswith("runtime/")]
    making = [each for each in COMMANDS if each not in running]
    return HELP.format(iern=program, run=_section(running, width), make=_section(making, width))


def _section(commands: Sequence[Command], width: int) -> str:
    """Lines of the help, and below them what is still to be installed for these commands."""
    lines = [f"  {each.name:<{width}}{each.purpose}" for each in commands]
    extras = dict.fromkeys(extra for each in commands for extra in each.extra.split(","))
    absent = [extra for extra in extras if not all(map(importlib.util.find_spec, REQUIRED[extra]))]
    needed = [f"  not installed yet: {remedies.install(','.join(absent))}"] if absent else []
    return "\n".join([*lines, *needed, ""])
