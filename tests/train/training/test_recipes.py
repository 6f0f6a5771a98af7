"""The command reads the recipes of the repository, and the one without data learns."""

import pytest
import yaml

from iern.train.fit import main
from iern.train.network.checkpoint import load_checkpoint
from iern.train.training.recipe import Recipe
from repository import ROOT

RECIPES = sorted((ROOT / "train" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_field_of_a_recipe_is_read(path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(path), "--data", "faces", "--print_config"])
    assert stopped.value.code == 0
    read = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in written.items():
        if isinstance(value, dict):
            assert read[key].items() >= value.items()
        elif key != "data":
            assert read[key] == value


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_comments_of_a_recipe_name_its_own_command(path):
    assert f"train/recipes/{path.name}" in path.read_text(encoding="utf-8")


def test_a_field_that_does_not_exist_is_named(tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("epoch: 3\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--config", str(tmp_path / "wrong.yaml"), "--data", "faces"])
    assert stopped.value.code != 0
    assert "epoch" in capsys.readouterr().err


def test_a_resumed_run_may_change_its_folder_and_descriptions():
    assert {"out", "licence", "data_name"}.isdisjoint(Recipe(data=ROOT).identity())


@pytest.mark.slow
def test_the_cartoon_recipe_learns_the_drawn_expressions(tmp_path):
    out = tmp_path / "runs" / "cartoon"
    assert main(["--config", str(ROOT / "train" / "recipes" / "cartoon.yaml"), "--out", str(out)]) == 0
    figures = load_checkpoint(out / "ckpt.pt").metrics["valid"]
    assert figures["n"] == 462
    assert figures["accuracy"] > 0.6, "chance is 1/7"
    assert (tmp_path / "runs" / "cartoon_faces" / "manifest.csv").is_file()
