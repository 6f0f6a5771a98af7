"""Checkpoints: a saved one loads as it was, another file is refused with a reason, and a write is atomic."""

from pathlib import Path

import numpy as np
import pytest
import torch

from iern.runtime.errors import CheckpointError
from iern.train.network.checkpoint import FORMAT_VERSION, Checkpoint, load_checkpoint, save_checkpoint
from iern.train.network.config import ModelConfig
from iern.train.network.iern import build

CONFIG = ModelConfig(
    expressions=("anger", "fear"), strata=("x", "y"), backbone="test_resnet", stride=16, image_size=32, width=8
)


@pytest.fixture(scope="module")
def checkpoint():
    torch.manual_seed(0)
    weights, provenance = build(CONFIG).state_dict(), {"data": "none", "seed": 3}
    return Checkpoint(CONFIG, weights, provenance=provenance, temperature=1.5, threshold=0.4, prior=(0.75, 0.25))


@pytest.fixture
def path(tmp_path, checkpoint):
    path = tmp_path / "ckpt.pt"
    save_checkpoint(checkpoint, path)
    return path


def rewrite(path: Path, **changes) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({key: value for key, value in {**content, **changes}.items() if value is not ...}, path)


def test_a_checkpoint_loads_as_it_was_saved(path, checkpoint):
    loaded = load_checkpoint(path)
    assert (loaded.config, loaded.provenance, loaded.temperature) == (CONFIG, {"data": "none", "seed": 3}, 1.5)
    assert (loaded.threshold, loaded.prior) == (0.4, (0.75, 0.25))
    assert loaded.training is None
    assert list(loaded.weights) == list(checkpoint.weights)
    assert all(torch.equal(loaded.weights[key], tensor) for key, tensor in checkpoint.weights.items())


@torch.no_grad()
def test_the_model_of_a_loaded_checkpoint_predicts_like_the_saved_one(path, checkpoint):
    original = build(CONFIG)
    original.load_state_dict(checkpoint.weights)
    image = torch.randn(2, 3, 32, 32)
    model = load_checkpoint(path).model()
    assert not model.training
    assert torch.equal(model.stratum_logits(image), original.eval().stratum_logits(image))


def test_a_missing_file_is_refused_and_the_expected_one_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pt: no such file; expected a checkpoint written by"):
        load_checkpoint(tmp_path / "absent.pt")


def test_an_empty_file_is_refused_as_empty(tmp_path):
    path = tmp_path / "ckpt.pt"
    path.touch()
    with pytest.raises(CheckpointError, match="the file is empty"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused_in_one_line(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match="or cut off") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "ckpt.pt"
    path.write_text("expression,confounder\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read safely"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 3}, [torch.zeros(2)]], ids=["dict", "list"])
def test_a_pytorch_file_of_another_project_is_refused_with_the_way_to_convert(tmp_path, content):
    torch.save(content, tmp_path / "theirs.pt")
    with pytest.raises(CheckpointError, match=r"not of this project .* train/convert_published\.py") as caught:
        load_checkpoint(tmp_path / "theirs.pt")
    assert ("state_dict" if isinstance(content, dict) else "list") in str(caught.value)


def test_another_format_version_is_refused_and_both_are_named(path):
    rewrite(path, format_version=99)
    with pytest.raises(CheckpointError, match=f"has format 99, this version reads {FORMAT_VERSION}"):
        load_checkpoint(path)


@pytest.mark.parametrize("key", ["weights", "config", "temperature"])
def test_a_checkpoint_without_one_of_its_parts_is_refused_as_incomplete(path, key):
    rewrite(path, **{key: ...})
    with pytest.raises(CheckpointError, match=rf"incomplete \('{key}'\)"):
        load_checkpoint(path)


def test_a_checkpoint_without_threshold_and_prior_is_never_uncertain_and_its_rates_are_unknown(path):
    rewrite(path, threshold=..., prior=...)
    assert (load_checkpoint(path).threshold, load_checkpoint(path).prior) == (0, ())


class Trap:
    """What a hostile file does when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(path, tmp_path):
    sprung = tmp_path / "sprung"
    rewrite(path, metrics=Trap(sprung))
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read safely"):
        load_checkpoint(path)
    assert not sprung.exists()


def test_numpy_numbers_in_the_metrics_load_as_python_numbers(tmp_path, checkpoint):
    metrics = {"accuracy": np.float64(0.5), "n": np.int64(7), "row": np.arange(3), "best": (np.bool_(True), None)}
    save_checkpoint(Checkpoint(CONFIG, checkpoint.weights, metrics=metrics), tmp_path / "ckpt.pt")
    loaded = load_checkpoint(tmp_path / "ckpt.pt").metrics
    assert loaded == {"accuracy": 0.5, "n": 7, "row": [0, 1, 2], "best": (True, None)}
    assert [type(value) for value in loaded.values()] == [float, int, list, tuple]


def test_a_save_that_fails_leaves_the_old_file_and_no_other(path, checkpoint):
    before = path.read_bytes()
    with pytest.raises(TypeError, match="found object"):
        save_checkpoint(Checkpoint(CONFIG, checkpoint.weights, metrics={"x": object()}), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_weights_of_another_configuration_are_refused_when_the_model_is_built(path):
    loaded = load_checkpoint(path)
    loaded.weights.pop("confounders")
    with pytest.raises(CheckpointError, match=r"do not fit the configuration: .*confounders"):
        loaded.model()
