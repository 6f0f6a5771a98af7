"""`iern` knows its commands, starts with the standard library alone, and a package that is absent is one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import iern.runtime
from iern import __version__
from iern.__main__ import main
from iern.runtime.system import absent_packages, remedies
from iern.runtime.system.command_table import COMMANDS, REQUIRED, Command
from repository import CODE, ROOT, imports, installed_path, pyproject, python_files

EXTRAS = pyproject()["project"]["optional-dependencies"]
NOTE_MODULES = "import sys; before = set(sys.modules)\n"
NO_OTHERS = (
    "\nothers = {name.partition('.')[0] for name in set(sys.modules) - before} - {*sys.stdlib_module_names, 'iern'}"
    "\nassert not others, others"
)


@pytest.fixture
def program(monkeypatch):
    """Forgets at the end that a test called itself `iern`."""
    monkeypatch.setattr(remedies, "_invocation", None)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/iern"])


def run(*words: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(variables or {})}
    return subprocess.run([sys.executable, *words], capture_output=True, encoding="utf-8", env=environment, check=False)


def file_of(command: Command) -> Path:
    (file,) = [path for path in python_files(*CODE) if installed_path(path) == command.module.replace(".", "/") + ".py"]
    return file


@pytest.mark.parametrize("each", COMMANDS, ids=lambda each: each.name)
def test_a_command_of_the_table_is_a_module_with_a_main_and_an_extra_that_exists(each):
    assert "def main(argv: Sequence[str] | None = None)" in file_of(each).read_text(encoding="utf-8")
    assert set(each.extra.split(",")) <= set(EXTRAS) & set(REQUIRED)


def test_each_command_of_the_table_has_another_name_and_is_in_the_help(program, capsys):
    assert len({each.name for each in COMMANDS}) == len(COMMANDS)
    assert main(["--help"]) == 0
    help_text = capsys.readouterr().out
    assert help_text.startswith("usage: iern COMMAND")
    for each in COMMANDS:
        assert f"\n  {each.name} " in help_text
        assert each.purpose in help_text
    assert all(len(line) <= 100 for line in help_text.splitlines() if "pip install" not in line)


def test_help_and_version_need_nothing_but_the_standard_library():
    for words in (["--help"], ["--version"]):
        result = run("-c", f"{NOTE_MODULES}from iern.__main__ import main; assert main({words}) == 0{NO_OTHERS}")
        assert result.returncode == 0, result.stderr


def test_importing_iern_imports_nothing_else_of_it_and_the_library_comes_with_its_first_use():
    result = run(
        "-c",
        f"{NOTE_MODULES}import iern; assert not [name for name in sys.modules if name.startswith('iern.')]{NO_OTHERS}\n"
        "from iern import ExpressionRecognizer as ours\n"
        "from iern.runtime.recognizer import ExpressionRecognizer; assert ours is ExpressionRecognizer",
    )
    assert result.returncode == 0, result.stderr


def test_every_name_of_the_library_comes_from_iern_and_from_the_runtime_alike():
    assert set(iern.__all__) - {"__version__"} == set(iern.runtime.__all__)
    assert set(iern.__all__) <= set(dir(iern)) and set(iern.runtime.__all__) <= set(dir(iern.runtime))
    for name in iern.runtime.__all__:
        assert getattr(iern, name) is getattr(iern.runtime, name)
        assert getattr(iern, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = iern.nothing


@pytest.mark.parametrize(("words", "line"), [(["webcm"], "did you mean webcam?"), (["zzz"], "the commands are webcam")])
def test_an_unknown_command_is_wrong_usage_with_the_likely_one(program, capsys, words, line):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err
    assert printed.err.count("\n") == 1


def test_without_a_command_the_help_is_printed_and_the_status_is_that_of_wrong_usage(program, capsys):
    assert main([]) == 2
    assert "Three commands to begin with" in capsys.readouterr().out


def test_a_command_is_given_its_arguments_and_the_name_that_was_typed(program, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["help", "doctor"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: iern doctor ")


@pytest.mark.parametrize(
    ("name", "absent", "extra"),
    [
        ("train", "torch", "train"),
        ("webcam", "cv2", "cpu"),
        ("audit", "onnx", "train,export"),
        ("evaluate", "cv2", "cpu"),
    ],
)
def test_a_package_that_a_command_lacks_is_one_line_with_the_extra_that_brings_it(name, absent, extra):
    program = f"import sys; sys.modules[{absent!r}] = None; from iern.__main__ import main; sys.exit(main([{name!r}]))"
    result = run("-c", program)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.search(rf"error: .*{absent}.*; \S+ -m pip install 'iern\[{extra}\]'", result.stderr)


@pytest.mark.parametrize(("script", "absent"), [("train/probe.py", "torch"), ("export/to_int8.py", "onnx")])
def test_so_it_is_for_a_script_that_is_run_by_its_path(script, absent):
    program = (
        f"import runpy, sys; sys.modules[{absent!r}] = None; runpy.run_path({str(ROOT / script)!r}, None, '__main__')"
    )
    result = run("-c", program)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert f"error: python {script} needs {absent}" in result.stderr


def test_a_missing_module_of_ours_is_a_fault_and_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        absent_packages.line_for(ModuleNotFoundError("no", name="iern.runtime.gone"), "iern webcam", "cpu")


def test_every_script_imports_what_explains_absent_packages():
    """`import torch` fails before any line below it is run. Ruff keeps this import above the others."""
    for each in COMMANDS:
        assert "iern.runtime.system.command.command" in imports(file_of(each)), each.name


def test_the_version_has_one_place_and_the_papers_of_the_project_agree_with_it():
    assert pyproject()["project"]["dynamic"] == ["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changes, re.MULTILINE)
    assert released[0] == __version__
