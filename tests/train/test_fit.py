"""The training command on a few random pictures: it trains, stops, resumes to the same losses, and refuses errors."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from doubles.face_folder import write_faces, write_image, write_manifest
from iern.train.fit import main
from iern.train.network.checkpoint import load_checkpoint
from iern.train.training.recipe import Schedule
from iern.train.training.trainer import Trainer
from repository import PHOTOS, ROOT

FIT = [sys.executable, str(ROOT / "train" / "fit.py")]
TINY = [
    "--model.backbone", "test_resnet", "--model.stride", "16", "--model.image_size", "64", "--model.width", "8",
    "--model.weights", "none", "--schedule.warmup", "1", "--schedule.constant", "0", "--accelerator", "cpu",
    "--epochs", "2", "--batch_size", "6", "--valid_share", "0.2", "--save_every", "2",
]  # fmt: skip
FACES = 37
"""30 of them train: 5 batches."""
MIXED = ["--mixup", "0.4", "--ema", "0.9"]
OPTIONS = [
    "--resample", "cell", "--algorithm.logit_adjustment", "1", "--algorithm.centres", "shared",
]  # fmt: skip
LIMIT = 900
"""Seconds after which a process hangs."""


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Training pictures, and a test split of files that are no pictures, so that opening one would fail."""
    root = write_faces(tmp_path_factory.mktemp("faces"), FACES, testing=6)
    for i in range(FACES, FACES + 6):
        (root / f"{i}.png").write_bytes(b"the test split is closed")
    return root


def arguments(faces, out, *more, workers=0):
    """The options, of which `more` replaces those of the same name: the command refuses one that is given twice."""
    pairs = [*TINY, "--data", str(faces), "--out", str(out), "--workers", str(workers), *more]
    return [word for pair in dict(zip(pairs[::2], pairs[1::2], strict=True)).items() for word in pair]


def fit(faces, out, *more, workers=0) -> int:
    return main(arguments(faces, out, *more, workers=workers))


