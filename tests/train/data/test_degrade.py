"""Each degradation has the effect of its name, measured with OpenCV and NumPy on drawn faces and on flat grey."""

import cv2
import numpy as np
import pytest

from iern.runtime.errors import DataError
from iern.train.cartoons.faces import draw
from iern.train.cartoons.muscles import EXPRESSIONS
from iern.train.data.degrade import BLUR_SIGMA, DARK_GAIN, DEGRADATIONS, NOISE_SIGMA, degrade

FACES = [draw(expression, person, 0) for person, expression in enumerate(EXPRESSIONS * 2)]


def rng():
    return np.random.default_rng(5)


def sharpness(image):
    return cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var()


@pytest.mark.parametrize("stratum", DEGRADATIONS)
def test_the_shape_stays_the_input_does_not_change_and_the_same_generator_gives_the_same_bytes(stratum):
    before = FACES[0].copy()
    first, second = degrade(FACES[0], stratum, rng()), degrade(FACES[0], stratum, rng())
    assert first.shape == before.shape and first.dtype == np.uint8
    assert np.array_equal(first, second) and np.array_equal(FACES[0], before)
    first[:] = 0
    assert np.array_equal(FACES[0], before), "a degraded image shares memory with its source"


def test_clean_changes_nothing():
    assert all(np.array_equal(degrade(face, "clean", rng()), face) for face in FACES)


@pytest.mark.parametrize("face", range(len(FACES)))
def test_blur_lowers_the_variance_of_the_laplacian_noise_raises_it_and_both_keep_the_mean(face):
    clean = FACES[face]
    blurred, noisy = degrade(clean, "blur", rng()), degrade(clean, "noise", rng())
    assert sharpness(blurred) < 0.25 * sharpness(clean)
    assert sharpness(noisy) > 1.5 * sharpness(clean)
    assert abs(blurred.mean() - clean.mean()) < 2
    assert abs(noisy.mean() - clean.mean()) < 6, "clipping at black and white may shift it a little"


def test_noise_on_mid_grey_has_no_bias_and_the_stated_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    deviations = []
    for seed in range(20):
        noise = degrade(grey, "noise", np.random.default_rng(seed)).astype(float) - 128
        assert abs(noise.mean()) < 0.5
        deviations.append(noise.std())
    assert NOISE_SIGMA[0] - 0.5 < min(deviations) < max(deviations) < NOISE_SIGMA[1] + 0.5
    assert max(deviations) - min(deviations) > 5, "the strength should vary"


def test_blur_spreads_a_point_by_the_stated_share_of_the_size():
    point = np.zeros((101, 101, 3), np.uint8)
    point[48:53, 48:53] = 255
    x = np.arange(101) - 50
    for seed in range(5):
        weights = degrade(point, "blur", np.random.default_rng(seed))[..., 0].astype(float).sum(0)
        variance = (weights * x**2).sum() / weights.sum() - 2  # 2 is the variance of the 5 pixels themselves
        assert 0.9 * BLUR_SIGMA[0] < np.sqrt(variance) / 101 < 1.1 * BLUR_SIGMA[1]


def test_dark_scales_every_value():
    for face in FACES:
        assert DARK_GAIN[0] - 0.01 < degrade(face, "dark", rng()).mean() / face.mean() < DARK_GAIN[1] + 0.01


def test_an_unknown_stratum_is_refused_by_name():
    with pytest.raises(DataError, match=r"'fog'.*noise, blur, clean, dark"):
        degrade(FACES[0], "fog", rng())
