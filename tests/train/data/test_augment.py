"""Augmentation and mixup keep shape, channel order, targets, and one stratum for each face."""

import cv2
import numpy as np
import pytest
import torch

from iern.runtime.imaging.preprocess import Square
from iern.train.algorithm.batch import Batch
from iern.train.algorithm.mixup import mixup
from iern.train.data import augment
from iern.train.data.augment import AUGMENTATIONS, CropJitter, augmentation, encoded

SIZE = 40
CHANGING = [name for name in AUGMENTATIONS if name != "none"]
PHOTOMETRIC = [change for row in (*augment.LIGHT, *augment.CAMERA) for _, change in row]
LIGHT = [change for row in augment.LIGHT for _, change in row]


def face(seed=0, size=SIZE):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def smooth_light(seed=0):
    """(S, S, 3) float32 from 0.2 to 0.8, without pixels that a change could clip by chance."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((SIZE, SIZE, 3)).astype(np.float32), (0, 0), 3)
    return 0.2 + 0.6 * (noise - noise.min()) / np.ptp(noise)


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("size", [32, 40, 112])
def test_a_changed_face_has_the_same_shape_and_type(name, size):
    change = augmentation(name, size).change
    for seed in range(40):
        changed = change(face(size=size), np.random.default_rng(seed))
        assert (changed.shape, changed.dtype) == ((size, size, 3), np.uint8)
        assert changed.flags.c_contiguous


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_depends_on_its_generator_alone_and_does_not_move_torchs(name):
    change = augmentation(name, SIZE).change

    def drawn(seed):
        rng = np.random.default_rng(seed)
        return np.stack([change(face(), rng) for _ in range(5)])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_leaves_its_input_as_it_is(name):
    original = face()
    for seed in range(40):
        augmentation(name, SIZE).change(original, np.random.default_rng(seed))
    assert np.array_equal(original, face())


@pytest.mark.parametrize("change", PHOTOMETRIC, ids=lambda change: change.__name__)
def test_each_single_change_leaves_its_input_as_it_is_and_differs_from_it(change):
    given = smooth_light() if change in LIGHT else face(size=112)  # the mildest blur of a small face is none
    before = given.copy()
    changed = [change(given, np.random.default_rng(seed)) for seed in range(10)]
    assert np.array_equal(given, before)
    assert all(result.shape == given.shape and result.dtype == given.dtype for result in changed)
    assert all(np.isfinite(result.astype(float)).all() for result in changed)
    assert not any(np.array_equal(result, given) for result in changed)


def test_published_blue_stays_blue():
    # The pipeline sees RGB, in which grey is 0.30 red + 0.59 green + 0.11 blue: a blue face turns dark, never light.
    blue = np.zeros((SIZE, SIZE, 3), np.uint8)
    blue[..., 0] = 200
    for seed in range(30):
        means = augmentation("paper", SIZE).change(blue, np.random.default_rng(seed)).mean(axis=(0, 1))
        assert means[0] == means.max()


def test_another_name_is_refused():
    assert augmentation("none", SIZE).change is None
    with pytest.raises(ValueError, match="unknown augmentation 'wild'; choose none, paper, webcam"):
        augmentation("wild", SIZE)


def test_a_crop_varies_about_the_runtimes_within_its_limits():
    square, jitter = Square(50.0, 60.0, 40.0, 0.3), CropJitter(turn=10, scale=1.2, shift=0.1)
    drawn = [jitter(square, np.random.default_rng(seed)) for seed in range(2000)]
    for found, middle, limit in (
        ([each.x for each in drawn], 50, 4),
        ([each.y for each in drawn], 60, 4),
        (np.log([each.side for each in drawn]), np.log(40), np.log(1.2)),
        (np.degrees([each.turn for each in drawn]), np.degrees(0.3), 10),
    ):
        away = np.array(found) - middle
        assert 0.97 * limit < np.abs(away).max() <= limit
        assert abs(away.mean()) < 4 * limit / np.sqrt(3 * len(drawn))  # four standard errors of a uniform mean


def test_half_of_the_faces_are_mirrored():
    left = np.zeros((SIZE, SIZE, 3), np.uint8)
    left[:, : SIZE // 2] = 200
    changed = [
        augmentation("webcam", SIZE).change(left, np.random.default_rng(seed)).astype(int) for seed in range(400)
    ]
    mirrored = [each[:, : SIZE // 2].mean() < each[:, SIZE // 2 :].mean() for each in changed]
    assert 150 < sum(mirrored) < 250  # 200 +- 10


def test_low_resolution_removes_detail_and_keeps_the_brightness():
    for seed in range(10):
        poor = augment.low_resolution(face(), np.random.default_rng(seed)).astype(float)
        assert poor.std() < 0.8 * face().std()
        assert poor.mean() == pytest.approx(face().mean(), abs=3)


def test_a_colour_cast_has_the_stated_strength_and_keeps_the_brightness_of_a_grey():
    grey = np.full((2, 2, 3), 0.5, np.float32)
    drawn = np.array([augment.colour_cast(grey, np.random.default_rng(seed))[0, 0] for seed in range(600)], float)
    light = drawn**2.2
    stops = np.log2(light[:, 2] / light[:, 0])
    assert -1.55 < stops.min() < -1.4
    assert 1.4 < stops.max() < 1.55
    assert abs(stops.mean()) < 0.15
    np.testing.assert_allclose(drawn @ [0.114, 0.587, 0.299], 0.5, atol=1e-6)


def test_near_infrared_has_no_colour_and_is_dark_towards_the_corners():
    for seed in range(10):
        seen = augment.near_infrared(np.full((SIZE, SIZE, 3), 0.5, np.float32), np.random.default_rng(seed))
        assert np.ptp(seen, axis=2).max() == 0
        assert seen[SIZE // 2, SIZE // 2, 0] > seen[0, 0, 0]


def test_side_light_changes_the_brightness_along_one_direction_only():
    lit = augment.side_light(np.full((SIZE, SIZE, 3), 0.5, np.float32), np.random.default_rng(1))[..., 0]
    down, across = np.gradient(lit.astype(np.float64))
    assert np.ptp(down) < 1e-5
    assert np.ptp(across) < 1e-5
    assert max(abs(down.mean()), abs(across.mean())) > 1e-3


def test_occlusion_covers_one_rectangle():
    for seed in range(20):
        changed = (augment.occlude(np.full((SIZE, SIZE, 3), 77, np.uint8), np.random.default_rng(seed)) != 77).any(
            axis=2
        )
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        rectangle = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert rectangle.mean() > 0.95  # noise can be 77 by chance
        assert rectangle.size <= (SIZE // 2) ** 2


def test_jpeg_keeps_colours_and_loses_more_at_a_lower_quality():
    smooth = np.broadcast_to(np.linspace(0, 200, SIZE)[None, :, None], (SIZE, SIZE, 3)).copy()
    smooth[..., 0] += 50  # blue
    textured = smooth + 20 * np.random.default_rng(0).standard_normal(smooth.shape)
    image = textured.clip(0, 255).astype(np.uint8)
    lost = [np.abs(encoded(image, quality).astype(float) - image).mean() for quality in (10, 50, 95)]
    assert lost[0] > lost[1] + 1 > lost[2] + 2 > 2
    np.testing.assert_allclose(encoded(image, 50).mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=3)


def batch_of(strata):
    count = len(strata)
    # Each face is of one value, and its target says which: what happened to the one must have happened to the other.
    values = torch.linspace(0, 250, count).round()
    faces = values.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 3).contiguous()
    return Batch(faces, torch.eye(count), torch.tensor(strata)), values


def test_mixup_blends_face_and_target_by_the_same_weight_with_a_face_of_the_same_stratum():
    strata = [0, 1, 0, 1, 1, 2]
    torch.manual_seed(0)
    changed = 0
    for _ in range(20):
        batch, values = batch_of(strata)
        mixed = mixup(batch, 1.0)
        assert mixed.faces.dtype == torch.uint8
        torch.testing.assert_close(mixed.expression.sum(dim=1), torch.ones(6))
        torch.testing.assert_close(
            mixed.faces.float().mean(dim=(1, 2, 3)), mixed.expression @ values, atol=0.51, rtol=0
        )
        for i, stratum in enumerate(strata):
            partners = mixed.expression[i].nonzero().flatten().tolist()
            assert i in partners
            assert all(strata[j] == stratum for j in partners)
            changed += len(partners) > 1
        assert torch.equal(mixed.confounder, batch.confounder)
        assert torch.equal(mixed.faces[5], batch.faces[5])  # alone in its stratum
    assert changed > 20