def start(faces, out, *more, workers=0):
    """The command as a process with a process group of its own, so that a signal reaches its children too."""
    return subprocess.Popen(
        [*FIT, *arguments(faces, out, *more, workers=workers)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


def finish(process) -> tuple[int, str]:
    """(exit status, standard error)."""
    try:
        _, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, errors


def complete(faces, out, *more, workers=0):
    status, errors = finish(start(faces, out, *more, workers=workers))
    assert status == 0, errors


def signal_inside_an_epoch(process, out, number):
    """Wait for the first checkpoint, which the options put inside the first epoch, then signal the whole group."""
    deadline = time.monotonic() + LIMIT
    while not (out / "last.pt").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, number)


def last(out):
    return load_checkpoint(out / "last.pt")


def same(one, other):
    """Whether two nested values are equal, tensors bit by bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def assert_same_run(one, other):
    a, b = last(one), last(other)
    assert a.training["history"] == b.training["history"]
    assert same(a.weights, b.weights)
    assert same(a.training, b.training)
    assert same(load_checkpoint(one / "ckpt.pt").weights, load_checkpoint(other / "ckpt.pt").weights)


class PowerCut(BaseException):
    """Nothing catches it, so only the files are left."""


@pytest.fixture
def after(monkeypatch):
    """`after(epoch, iteration, act)` calls `act` with the trainer after that iteration."""

    def plan(epoch, iteration, act):
        real = Trainer._iteration

        def iterate(self, *batch):
            real(self, *batch)
            if (self.position.epoch, self.position.iteration) == (epoch, iteration):
                monkeypatch.setattr(Trainer, "_iteration", real)
                act(self)

        monkeypatch.setattr(Trainer, "_iteration", iterate)

    return plan


def cut_power(_):
    raise PowerCut


@torch.no_grad()
def spoil(layer):
    for parameter in layer.parameters():
        parameter.fill_(float("nan"))


@pytest.fixture(scope="module")
def whole(faces, tmp_path_factory):
    """An uninterrupted run with mixup and averaged weights."""
    out = tmp_path_factory.mktemp("whole")
    assert fit(faces, out, *MIXED) == 0
    return out


def test_a_run_writes_checkpoints_of_plain_types_and_never_opens_the_test_split(whole):
    for name in ("ckpt.pt", "last.pt"):
        content = torch.load(whole / name, weights_only=True)
        assert content["config"]["expressions"] == ["happy", "neutral", "sad"]
        assert all(torch.isfinite(tensor).all() for tensor in content["weights"].values())
    history = last(whole).training["history"]
    assert [entry["epoch"] for entry in history] == [0, 1]
    assert {"classification", "discriminator", "confusion", "reconstruction", "centre"} == set(history[0]["losses"])
    assert history[0]["valid"]["n"] == FACES - load_checkpoint(whole / "ckpt.pt").provenance["images"] > 0
    assert load_checkpoint(whole / "ckpt.pt").training is None


def test_more_data_adds_its_training_faces_and_a_share_of_the_faces_is_cut_out_of_the_images(faces, tmp_path, capsys):
    more, portraits = tmp_path / "more", ("astronaut", "obama_portrait", "biden_portrait")
    more.mkdir()
    for name in portraits:
        shutil.copy(PHOTOS / f"{name}.jpg", more)
    rows = [{"path": f"{name}.jpg", "expression": "happy", "confounder": "portrait"} for name in portraits]
    splits = ("train", "train", "test")
    write_manifest(more, [row | {"split": split} for row, split in zip(rows, splits, strict=True)])
    options = ["--more_data", f"[{more}]", "--whole_share", "0.5", "--epochs", "1", *MIXED]
    assert fit(faces, tmp_path / "with", *options) == 0
    printed = capsys.readouterr().out
    trained_on = last(tmp_path / "with").provenance["images"]
    assert f"the detector finds a face in 2 of {trained_on} training images" in printed
    assert last(tmp_path / "with").config.strata == ("film", "portrait", "web")
    assert fit(faces, tmp_path / "without", "--epochs", "1", *MIXED) == 0
    assert trained_on == last(tmp_path / "without").provenance["images"] + 2


def test_the_kept_checkpoint_is_the_averaged_model_of_the_best_epoch(whole):
    kept, state = load_checkpoint(whole / "ckpt.pt"), last(whole).training
    scores = [entry["valid"]["accuracy"] for entry in state["history"]]
    assert kept.metrics["valid"]["accuracy"] == max(scores) == state["best"]
    if scores[1] > scores[0]:
        assert same(kept.weights, state["ema"])
    kept.model()


def test_a_run_cut_off_inside_an_epoch_resumes_to_the_same_losses_and_weights(faces, whole, tmp_path, after):
    after(1, 3, cut_power)
    with pytest.raises(PowerCut):
        fit(faces, tmp_path, *MIXED)
    assert (last(tmp_path).training["epoch"], last(tmp_path).training["iteration"]) == (1, 2)
    assert fit(faces, tmp_path, *MIXED, "--resume", "true", workers=2) == 0
    assert_same_run(whole, tmp_path)


def test_a_run_with_other_options_resumes_to_the_same_losses_too(faces, tmp_path, after):
    assert fit(faces, tmp_path / "whole", *OPTIONS) == 0
    after(0, 3, cut_power)
    with pytest.raises(PowerCut):
        fit(faces, tmp_path / "cut", *OPTIONS)
    assert fit(faces, tmp_path / "cut", *OPTIONS, "--resume", "true", workers=2) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    centres = last(tmp_path / "cut").weights["confounders"]
    assert torch.equal(centres, centres[:1].expand_as(centres))


def test_ctrl_c_saves_the_iteration_and_the_command_prints_how_to_continue(faces, whole, tmp_path, after, capsys):
    after(0, 3, lambda _: signal.raise_signal(signal.SIGINT))
    handler = signal.getsignal(signal.SIGINT)
    assert fit(faces, tmp_path, *MIXED) == 130
    assert "continue with --resume true" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert (last(tmp_path).training["epoch"], last(tmp_path).training["iteration"]) == (0, 3)
    assert fit(faces, tmp_path, *MIXED, "--resume", "true") == 0
    assert_same_run(whole, tmp_path)
    assert last(tmp_path).provenance["backbone"] == "random"


def test_a_run_resumes_to_the_same_losses_with_its_data_in_another_folder_by_a_relative_path(
    faces, whole, tmp_path, after, monkeypatch
):
    after(1, 3, cut_power)
    with pytest.raises(PowerCut):
        fit(faces, tmp_path / "run", *MIXED)
    shutil.copytree(faces, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert fit("moved", tmp_path / "run", *MIXED, "--resume", "true") == 0
    assert last(tmp_path / "run").training["history"] == last(whole).training["history"]
    assert same(last(tmp_path / "run").weights, last(whole).weights)


def test_a_finished_run_is_lengthened_and_its_schedule_follows_the_new_length(faces, whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "run")
    assert fit(faces, tmp_path / "run", *MIXED, "--resume", "true") == 0
    assert "the run has finished its 2 epochs; --resume true --epochs N" in capsys.readouterr().out
    assert fit(faces, tmp_path / "run", *MIXED, "--resume", "true", "--epochs", "4") == 0
    assert "lengthened from 2 to 4 epochs; the schedule now follows 4" in capsys.readouterr().out
    state = last(tmp_path / "run").training
    assert state["history"][:2] == last(whole).training["history"]
    assert (state["epoch"], state["recipe"]["epochs"]) == (4, 4)
    group = state["optimisers"]["cls"]["param_groups"][0]
    assert group["lr"] / group["initial_lr"] == pytest.approx(Schedule(1, 0).factor(3.8, 4))
    assert fit(faces, tmp_path / "run", *MIXED, "--resume", "true") == 1
    assert "epochs: 4 then, 2 now" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["deleted", "added", "labelled again"])
def test_images_that_changed_since_are_noticed_before_a_resumed_run_trains(tmp_path, capsys, change):
    root = tmp_path / "faces"
    for i in range(24):
        write_image(root / ("film" if i % 2 else "web") / ("happy" if i % 4 < 2 else "sad") / f"{i}.png", i)
    assert fit(root, tmp_path / "run", "--verify", "false") == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    listed = last(tmp_path / "run").training["faces"]["paths"]
    picture = root / listed[0]
    if change == "deleted":
        picture.unlink()
        expected = f"1 of {len(listed)} are missing, the first is {listed[0]}"
    elif change == "added":
        for i in range(20):
            write_image(picture.with_name(f"more{i}.png"), i)
        expected = "are new, the first is"
    else:
        rows = [{"path": path, "expression": path.split("/")[1], "confounder": path.split("/")[0]} for path in listed]
        rows[0]["confounder"] = "film" if rows[0]["confounder"] == "web" else "web"
        write_manifest(root, rows)
        expected = "their labels, splits or order differ"
    assert fit(root, tmp_path / "run", "--verify", "false", "--resume", "true") == 1
    assert expected in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_a_finished_run_is_not_overwritten(faces, whole, capsys):
    before = (whole / "last.pt").read_bytes()
    assert fit(faces, whole, *MIXED) == 1
    assert "last.pt exists: add --resume true" in capsys.readouterr().err
    assert (whole / "last.pt").read_bytes() == before


def test_a_run_is_not_resumed_with_another_recipe(faces, whole, capsys):
    before = (whole / "last.pt").read_bytes()
    assert fit(faces, whole, "--mixup", "0.3", "--ema", "0.9", "--resume", "true") == 1
    assert "is of another recipe (mixup: 0.4 then, 0.3 now)" in capsys.readouterr().err
    assert (whole / "last.pt").read_bytes() == before


def test_a_run_that_cannot_or_need_not_go_on_does_not_look_for_faces_first(faces, tmp_path, capsys):
    cut = [*MIXED, "--whole_share", "0.5", "--epochs", "1"]
    searching = "finding the faces of training images"
    assert fit(faces, tmp_path, *cut) == 0
    assert searching in capsys.readouterr().out
    assert fit(faces, tmp_path, *cut, "--resume", "true", "--seed", "5") == 1
    printed = capsys.readouterr()
    assert "is of another recipe (seed: 0 then, 5 now)" in printed.err and searching not in printed.out
    before = (tmp_path / "last.pt").read_bytes()
    assert fit(faces, tmp_path, *cut, "--resume", "true") == 0
    printed = capsys.readouterr().out
    assert "has finished its 1 epochs" in printed and searching not in printed and "next: " in printed
    assert (tmp_path / "last.pt").read_bytes() == before


def test_there_must_be_something_to_resume(faces, tmp_path, capsys):
    assert fit(faces, tmp_path, "--resume", "true") == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_a_nan_loss_stops_the_run_and_leaves_the_last_good_checkpoint(faces, tmp_path, capsys, after):
    after(1, 3, lambda trainer: spoil(trainer.model.classifier))
    assert fit(faces, tmp_path) == 1
    error = capsys.readouterr().err
    assert "the loss is no longer a number (epoch 2, iteration 4: classification)" in error
    assert "lower --algorithm.lr" in error
    assert f"the last good checkpoint is {tmp_path / 'last.pt'}" in error
    kept = last(tmp_path)
    assert (kept.training["epoch"], kept.training["iteration"]) == (1, 2)
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())


def test_a_far_too_high_learning_rate_stops_at_once(faces, tmp_path, capsys):
    assert fit(faces, tmp_path, "--algorithm.lr", "1e30") == 1
    assert "the loss is no longer a number (epoch 1, iteration" in capsys.readouterr().err
    assert not (tmp_path / "ckpt.pt").exists()


def test_a_last_batch_of_one_image_is_trained_on(tmp_path):
    root = write_faces(tmp_path / "faces", 13)
    assert fit(root, tmp_path / "run", "--valid_share", "0", "--epochs", "1") == 0
    state = last(tmp_path / "run").training
    assert state["optimisers"]["cls"]["state"][0]["step"] == 2  # 6 images, then 7


def test_bfloat16_trains_on_the_cpu_too(faces, tmp_path):
    assert fit(faces, tmp_path, "--precision", "bf16-mixed", "--epochs", "1") == 0
    assert {tensor.dtype for tensor in last(tmp_path).weights.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("method", ["baseline", "disentanglement"])
def test_the_ablations_train_by_the_same_command(faces, tmp_path, method):
    assert fit(faces, tmp_path, "--model.method", method, "--epochs", "1") == 0
    assert load_checkpoint(tmp_path / "ckpt.pt").config.method == method


def test_a_corrupt_training_image_is_named_before_training(tmp_path, capsys):
    root = write_faces(tmp_path / "faces", 12)
    (root / "5.png").write_bytes(b"\x89PNG, and then nothing")
    assert fit(root, tmp_path / "run") == 1
    assert "5.png" in capsys.readouterr().err


def test_data_of_one_stratum_trains_the_baseline_only(tmp_path, capsys):
    rows = [{"path": f"{i}.png", "expression": "ab"[i % 2], "confounder": "web"} for i in range(8)]
    for i in range(8):
        write_image(tmp_path / "faces" / f"{i}.png", i)
    write_manifest(tmp_path / "faces", rows)
    assert fit(tmp_path / "faces", tmp_path / "run") == 1
    assert "--model.method baseline" in capsys.readouterr().err


def test_the_help_has_examples_and_the_comments_of_the_fields(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for expected in ("python train/fit.py --config", "--resume", "--algorithm.backbone_lr", "manifest.csv"):
        assert expected in shown
    assert "Learning rate of the backbone f_b." in " ".join(shown.split())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_process_resumes_to_the_same_losses(faces, whole, tmp_path, workers):
    process = start(faces, tmp_path, *MIXED, workers=workers)
    signal_inside_an_epoch(process, tmp_path, signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL
    assert last(tmp_path).training["iteration"] > 0
    complete(faces, tmp_path, *MIXED, "--resume", "true", workers=workers)
    assert_same_run(whole, tmp_path)
    assert not list(tmp_path.glob(".last*"))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_the_command_and_its_loader_workers(faces, tmp_path):
    process = start(faces, tmp_path, "--epochs", "50", workers=2)
    signal_inside_an_epoch(process, tmp_path, signal.SIGINT)
    status, errors = finish(process)
    assert status == 130, errors
    assert errors.strip().endswith("stopped; the position is saved, continue with --resume true")
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_killed_inside_an_epoch_resume_to_the_same_losses(faces, tmp_path, workers):
    two = [*MIXED, "--devices", "2", "--batch_size", "4"]
    complete(faces, tmp_path / "whole", *two)
    process = start(faces, tmp_path / "cut", *two, workers=workers)
    signal_inside_an_epoch(process, tmp_path / "cut", signal.SIGKILL)
    finish(process)
    state = last(tmp_path / "cut").training
    assert (state["world_size"], state["iteration"] > 0) == (2, True)
    complete(faces, tmp_path / "cut", *two, "--resume", "true", workers=workers)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_ctrl_c_stops_two_processes_and_saves_their_position(faces, tmp_path):
    two = ["--devices", "2", "--batch_size", "4", "--epochs", "50"]
    process = start(faces, tmp_path, *two)
    signal_inside_an_epoch(process, tmp_path, signal.SIGINT)
    status, errors = finish(process)
    assert "continue with --resume true" in errors
    assert status in (130, -signal.SIGKILL), errors  # the launcher kills the first when it sees another one ended
    assert last(tmp_path).training["world_size"] == 2


@pytest.mark.slow
def test_a_nan_loss_stops_two_processes(faces, tmp_path):
    process = start(faces, tmp_path, "--devices", "2", "--algorithm.lr", "1e30", "--algorithm.backbone_lr", "1e30")
    status, errors = finish(process)
    assert status != 0
    assert "the loss is no longer a number" in errors


@pytest.mark.slow
def test_an_error_in_one_process_ends_both_with_its_message(tmp_path):
    root = write_faces(tmp_path / "faces", 12)
    (root / "5.png").write_bytes(b"\x89PNG, and then nothing")
    status, errors = finish(start(root, tmp_path / "run", "--devices", "2"))
    assert status != 0
    assert "5.png" in errors
    assert "Traceback" not in errors
