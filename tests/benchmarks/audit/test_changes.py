"""The graded changes have the stated amounts: measured without OpenCV, in double precision, on drawn faces."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from iern.audit.changes import CHANGES
from iern.train.cartoons.faces import draw
from iern.train.cartoons.muscles import EXPRESSIONS

FACES = {f"{i}.png": draw(expression, 3 * i, 0, 96) for i, expression in enumerate(EXPRESSIONS[:4])}
CHANGE_OF = {change.name: change for change in CHANGES}
GREY = np.full((40, 40, 3), 128, np.uint8)

every_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)


def linear(image) -> np.ndarray:
    """sRGB -> linear light by the standard's formula, in double precision."""
    v = np.asarray(image, np.float64) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def error(image, other) -> float:
    """Mean square of the difference: the lower the peak signal to noise ratio, the higher."""
    return float(np.mean((image.astype(np.float64) - other) ** 2))


def gaussian(image, sigma: float) -> np.ndarray:
    """Blurred with a sampled Gaussian far beyond its tails, rows and then columns, the border mirrored; float64."""
    radius = int(np.ceil(8 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(image.astype(np.float64), ((radius, radius), (radius, radius), (0, 0)), "reflect")
    for axis in (0, 1):
        padded = np.apply_along_axis(np.convolve, axis, padded, weights / weights.sum(), "valid")
    return padded


def detail(image) -> float:
    """Variance of second differences of the green channel."""
    green = image[..., 1].astype(np.float64)
    return float(np.diff(green, 2, axis=0).var() + np.diff(green, 2, axis=1).var())


def turned(image, degrees: float) -> np.ndarray:
    """PyTorch's bilinear sampling of the image about its centre, beyond the border that repeated; float64."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] - (np.array([height, width]).reshape(2, 1, 1) - 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    grid = np.stack([(cos * x - sin * y) / (width - 1), (sin * x + cos * y) / (height - 1)], -1) * 2
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(
        planes, torch.from_numpy(grid)[None], padding_mode="border", align_corners=True
    )
    return sampled[0].permute(1, 2, 0).numpy()


def applied(name: str, image, face: str = "a.png") -> list[np.ndarray]:
    """The image under each grade from 1."""
    return [CHANGE_OF[name].grade(image, grade, face) for grade in range(1, len(CHANGE_OF[name].amounts) + 1)]


@every_change
def test_grade_0_is_the_face_itself_in_memory_of_its_own(change):
    for name, face in FACES.items():
        same = change.grade(face, 0, name)
        assert np.array_equal(same, face) and not np.shares_memory(same, face)


@every_change
def test_every_grade_takes_the_face_further_from_itself_and_leaves_the_original_alone(change):
    for name, face in FACES.items():
        before = face.copy()
        grades = [change.grade(face, grade, name) for grade in range(len(change.amounts) + 1)]
        assert all(image.shape == face.shape and image.dtype == np.uint8 for image in grades)
        errors = [error(image, face) for image in grades]
        assert errors == sorted(errors) and len(set(errors)) == len(errors)
        assert np.array_equal(face, before)


@every_change
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (9, 2, 3), (61, 100, 3)])
def test_a_face_of_any_shape_keeps_it(change, shape):
    face = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert all(image.shape == shape for image in applied(change.name, face))


@every_change
def test_what_is_drawn_depends_on_the_faces_name_and_on_nothing_before(change):
    face = FACES["0.png"]
    first = change.grade(face, 2, "a.png")
    others = [change.grade(face, 2, f"{i}.png") for i in range(8)]
    np.random.default_rng(0).random()
    assert np.array_equal(change.grade(face, 2, "a.png"), first)
    draws = change.name in {"shadow", "noise", "rotation"}
    assert any(not np.array_equal(other, first) for other in others) == draws


@pytest.mark.parametrize("name", ["under-exposure", "over-exposure"])
def test_a_stop_halves_or_doubles_linear_light(name):
    """Up to rounding to 8 bits, where light does not clip."""
    for level in (20, 90, 150, 200):
        flat = np.full((4, 4, 3), level, np.uint8)
        for stops, image in zip(CHANGE_OF[name].amounts, applied(name, flat), strict=True):
            expected = linear(level) * 2.0**stops
            if expected >= 1:
                assert (image == 255).all()
            else:
                found = int(image[0, 0, 0])
                assert linear(max(0, found - 0.51)) <= expected <= linear(found + 0.51)


def test_a_shadow_spans_its_stops_and_falls_off_along_one_direction():
    size = 120
    flat = np.full((size, size, 3), 230, np.uint8)
    seen = set()
    for face in map(str, range(12)):
        for stops, image in zip(CHANGE_OF["shadow"].amounts, applied("shadow", flat, face), strict=True):
            depth = np.log2(linear(230) / linear(image[..., 0]))
            assert depth.min() == pytest.approx(0, abs=0.03)
            assert depth.max() == pytest.approx(stops, abs=0.05 * 2**stops / 2)
            # A plane through the depths leaves nothing but rounding.
            y, x = np.mgrid[:size, :size]
            plane = np.column_stack([x.ravel(), y.ravel(), np.ones(size**2)])
            fit = np.linalg.lstsq(plane, depth.ravel(), rcond=None)[0]
            assert np.abs(plane @ fit - depth.ravel()).max() < 0.02 * 2**stops
        seen.add((fit[0] > 0, fit[1] > 0))
    assert len(seen) == 4, "shadows fall to all sides"


@pytest.mark.parametrize(("name", "sign"), [("warm", 1), ("cool", -1)])
def test_a_cast_moves_red_against_blue_by_its_stops_and_keeps_a_greys_luminance(name, sign):
    for stops, image in zip(CHANGE_OF[name].amounts, applied(name, GREY), strict=True):
        blue, green, red = linear(image[0, 0])
        assert np.log2(red / blue) == pytest.approx(sign * stops, abs=0.03)
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue == pytest.approx(linear(128), rel=0.01)


def test_blur_is_the_stated_gaussian_and_takes_fine_detail_away():
    for face in FACES.values():
        details = [detail(face)]
        for share, image in zip(CHANGE_OF["blur"].amounts, applied("blur", face), strict=True):
            difference = np.abs(image - gaussian(face, share * 96))
            assert difference.max() < 3 and difference.mean() < 0.4
            details.append(detail(image))
        assert details == sorted(details, reverse=True)


def test_noise_has_its_deviation_and_is_one_pattern_in_all_grades():
    flat = np.full((200, 200, 3), 128, np.uint8)
    images = [image - 128.0 for image in applied("noise", flat)]
    for levels, image in zip(CHANGE_OF["noise"].amounts, images, strict=True):
        assert image.std() == pytest.approx(levels, rel=0.02) and abs(image.mean()) < 0.5
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.99
    channels = images[0].reshape(-1, 3)
    assert np.abs(np.corrcoef(channels, rowvar=False) - np.eye(3)).max() < 0.02


def test_a_jpeg_is_as_far_from_the_face_as_pillows_of_the_same_quality():
    for face in FACES.values():
        for quality, image in zip(CHANGE_OF["jpeg"].amounts, applied("jpeg", face), strict=True):
            file = io.BytesIO()
            Pillow.fromarray(face[..., ::-1]).save(file, "jpeg", quality=int(quality), subsampling="4:2:0")
            other = np.asarray(Pillow.open(file))[..., ::-1]
            assert error(image, face) == pytest.approx(error(other, face), rel=0.1)


def test_a_resolution_leaves_the_means_of_its_pixels_and_a_smaller_face_as_it_is():
    wide = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    for pixels, image in zip(CHANGE_OF["resolution"].amounts, applied("resolution", wide), strict=True):
        side = 96 // int(pixels)
        means = wide.reshape(int(pixels), side, int(pixels), side, 3).mean((1, 3))
        kept = image.reshape(int(pixels), side, int(pixels), side, 3).mean((1, 3))
        assert np.corrcoef(means.ravel(), kept.ravel())[0, 1] > 0.95
        # Nothing finer than the small picture is left.
        power = np.abs(np.fft.fft2(image[..., 0] - image[..., 0].mean())) ** 2
        fine = np.abs(np.fft.fftfreq(96)) > pixels / 96
        assert power[fine][:, fine].sum() < 0.02 * power.sum()
    small = wide[:16, :16]
    assert all(np.array_equal(image, small) for image in applied("resolution", small))


def test_a_rotation_is_pytorchs_by_the_same_angle_to_either_side():
    face = gaussian(FACES["1.png"], 2).round().astype(np.uint8)[:80]
    senses = set()
    for name in map(str, range(8)):
        for degrees, image in zip(CHANGE_OF["rotation"].amounts, applied("rotation", face, name), strict=True):
            differences = {sense: np.abs(turned(face, sense * degrees) - image).mean() for sense in (-1, 1)}
            best = min(differences, key=differences.__getitem__)
            assert differences[best] < 0.5 and differences[-best] > 2
            senses.add(best)
    assert senses == {-1, 1}
