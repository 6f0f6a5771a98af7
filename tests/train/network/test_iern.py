"""The network against the published counts and Table 5's shapes."""

from typing import get_args

import pytest
import torch
from torch import nn

from iern.train.algorithm.methods import METHODS
from iern.train.network.config import PRESETS, SEVEN_EXPRESSIONS, Method, ModelConfig, from_preset
from iern.train.network.iern import (
    NETWORKS,
    Classifier,
    Discriminator,
    Generator,
    PaperBlock,
    Reconstruction,
    average_strata,
    build,
    count_parameters,
    stratum_names,
)

SIX = SEVEN_EXPRESSIONS[:6]
STRATA = ("CK+", "MMI", "Oulu-CASIA")


def tiny(**changes) -> ModelConfig:
    small = {"backbone": "test_resnet", "stride": 16, "image_size": 64, "width": 16}
    return ModelConfig(**{"expressions": SIX, "strata": STRATA, **small, **changes})


def test_published_parts_have_the_published_parameter_counts():
    assert count_parameters(Generator(512, "published")) == 11_801_088
    assert count_parameters(Reconstruction(512, "published")) == 18_881_024
    assert count_parameters(Discriminator(512, 6, (7, 7))) == 4_367_296 + 576 * 6
    assert count_parameters(Discriminator(512, 10, (7, 7))) == 4_367_296 + 576 * 10


def test_the_paper_preset_has_the_published_projection_and_torchvisions_resnet50():
    torchvision = pytest.importorskip("torchvision")
    model = build(from_preset("paper", expressions=SIX, strata=STRATA))
    assert count_parameters(model.backbone.projection) == 1_049_088
    without_fc = count_parameters(torchvision.models.resnet50()) - 2048 * 1000 - 1000
    assert count_parameters(model.backbone.features) == without_fc


def shapes_of(part: nn.Module, *inputs: torch.Tensor) -> list[tuple[str, int, int, tuple, tuple, tuple]]:
    """(kind, in, out, kernel, stride, padding) of every convolution in the order it runs."""
    seen = []
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, out: seen.append(
                    (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding, tuple(out.shape[1:]))
                )
            )
    part(*inputs)
    return seen


def test_block_paper_has_the_shapes_of_table_5():
    x = torch.zeros(2, 512, 7, 7)
    same = (512, 512, (3, 3), (1, 1), (1, 1), (512, 7, 7))
    assert shapes_of(Generator(512, "paper"), x) == [same] * 3
    first = (1024, 512, (3, 3), (1, 1), (1, 1), (512, 7, 7))
    assert shapes_of(Reconstruction(512, "paper"), x, x) == [first] + [same] * 3
    one = ((1, 1), (1, 1), (0, 0))
    assert shapes_of(Discriminator(512, 6, (7, 7)), x) == [
        (512, 512, (4, 4), (2, 2), (1, 1), (512, 3, 3)),
        (512, 256, *one, (256, 3, 3)),
        (256, 128, *one, (128, 3, 3)),
        (128, 64, *one, (64, 3, 3)),
        (64, 6, (3, 3), (1, 1), (0, 0), (6, 1, 1)),
    ]
    assert Classifier(512, 6)(x).shape == (2, 6)
    block = PaperBlock(8).eval()
    y = torch.randn(2, 8, 7, 7)
    convolution, norm, _ = block.body
    torch.testing.assert_close(block(y), y + torch.relu(norm(convolution(y))))


@pytest.mark.parametrize("preset", PRESETS)
def test_both_presets_have_seven_by_seven_maps(preset):
    model = build(from_preset(preset, expressions=SEVEN_EXPRESSIONS, strata=STRATA))
    assert model.confounders.shape == (3, PRESETS[preset]["width"], 7, 7)


