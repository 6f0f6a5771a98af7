"""Commands in messages and in help, such that they work for the reader: in a checkout, or with an installed wheel."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from iern.runtime.system.command_table import COMMANDS, Command

ROOT = Path(__file__).resolve().parents[2]
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file()
"""Whether this file is in a checkout. In an installed wheel its folder has no packaging beside it."""

_invocation: tuple[str, Command] | None = None
"""The program and the command that the user typed, such as `iern` and `train`; None for a script or a library."""


def invoked_as(program: str, command: Command) -> None:
    """Note that the user typed `program command`. Messages and help then use these words."""
    global _invocation  # noqa: PLW0603 (a process runs one command)
    _invocation = program, command


def run_script(script: str) -> str:
    """`export/to_trt.py` -> the words that run it.

    These are `iern export` if the user typed `iern`, otherwise its path in a checkout, and in a wheel the command of
    `iern` if it has one, or its module.
    """
    if _invocation is None and IN_CHECKOUT:
        return f"python {script}"
    program = "iern" if _invocation is None else _invocation[0]
    names = [f"{program} {command.name}" for command in COMMANDS if command.script == script]
    return names[0] if names else f"python -m iern.{script.removesuffix('.py').replace('/', '.')}"


def program_name(otherwise: str | None) -> str | None:
    """The name of the running command in its usage: `iern train` if the user typed that."""
    return otherwise if _invocation is None else f"{_invocation[0]} {_invocation[1].name}"


def in_words_of_reader(text: str) -> str:
    """Help that names scripts and recipes by their paths -> the same with what the reader can type."""
    if _invocation is None and IN_CHECKOUT:
        return text
    text = "".join(_line_in_words_of_reader(line) for line in text.splitlines(keepends=True))
    return re.sub(r"\btrain/recipes/(\w+)\.yaml\b", r"\1", text)


def _line_in_words_of_reader(line: str) -> str:
    for command in COMMANDS:
        script, file = re.escape(command.script), re.escape(command.script.rpartition("/")[2])
        if "torchrun" in line:  # it takes a file or a module, and no command
            line = line.replace(command.script, f"-m {command.module}")
            continue
        names = [script] if file.startswith("_") else [script, rf"(?<![\w./-]){file}"]
        modules = rf"-m (?:{re.escape(command.module.removesuffix('.__main__'))}|benchmarks\.{command.name})"
        line = re.sub(rf"(?:\bpython +)?(?:{'|'.join([*names, modules])})\b", run_script(command.script), line)
    return re.sub(r"(?:\bpython +)?(?<![\w./-])((?:train|export)/\w+\.py)\b", lambda found: run_script(found[1]), line)


def install(extra: str) -> str:
    """The command that adds an extra to this installation. It works for a wheel and for a checkout.

    pip finds that `iern` is installed, takes it as it is, and adds only what the extra needs. It is this Python's pip
    also if the environment is not activated.
    """
    activated = shutil.which("python") or ""
    same = bool(activated) and os.path.abspath(activated) == os.path.abspath(sys.executable)
    return f"{'python' if same else shlex.quote(os.path.abspath(sys.executable))} -m pip install 'iern[{extra}]'"
