"""A package that a command needs and that is absent: one line with the remedy, instead of a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from iern.runtime.system.command_table import COMMANDS, REQUIRED
from iern.runtime.system.remedies import ROOT, install, run_script

EXTRAS = {"train": "train", "export": "export", "benchmarks": "train,export", "audit": "train,export"}
"""Folder -> what its scripts need beside the runtime. The others need the runtime alone."""
DOCTOR = "runtime/doctor/__main__.py"


def line_for(error: ImportError, command: str, extra: str) -> str:
    """What a command prints when an import fails. Raises the error if the module is one of ours, which is a fault."""
    if _is_ours(error):
        raise error
    if isinstance(error, ModuleNotFoundError):
        needed = "cpu" if error.name in REQUIRED["cpu"] else extra
        return f"error: {command} needs {error.name}, which is not installed; {install(needed)}"
    reason = " ".join(str(error).split())
    return f"error: {command} cannot import a package that it needs ({reason}); `{run_script(DOCTOR)}` says more"


def explain_in_script() -> None:
    """If the running program is one of our scripts or modules, let a failing import end it with such a line.

    The imports at its top come before its `main`, so that only the hook of the process sees their errors.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(ROOT):
        return
    script = Path(file).resolve().relative_to(ROOT).as_posix()
    extra = next((each.extra for each in COMMANDS if each.script == script), EXTRAS.get(script.partition("/")[0]))
    if extra is None:
        return
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ImportError) and not _is_ours(error):
            print(line_for(error, run_script(script), extra), file=sys.stderr)
        else:
            usual(kind, error, trace)

    sys.excepthook = hook


def _is_ours(error: ImportError) -> bool:
    return (error.name or "").partition(".")[0] in ("iern", "benchmarks")