@pytest.mark.parametrize("size", [48, 64, 80])
def test_discriminators_end_in_one_number_a_class_on_any_map(size):
    model = build(tiny(image_size=size)).eval()
    features = model.emotion(torch.randn(2, 3, size, size))
    assert model.emotion_discriminator(features).shape == (2, 6)
    assert model.context_discriminator(features).shape == (2, 3)


def test_a_map_too_small_for_the_discriminators_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="raise image_size or lower stride"):
        build(tiny(image_size=16))


def test_a_stride_that_the_backbone_lacks_is_refused_and_its_own_are_named():
    with pytest.raises(ValueError, match="maps of stride"):
        build(tiny(stride=64))


def test_the_logits_are_the_mean_over_the_strata_of_the_classified_reconstruction():
    model = build(tiny()).double().eval()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    emotion = model.emotion_generator(model.backbone(image))
    expected = []
    for centre in model.confounders:
        mixed = model.reconstruction.mix(torch.cat([emotion, centre.repeat(2, 1, 1, 1)], 1))
        expected.append(model.classifier.linear(model.reconstruction.blocks(mixed).mean((2, 3))))
    torch.testing.assert_close(model.stratum_logits(image), torch.stack(expected, 1))
    torch.testing.assert_close(model(image), sum(expected) / 3)


@pytest.mark.parametrize(("method", "names"), [("baseline", 1), ("disentanglement", 3), ("iern", 3)])
def test_features_are_the_maps_that_the_network_has(method, names):
    model = build(tiny(method=method)).eval()
    image = torch.randn(2, 3, 64, 64)
    features = model.features(image)
    assert list(features) == ["base", "emotion", "context"][:names]
    torch.testing.assert_close(features["base"], model.backbone(image))
    if names > 1:
        torch.testing.assert_close(features["emotion"], model.emotion(image))
        torch.testing.assert_close(features["context"], model.context_generator(model.backbone(image)))


@pytest.mark.parametrize("method", get_args(Method))
def test_the_names_of_the_strata_are_as_many_as_the_strata_of_the_logits(method):
    config = tiny(method=method)
    logits = build(config).eval().stratum_logits(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, len(stratum_names(config)), len(SIX))


def test_each_method_has_a_network_and_a_training_method():
    assert set(get_args(Method)) == set(NETWORKS) == set(METHODS)
    for name in get_args(Method):
        assert (NETWORKS[name].method, METHODS[name].name) == (name, name)


def test_the_two_averages_are_equation_9_and_equation_2():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    mean_of_logits = torch.softmax(torch.tensor([[1.0, 0.5]]), 1)
    mean_of_softmax = (torch.softmax(torch.tensor([2.0, 0.0]), 0) + torch.softmax(torch.tensor([0.0, 1.0]), 0)) / 2
    torch.testing.assert_close(average_strata(logits, "logits"), mean_of_logits)
    torch.testing.assert_close(average_strata(logits, "probabilities"), mean_of_softmax[None])


def test_normalise_turns_bgr_bytes_into_rgb_about_zero():
    model = build(tiny(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0)))
    face = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    face[..., 0], face[..., 1], face[..., 2] = 255, 51, 102  # blue, green, red
    red, green, blue = model.normalise(face)[0, :, 0, 0].tolist()
    assert red == pytest.approx((102 / 255 - 0.5) / 0.5)
    assert green == pytest.approx((51 / 255 - 0.25) / 0.5)
    assert blue == pytest.approx(1.0)


def test_initial_weights_are_the_published_ones():
    model = build(tiny(width=64))
    weight = model.reconstruction.mix.weight.detach()
    assert weight.mean().abs() < 2e-3 and weight.std() == pytest.approx(0.02, rel=0.05)
    assert model.confounders.detach().std() == pytest.approx(1.0, rel=0.05)
    assert not model.reconstruction.mix.bias.any()
    bound = 1 / model.backbone.projection.in_channels**0.5  # PyTorch's default for a 1x1 convolution
    assert model.backbone.projection.weight.detach().abs().max() == pytest.approx(bound, rel=0.05)
