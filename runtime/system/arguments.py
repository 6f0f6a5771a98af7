"""Argparse types for the commands. Each error message names what was expected."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from iern.runtime.system.remedies import in_words_of_reader, program_name

T = TypeVar("T")

SHORTEST_TOKEN = 8
"""Characters."""


class Parser(argparse.ArgumentParser):
    """A parser for commands: an option given twice is an error, and no error repeats what may be a secret.

    A URL may hold a password or a token, and the output of a service is stored. The help uses the words with which the
    reader runs the commands: `iern train`, or `python train/fit.py`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "prog": program_name(options.get("prog"))})
        self.given: set[str] = set()
        """Options seen while arguments are parsed."""
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def format_help(self) -> str:
        """As argparse does, with commands that the reader can type."""
        return in_words_of_reader(super().format_help())

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse does, which all ways of parsing go through."""
        self.given.clear()
        return super().parse_known_args(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        super().error(re.sub(r"\w+://[^\s[]\S*|(?<!\S)[^\s[]+:[^\s[]*@\S*|\S+\?\S*=\S*", "...", message))


class _StoreOnce(argparse.Action):
    """Stores a value, and refuses a second one: otherwise the last would win without a word."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if option is not None and isinstance(parser, Parser):
            if self.dest in parser.given:
                parser.error(f"{option} is given twice; it takes one value")
            parser.given.add(self.dest)
        setattr(namespace, self.dest, values)


def value_of(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argparse type from a function that raises ValueError. Its message is shown."""

    def value(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


def path_with(suffixes: tuple[str, ...]) -> Callable[[str], Path]:
    """An argparse type: a path with one of these suffixes, otherwise as `dated_path`."""

    def path(text: str) -> Path:
        if Path(text).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} must end in one of {' '.join(suffixes)}")
        return dated_path(text)

    return path


def dated_path(text: str) -> Path:
    """An argparse type: a path in which %Y%m%d, %H%M%S and so on become the current time."""
    return Path(time.strftime(text) if "%" in text else text)


def number(text: str) -> float:
    """A number of at least 0. Raises ValueError."""
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


def prior(text: str) -> str | dict[str, float]:
    """The value of --prior: `uniform`, or rates as in `neutral=0.6,happiness=0.2`. Raises ValueError."""
    if text == "uniform":
        return text
    rates: dict[str, float] = {}
    for part in text.split(","):
        name, equals, rate = part.rpartition("=")
        name = name.strip()
        if not (equals and name) or name in rates:
            raise ValueError(f"expected uniform, or rates as in neutral=0.6,happiness=0.2, found {text!r}")
        rates[name] = number(rate)
    return rates


def fourcc(text: str) -> str:
    """The four characters of a codec, in capitals. Raises ValueError."""
    if not (len(text) == 4 and text.isascii() and text.isalnum()):
        raise ValueError(f"expected four letters as in MJPG or YUYV, found {text!r}")
    return text.upper()


def token(text: str) -> str:
    """An argparse type: a token that is too long to guess."""
    if len(text) < SHORTEST_TOKEN:
        raise argparse.ArgumentTypeError(f"expected at least {SHORTEST_TOKEN} characters, found {len(text)}")
    return text
