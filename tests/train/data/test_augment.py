"""Augmentation and mixup keep shape, channel order, targets, and one stratum for each face."""

import pytest
import torch

from iern.train.algorithm.batch import Batch
from iern.train.algorithm.mixup import mixup
from iern.train.data.augment import PIPELINES, ColourCast, Jpeg, LowResolution, augmentation

SIZE = 40


def face(seed=0, size=SIZE):
    return torch.randint(0, 256, (size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("size", [32, 40, 112])
def test_an_augmented_face_has_the_same_shape_and_type(name, size):
    augment = augmentation(name, size)
    torch.manual_seed(0)
    for _ in range(20):
        changed = augment(face(size=size))
        assert (changed.shape, changed.dtype, changed.is_contiguous()) == ((size, size, 3), torch.uint8, True)


@pytest.mark.parametrize("name", PIPELINES)
def test_augmentation_depends_only_on_torchs_generator(name):
    augment = augmentation(name, SIZE)

    def drawn(seed):
        torch.manual_seed(seed)
        return torch.stack([augment(face()) for _ in range(5)])

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


@pytest.mark.parametrize("name", PIPELINES)
def test_augmentation_does_not_change_its_input(name):
    original = face()
    torch.manual_seed(0)
    for _ in range(10):
        augmentation(name, SIZE)(original)
    assert torch.equal(original, face())


@pytest.mark.parametrize("name", PIPELINES)
def test_blue_stays_blue(name):
    # The pipelines see RGB, in which grey is 0.30 red + 0.59 green + 0.11 blue: a blue face turns dark, never light.
    blue = torch.zeros(SIZE, SIZE, 3, dtype=torch.uint8)
    blue[..., 0] = 200
    torch.manual_seed(0)
    for _ in range(30):
        means = augmentation(name, SIZE)(blue).float().mean(dim=(0, 1))
        grey = (means.max() - means.min()) < 3
        assert means[0] < 60 if grey else means[0] == means.max()


def test_the_name_none_is_no_augmentation_and_another_name_is_refused():
    assert augmentation("none", SIZE) is None
    with pytest.raises(ValueError, match="unknown augmentation 'wild'; choose none, paper, webcam"):
        augmentation("wild", SIZE)


def test_low_resolution_removes_detail_and_keeps_the_brightness():
    torch.manual_seed(0)
    noise = face().permute(2, 0, 1)
    poor = LowResolution(0.3, 0.3)(noise)
    assert poor.shape == noise.shape
    assert poor.float().std() < 0.5 * noise.float().std()
    assert poor.float().mean() == pytest.approx(noise.float().mean(), abs=3)


def test_a_colour_cast_has_the_stated_strength_and_keeps_the_brightness_of_a_grey():
    torch.manual_seed(0)
    grey = torch.full((3, 2, 2), 128, dtype=torch.uint8)
    drawn = torch.stack([ColourCast(2.0)(grey)[:, 0, 0] for _ in range(300)]).double()
    light = (drawn / 255) ** 2.2
    stops = torch.log2(light[:, 0] / light[:, 2])
    assert -2.05 < stops.min() < -1.9 and 1.9 < stops.max() < 2.05 and abs(stops.mean()) < 0.2
    assert ((drawn @ torch.tensor([0.299, 0.587, 0.114]).double()) - 128).abs().max() < 1


def test_jpeg_keeps_colours_and_loses_more_at_a_lower_quality():
    smooth = torch.linspace(0, 200, SIZE).view(1, 1, -1).expand(3, SIZE, -1).clone()
    smooth[2] += 50  # blue
    textured = (smooth + 20 * torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    image = textured.to(torch.uint8)
    lost = [(Jpeg(quality, quality)(image).float() - image.float()).abs().mean() for quality in (10, 50, 95)]
    assert lost[0] > lost[1] + 1 > lost[2] + 2 > 2
    torch.testing.assert_close(Jpeg(50, 50)(image).float().mean((1, 2)), image.float().mean((1, 2)), rtol=0, atol=3)


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
