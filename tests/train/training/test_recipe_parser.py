"""A recipe is UTF-8 under any locale, and a fault in it or in an option is one line that names the right field."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from iern.train.fit import main
from iern.train.training.recipe_parser import FIELDS, recipe_path
from repository import ROOT


def error_of(capsys, *arguments) -> str:
    """The only line that the command prints before it exits with status 2."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments), "--data", "no/such/folder"])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1
    return lines[0]


def recipe(folder, content):
    path = folder / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("epoch: 3\n", "line 1: unknown field epoch; did you mean epochs?"),
        ("seed: 1\nmodel:\n  widht: 3\n", "line 3: unknown field model.widht; did you mean model.width?"),
        ("lr: 0.1\n", "line 1: unknown field lr; did you mean algorithm.lr?"),
        ("zzz: 0.1\n", "line 1: unknown field zzz; `python train/fit.py --help` lists the fields"),
        ("epochs: 3\nseed: 1\nepochs: 5\n", "line 3: epochs is given twice, first in line 1; keep one"),
        ("model: {width: 3, width: 4}\n", "line 1: model.width is given twice, first in line 1; keep one"),
        ("model:\n  width: 3\nmodel.width: 4\n", "line 3: model.width is given twice, first in line 2; keep one"),
        ("epochs: 3\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("licence: é\n".encode("latin-1"), "is not UTF-8 text (byte 9); save it as UTF-8"),
        ("", "has no fields; expected lines such as `epochs: 20`"),
        ("# epochs: 3\n", "has no fields; expected lines such as `epochs: 20`"),
        ("epochs: [\n", "is not YAML"),
    ],
)
def test_a_fault_in_a_recipe_is_one_line_with_its_place(tmp_path, capsys, content, fault):
    path = recipe(tmp_path, content)
    error = error_of(capsys, "--config", path)
    assert error.startswith(f"error: {path}")
    assert fault in error


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--epoch", "3"], "did you mean --epochs?"),
        (["--model.widht=3"], "did you mean --model.width?"),
        (["--lr", "3"], "did you mean --algorithm.lr?"),
        (["--confg", "a.yaml"], "did you mean --config?"),
        (["--epochs", "many"], 'key "epochs"'),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--epochs", "3", "--seed", "1", "--epochs=5"], "--epochs is given twice; it takes one value, keep one"),
        (["--model.width", "3", "--model.width", "3"], "--model.width is given twice"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, options, fault):
    assert fault in error_of(capsys, *options)


def test_the_help_explains_every_field(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    blocks = [" ".join(block.split()) for block in re.split(r"\n  --(?=\S)", capsys.readouterr().out)]
    for field in FIELDS:
        (block,) = [block for block in blocks if re.match(rf"{re.escape(field)}[ ,]", block)]
        assert re.search(r"\. \((?:required, )?type:", block), f"no sentence before the type: {block}"


def test_an_option_overrides_the_recipe_and_a_later_recipe_an_earlier_one(tmp_path, capsys):
    later = tmp_path / "later.yaml"
    later.write_text("seed: 8\n", encoding="utf-8")
    files = ["--config", str(recipe(tmp_path, "epochs: 3\nseed: 7\n")), "--config", str(later)]
    with pytest.raises(SystemExit) as stopped:
        main([*files, "--epochs", "5", "--data", "faces", "--print_config"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out.splitlines()
    assert {"epochs: 5", "seed: 8"} <= set(shown)


def test_a_recipe_with_accents_and_a_byte_order_mark_is_read_under_an_ascii_locale(tmp_path):
    path = recipe(tmp_path, "licence: réservée\n".encode("utf-8-sig"))
    script = (
        "import sys; from iern.train.training.recipe_parser import RecipeParser\n"
        "from iern.train.training.recipe import Recipe\n"
        "parser = RecipeParser()\n"
        "parser.add_argument('--config', action='config')\n"
        "parser.add_class_arguments(Recipe, None, as_group=False)\n"
        "print(ascii(parser.parse_args(['--config', sys.argv[1], '--data', 'x']).licence))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == ascii("réservée"), done.stderr


@pytest.mark.parametrize("words", [("--config", "edgy"), ("--config=edgy",)])
def test_a_recipe_of_the_package_is_given_by_its_name_and_an_unknown_name_is_one_line(capsys, words):
    line = error_of(capsys, *words)
    assert re.search(r"no recipe 'edgy'; expected one of cartoon, edge, .*, or the path of a file", line)


def test_a_recipe_by_name_is_that_of_its_file_and_a_file_of_that_name_comes_first(monkeypatch, tmp_path):
    assert recipe_path("edge") == ROOT / "train" / "recipes" / "edge.yaml"
    assert recipe_path("other/edge") == Path("other/edge")
    (tmp_path / "edge").write_text("epochs: 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert recipe_path("edge") == Path("edge")
