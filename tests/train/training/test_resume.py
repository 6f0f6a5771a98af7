"""A run is continued only under its own recipe; options that no longer exist count only if they had an effect."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from doubles.tiny_network import tiny_config, tiny_network
from iern.runtime.errors import CheckpointError, TrainingError
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from iern.train.training.recipe import Recipe
from iern.train.training.resume import recipe_changes, resumable_state

RECIPE = Recipe(data=Path("faces"), mixup=0.4).identity()


def saved(recipe, iteration=0, processes=1):
    return Checkpoint(
        tiny_config(), {}, training={"recipe": recipe, "iteration": iteration, "world_size": processes, "epoch": 3}
    )


def resumed(checkpoint, recipe=RECIPE, config=None, processes=1):
    return resumable_state(checkpoint, Path("last.pt"), recipe, config or tiny_config(), processes)


def with_removed_options(**changes):
    recipe = copy.deepcopy(RECIPE)
    recipe["algorithm"] |= {"discriminators": "own", "independence": 0.0, **changes}
    return recipe


def test_a_run_is_continued_under_its_own_recipe():
    assert resumed(saved(RECIPE))["epoch"] == 3


def test_a_removed_option_that_had_no_effect_does_not_stop_a_resume():
    assert resumed(saved(with_removed_options()))["epoch"] == 3


@pytest.mark.parametrize(("option", "value"), [("independence", 10.0), ("discriminators", "both")])
def test_a_removed_option_that_had_an_effect_is_named(option, value):
    with pytest.raises(TrainingError, match=rf"algorithm\.{option}: {value} then, absent now"):
        resumed(saved(with_removed_options(**{option: value})))


def test_changes_are_named_by_their_path():
    changed = copy.deepcopy(RECIPE)
    changed["algorithm"]["lr"] = 0.5
    changed["mixup"] = 0.3
    assert recipe_changes(RECIPE, changed) == ["algorithm.lr: 0.0002 then, 0.5 now", "mixup: 0.4 then, 0.3 now"]
    assert recipe_changes(RECIPE, RECIPE) == []


def test_an_option_that_the_run_did_not_know_is_a_change():
    older = {key: value for key, value in RECIPE.items() if key != "mixup"}
    assert recipe_changes(older, RECIPE) == ["mixup: absent then, 0.4 now"]


def test_a_file_without_a_training_state_or_with_other_labels_is_refused():
    with pytest.raises(CheckpointError, match=r"no training state.*expected a last\.pt"):
        resumed(Checkpoint(tiny_config(), {}))
    with pytest.raises(TrainingError, match="other labels"):
        resumed(saved(RECIPE), config=tiny_config(strata=2))


def test_another_number_of_processes_resumes_between_epochs_only():
    assert resumed(saved(RECIPE, iteration=0, processes=2))
    with pytest.raises(TrainingError, match=r"inside an epoch of 2 processes.*--devices and --nodes"):
        resumed(saved(RECIPE, iteration=5, processes=2))


def test_a_checkpoint_of_a_version_with_the_removed_options_loads_as_a_model(tmp_path):
    path = tmp_path / "ckpt.pt"
    removed = {**RECIPE["algorithm"], "discriminators": "own", "independence": 0.0}
    model = tiny_network(tiny_config())
    save_checkpoint(Checkpoint(model.config, model.state_dict(), {"recipe": {**RECIPE, "algorithm": removed}}), path)
    content = torch.load(path, weights_only=True)
    del content["threshold"], content["prior"]  # such files have no prior, and the first of them no threshold
    torch.save(content, path)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.model().method, checkpoint.threshold, checkpoint.prior) == ("iern", 0.0, ())


def test_a_run_that_recorded_no_faces_is_continued_on_the_folder_that_it_names_only():
    with pytest.raises(TrainingError, match="data: elsewhere then, faces now"):
        resumed(saved({**RECIPE, "data": "elsewhere"}))


def test_a_run_of_one_epoch_is_lengthened_unless_its_centres_were_never_set():
    longer = {**RECIPE, "epochs": 9}
    short = {**RECIPE, "epochs": 1}
    assert resumed(saved(short), longer)
    short["algorithm"] = longer["algorithm"] = {**RECIPE["algorithm"], "centres": "means"}
    with pytest.raises(TrainingError, match="epochs: 1 then, 9 now"):
        resumed(saved(short), longer)
