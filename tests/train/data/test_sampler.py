"""What an epoch draws: groups equally often, and the images inside a group too, in the batches of any epoch."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from doubles.face_folder import write_faces
from iern.runtime.errors import DataError
from iern.runtime.imaging.preprocess import InputSpec
from iern.train.data.augment import augmentation
from iern.train.data.dataset import FaceDataset, RandomChanges
from iern.train.data.manifest import LabelledFace, load_data
from iern.train.data.sampler import EpochBatches, ProcessRank, balance, label_prior

COUNTS = {("happy", "web"): 60, ("happy", "film"): 20, ("sad", "web"): 9, ("sad", "film"): 1, ("fear", "web"): 7}
NAMES = ("happy", "sad", "fear")
IMAGES = sum(COUNTS.values())


def labelled_faces(soft=0.0):
    """One labelled face an image; the next expression has the share `soft` of each target."""
    found = []
    for (name, confounder), count in COUNTS.items():
        own = NAMES.index(name)
        target = tuple((1 - soft) * (i == own) + soft * (i == (own + 1) % 3) for i in range(3))
        found += [LabelledFace(Path(f"{name}{i}"), own, target, confounder, "train") for i in range(count)]
    return found


def label(face, resample):
    return (face.expression, face.confounder) if resample == "cell" else face.expression


def batches(resample="expression", batch_size=8, rank=0, processes=1, epoch=0, seed=0, strength=1.0):
    drawn = balance(labelled_faces(), resample, strength)
    own = EpochBatches(IMAGES, batch_size, seed, ProcessRank(rank, processes), drawn)
    own.epoch = epoch
    return own


def indices(own):
    return [index for batch in own for index in batch]


def test_nothing_is_resampled_by_default():
    assert balance(labelled_faces(), "none") is None
    assert indices(batches("none")) == indices(EpochBatches(IMAGES, 8, 0))


@pytest.mark.parametrize(("resample", "groups"), [("expression", 3), ("cell", 5)])
def test_groups_are_drawn_equally_often_and_the_images_inside_them_too(resample, groups):
    order = indices(batches(resample))
    assert len(order) == IMAGES
    faces = [labelled_faces()[index % IMAGES] for index in order]
    drawn = Counter(label(face, resample) for face in faces)
    assert len(drawn) == groups
    assert max(drawn.values()) - min(drawn.values()) <= 1
    for group in drawn:
        members = [i for i, face in enumerate(labelled_faces()) if label(face, resample) == group]
        times = Counter(index % IMAGES for index in order)
        assert max(times[i] for i in members) - min(times[i] for i in members) <= 1


def test_a_repeated_image_is_numbered_as_such():
    order = indices(batches())
    assert len(set(order)) == IMAGES
    for image, count in Counter(index % IMAGES for index in order).items():
        assert {index for index in order if index % IMAGES == image} == {image + k * IMAGES for k in range(count)}


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_lower_strength_draws_in_proportion_to_a_power_of_the_count(strength):
    drawn = Counter(labelled_faces()[index % IMAGES].expression for index in indices(batches(strength=strength)))
    counts = np.array([80, 10, 7])
    expected = counts ** (1 - strength) / np.sum(counts ** (1 - strength)) * IMAGES
    np.testing.assert_allclose([drawn[i] for i in range(3)], expected, atol=1)


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_another_strength_is_refused(strength):
    with pytest.raises(DataError, match=r"resample_strength is .*; expected 0 .* to 1"):
        balance(labelled_faces(), "cell", strength)


@pytest.mark.parametrize("resample", ["expression", "cell"])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_resampled_epoch_is_split_and_resumed_like_any_other(resample, processes):
    whole = indices(batches(resample, epoch=2))
    split = []
    for rank in range(processes):
        own = batches(resample, rank=rank, processes=processes, epoch=2)
        usual = EpochBatches(IMAGES, 8, 0, ProcessRank(rank, processes))
        every = list(own)
        assert [len(batch) for batch in every] == [len(batch) for batch in usual]
        assert len(own) == len(every)
        for start in range(len(every) + 1):
            own.start = start
            assert list(own) == every[start:]
        split.append([index for batch in every for index in batch])
    together = [index for turn in zip(*split, strict=True) for index in turn]
    assert together[:IMAGES] == whole
    assert together[IMAGES:] == whole[: len(together) - IMAGES]


def test_a_resampled_order_depends_only_on_the_seed_and_the_epoch():
    assert indices(batches()) == indices(batches())
    assert indices(batches()) != indices(batches(epoch=1))
    assert indices(batches()) != indices(batches(seed=1))


@pytest.mark.parametrize("resample", ["none", "expression", "cell"])
def test_the_label_prior_is_the_mean_target_of_an_epoch(resample):
    faces = labelled_faces(soft=0.3)
    order = indices(batches(resample))
    drawn = balance(faces, resample)
    # An image of a group comes as often as any other of it, but for one draw: the prior is that of many epochs.
    expected = np.mean([faces[index % IMAGES].target for index in order], axis=0)
    np.testing.assert_allclose(label_prior(faces, drawn), expected, atol=1e-12)


@pytest.mark.parametrize("resample", ["none", "expression", "cell"])
def test_the_label_prior_of_a_stratum_is_the_mean_target_of_its_faces_over_many_epochs(resample):
    faces = labelled_faces(soft=0.3)
    order = [index for epoch in range(300) for index in indices(batches(resample, epoch=epoch))]
    strata = sorted({face.confounder for face in faces})
    found = label_prior(faces, balance(faces, resample), [*strata, "never seen"])
    for stratum, row in zip(strata, found, strict=False):
        own = [faces[index % IMAGES].target for index in order if faces[index % IMAGES].confounder == stratum]
        np.testing.assert_allclose(row, np.mean(own, axis=0), atol=3e-3)
    assert np.ptp(found[-1]) == 0
    assert found[-1].sum() == pytest.approx(1)


def test_a_face_drawn_again_in_an_epoch_gets_another_augmentation(tmp_path):
    found = load_data(write_faces(tmp_path, 6)).records
    dataset = FaceDataset(found, InputSpec(size=32), ("film", "web"), RandomChanges(augmentation("webcam", 32)))
    first, again, other = dataset[2], dataset[2 + 6], dataset[2 + 12]
    assert first[3] == again[3] == other[3] == 2
    assert first[1].tolist() == again[1].tolist()
    assert not torch.equal(first[0], again[0])
    assert not torch.equal(again[0], other[0])
    assert torch.equal(dataset[8][0], again[0])
    plain = FaceDataset(found, InputSpec(size=32), ("film", "web"))
    assert torch.equal(plain[2][0], plain[8][0])
    assert [number for *_, number in plain] == list(range(6))
