"""Recipes from YAML files and options: a fault is one line that names the key, its line and the likely right one."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from iern.runtime.errors import TrainingError
from iern.runtime.system.remedies import run_script
from iern.train.training.recipe import Recipe
from iern.train.training.resume import by_path

FIELDS = tuple(by_path(Recipe(data=Path()).as_dict()))
"""The fields of a recipe by path, such as `algorithm.lr`."""


class RecipeParser(ArgumentParser):
    """jsonargparse's parser with recipes in UTF-8, no key twice, no abbreviated options, and errors in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_path(self, path: Any, *others: Any, **options: Any) -> Any:
        """As jsonargparse does, for a file in UTF-8 whatever the locale is."""
        try:
            text = read_recipe(Path(path))
        except TrainingError as error:
            self.error(str(error))
        return self.parse_string(text, str(path), *others, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and exit with status 2."""
        line = " ".join(message.split())
        if "unrecognized arguments:" in line:
            line += _likely(line.rpartition("arguments:")[2].split()[0].partition("=")[0], "--")
        print(f"error: {line}", file=sys.stderr)
        self.exit(2)


def read_recipe(path: Path) -> str:
    """The text of a recipe. Raises TrainingError for an encoding, a key or a repetition that would be misread."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TrainingError(f"{path}: is UTF-16 text; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(root, yaml.MappingNode):
        raise TrainingError(f"{path}: has no fields; expected lines such as `epochs: 20`")
    _check_keys(path, root)
    return text


def _check_keys(path: Path, root: yaml.Node) -> None:
    lines: dict[str, int] = {}
    for key, line in _keys(root):
        if key in lines:
            raise TrainingError(f"{path} line {line}: {key} is given twice, first in line {lines[key]}; keep one")
        lines[key] = line
        if not any(field == key or field.startswith(f"{key}.") for field in FIELDS):
            raise TrainingError(f"{path} line {line}: unknown field {key}{_likely(key)}")


def _keys(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Every key of a recipe by path, also repeated ones, with its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield prefix + str(key.value), key.start_mark.line + 1
            yield from _keys(value, f"{prefix}{key.value}.")


def _likely(wrong: str, before: str = "") -> str:
    """What was probably meant by a field, to end a message; `before` each name, such as `--`."""
    name = wrong.removeprefix(before)
    near = (
        get_close_matches(name, (*FIELDS, "config") if before else FIELDS, n=1)
        or [field for field in FIELDS if field.endswith(f".{name}")][:1]
    )
    return f"; did you mean {before}{near[0]}?" if near else f"; `{run_script('train/fit.py')} --help` lists the fields"
