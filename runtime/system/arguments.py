"""What the commands' arguments may be: argparse types, each of which says what it expects."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")

SHORTEST_TOKEN = 8


class Parser(argparse.ArgumentParser):
    """A parser that repeats no URL: it may hold a password, and what a service says is kept."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub(r"\w+://[^\s[]\S*", "...", message))


def value_of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type of a function that raises ValueError, whose own words are shown."""

    def value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


def path_with(suffixes: tuple[str, ...]) -> Callable[[str], Path]:
    """An argparse type: a path with one of these suffixes, dated as `dated_path` does."""

    def path(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must end in one of {' '.join(suffixes)}")
        return dated_path(text)

    return path


def dated_path(text: str) -> Path:
    """An argparse type: a path in which %Y%m%d, %H%M%S and their like become the time of now."""
    return Path(time.strftime(text) if "%" in text else text)


def number(text: str) -> float:
    """A number of at least 0; raises ValueError."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ValueError(f"expected a number of at least 0, found {text!r}")
    return found


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return found


def fourcc(text: str) -> str:
    """The four characters of a codec, in capitals; raises ValueError."""
    if not (len(text) == 4 and text.isascii() and text.isalnum()):
        raise ValueError(f"expected four letters as in MJPG or YUYV, found {text!r}")
    return text.upper()


def token(text: str) -> str:
    """An argparse type: a token that is not guessed by trying."""
    if len(text) < SHORTEST_TOKEN:
        raise argparse.ArgumentTypeError(f"expected at least {SHORTEST_TOKEN} characters, found {len(text)}")
    return text
