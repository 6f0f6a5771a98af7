"""Recipes from YAML files and options: a fault is one line that names the key, its line and the likely right one."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from iern.runtime.errors import TrainingError
from iern.runtime.system.remedies import in_words_of_reader, program_name, run_script
from iern.train.training.recipe import Recipe
from iern.train.training.resume import by_path

FIELDS = tuple(by_path(Recipe(data=Path()).as_dict()))
"""The fields of a recipe by path, such as `algorithm.lr`."""
RECIPES = Path(__file__).parents[1] / "recipes"
"""They are installed with the package."""
REPEATABLE = {"--config", *(f"--{field}+" for field in FIELDS)}
"""Options that may be given several times: of recipes the later ones override the earlier, and `+` adds to a list."""


class RecipeParser(ArgumentParser):
    """jsonargparse's parser with recipes in UTF-8, no key twice, no abbreviated options, and errors in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **{**options, "prog": program_name(options.get("prog"))})

    def format_help(self, *options: Any) -> str:
        """As jsonargparse does, with commands that the reader can type."""
        return in_words_of_reader(super().format_help(*options))

    def parse_args(self, args: Iterable[str] | None = None, *others: Any, **options: Any) -> Any:
        """As jsonargparse does, without an option given twice: otherwise the last would win without a word."""
        given = self._with_recipes_by_path([str(each) for each in (sys.argv[1:] if args is None else args)])
        names = [each.partition("=")[0] for each in given if each.startswith("--")]
        for name in names:
            if names.count(name) > 1 and name not in REPEATABLE and name in self._option_string_actions:
                self.error(f"{name} is given twice; it takes one value, keep one")
        return super().parse_args(given, *others, **options)

    def _with_recipes_by_path(self, given: Sequence[str]) -> list[str]:
        """The arguments with the paths of the recipes that --config gives by name."""
        found: list[str] = []
        for each in given:
            try:
                if found and found[-1] == "--config":
                    each = str(recipe_path(each))
                elif each.startswith("--config="):
                    each = f"--config={recipe_path(each.removeprefix('--config='))}"
            except TrainingError as error:
                self.error(str(error))
            found.append(each)
        return found

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


def recipe_path(text: str) -> Path:
    """`edge` -> the file of that recipe of the package; a path -> itself. Raises TrainingError for an unknown name."""
    path = Path(text)
    if path.suffix or path.name != text or path.exists():
        return path
    named = RECIPES / f"{text}.yaml"
    if not named.is_file():
        known = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise TrainingError(f"--config: there is no recipe {text!r}; expected one of {known}, or the path of a file")
    return named


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
