"""A command's `main` returns an exit status, and prints one line for an error."""

from __future__ import annotations

from iern.runtime.system.command import command

import pytest

from iern.runtime.errors import SourceError


def failing_with(error: BaseException):
    @command
    def main(argv=None):
        raise error

    return main


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_a_command_without_an_error_returns_0_or_its_own_status(returned, status):
    assert command(lambda argv: returned)([]) == status


def test_the_arguments_reach_the_command():
    received = []
    command(received.append)(["--help"])
    assert received == [["--help"]]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SourceError("no.mp4: no such file"), "error: no.mp4: no such file\n"),
        (SourceError("two\nlines"), "error: two lines\n"),
        (OSError(28, "No space left on device", "out.mp4"), "error: out.mp4: No space left on device\n"),
    ],
)
def test_an_expected_error_is_one_line_on_stderr_and_status_1(capsys, error, line):
    assert failing_with(error)([]) == 1
    assert capsys.readouterr() == ("", line)


def test_ctrl_c_is_status_130_without_output(capsys):
    assert failing_with(KeyboardInterrupt())([]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), SystemExit(2)])
def test_any_other_exception_passes_through(error):
    with pytest.raises(type(error)) as raised:
        failing_with(error)([])
    assert raised.value is error
