"""The network of IERN: f_b, g_e, g_c, d_e, d_c, g_r, C and f_c (Fig. 3, Table 5), from image to logits.

    image -> f_b -> g_e -> emotion ----------------------------------\\
               \\-> g_c -> context -> centres C_1 .. C_N (training)    g_r(emotion, C_i) -> f_c -> logits_i -> mean

`Baseline` is f_c(f_b(x)), `Disentanglement` is f_c(g_e(f_b(x))), and `IERN` adds the confounder strata. These are the
three rows of Table 2, each a subclass of the one before. E is the number of expressions, N of confounder strata, d of
channels. `iern.train.algorithm.methods` trains them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from iern.train.network.config import Method, ModelConfig


class Backbone(nn.Module):
    """f_b: a timm network cut at the configured stride, then a 1x1 convolution to d channels."""

    def __init__(self, config: ModelConfig) -> None:
        import timm  # late: benchmarks time the parts behind a backbone on machines without timm

        super().__init__()
        strides = timm.create_model(config.backbone, pretrained=False, features_only=True).feature_info.reduction()
        if config.stride not in strides:
            raise ValueError(f"{config.backbone} has maps of stride {strides}, not {config.stride}")
        # `getter` removes the layers behind the map. timm's default keeps and runs them.
        self.features = timm.create_model(
            config.backbone,
            pretrained=False,
            features_only=True,
            feature_cls="getter",
            out_indices=(len(strides) - 1 - strides[::-1].index(config.stride),),
        )
        # PyTorch's default initialisation stays, as published.
        self.projection = nn.Conv2d(self.features.feature_info.channels()[-1], config.width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) normalised image -> (B, d, h, w) map, without a final activation."""
        return self.projection(self.features(image)[-1])


class PublishedBlock(nn.Module):
    """Residual block of the published code: two convolutions, and no ReLU after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, d, h, w)."""
        return x + self.body(x)


class PaperBlock(nn.Module):
    """Residual block as Table 5 prints it: one convolution, x + ReLU(BatchNorm(Conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, d, h, w)."""
        return x + self.body(x)


BLOCKS = {"published": PublishedBlock, "paper": PaperBlock}


class Generator(nn.Sequential):
    """g_e or g_c: a 3x3 convolution, then two residual blocks."""

    def __init__(self, width: int, block: str) -> None:
        super().__init__(nn.Conv2d(width, width, 3, padding=1), *(BLOCKS[block](width) for _ in range(2)))


class Reconstruction(nn.Module):
    """g_r: emotion and context features -> the base feature again (Eq. 5). The intervention uses it too (Eq. 7)."""

    def __init__(self, width: int, block: str) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * width, width, 3, padding=1)
        self.blocks = nn.Sequential(*(BLOCKS[block](width) for _ in range(3)))

    def forward(self, emotion: Tensor, context: Tensor) -> Tensor:
        """(B, d, h, w) emotion, (B, d, h, w) or (d, h, w) context -> (B, d, h, w)."""
        return self.blocks(self.mix(torch.cat([emotion, context.expand_as(emotion)], dim=1)))


class Discriminator(nn.Module):
    """d_e or d_c: reads the expression, or the stratum, from a feature map."""

    def __init__(self, width: int, classes: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        widths = [width, width // 2, width // 4, width // 8]
        layers: list[nn.Module] = [nn.Conv2d(width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Conv2d(wide, narrow, 1), nn.LeakyReLU(0.01)]
        # The strided convolution leaves floor(h/2) x floor(w/2). This kernel covers that, so the output is 1x1.
        layers.append(nn.Conv2d(widths[-1], classes, (map_size[0] // 2, map_size[1] // 2), bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, classes) logits."""
        return self.layers(feature).flatten(1)


class Classifier(nn.Module):
    """f_c: global average pool and one linear layer."""

    def __init__(self, width: int, expressions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, expressions)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, d, h, w) -> (B, E) logits."""
        return self.linear(feature.mean(dim=(2, 3)))


class Baseline(nn.Module):
    """f_c(f_b(x)): the backbone and the classifier. The networks of all methods build on it."""

    method: ClassVar[Method] = "baseline"
    has_strata: ClassVar[bool] = False
    """Whether the prediction is a mean over the confounder strata."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.classifier = Classifier(config.width, len(config.expressions)).apply(_initialise)
        # (1, 3, 1, 1), channels red, green, blue, in units of 0..255
        self.register_buffer("mean", 255 * torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def normalise(self, faces: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 BGR, as `iern.runtime.imaging.preprocess` gives it -> (B, 3, S, S) normalised RGB."""
        mean, std = cast(Tensor, self.mean), cast(Tensor, self.std)
        return (faces.permute(0, 3, 1, 2).flip(1).to(mean.dtype) - mean) / std

    def emotion(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, d, h, w) feature that the expression is read from: f_b(x), or g_e of it if there is g_e.

        With `mirrored` it is the mean of two: that of the image, and that of its mirror image, mirrored back.
        """
        if not self.config.mirrored:
            return self._emotion(image)
        own, other = self._emotion(torch.cat([image, image.flip(3)])).unflatten(0, (2, -1))
        return (own + other.flip(3)) / 2

    def _emotion(self, image: Tensor) -> Tensor:
        return self.backbone(image)

    def stratum_logits(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, E) logits in each stratum; N is 1 for a method without strata."""
        return self.classifier(self.emotion(image)).unsqueeze(1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, E) logits, averaged over the confounder strata (Eq. 9)."""
        return self.stratum_logits(image).mean(dim=1)

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S) -> maps (B, d, h, w) of the image by name: `base`, and `emotion` and `context` if it has them.

        The mirror image has no part in them.
        """
        return {"base": self.backbone(image)}

    def probabilities(self, image: Tensor, temperature: float = 1.0) -> Tensor:
        """(B, 3, S, S) -> (B, E): softmax of the mean logits (Eq. 9), or mean of the softmaxes (Eq. 2, 11)."""
        return average_strata(self.stratum_logits(image) / temperature, self.config.answer)


class Disentanglement(Baseline):
    """f_c(g_e(f_b(x))): emotion separated from context (Eq. 3-5), no intervention."""

    method: ClassVar[Method] = "disentanglement"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width, map_size = config.width, _map_size(self.backbone, config.image_size)
        if min(map_size) < 2:
            raise ValueError(
                f"{config.backbone} at {config.image_size} px and stride {config.stride} leaves a map of {map_size}; "
                "the discriminators need at least 2x2: raise image_size or lower stride"
            )
        self.map_size = map_size
        self.emotion_generator = Generator(width, config.block).apply(_initialise)
        self.context_generator = Generator(width, config.block).apply(_initialise)
        self.emotion_discriminator = Discriminator(width, len(config.expressions), map_size).apply(_initialise)
        self.context_discriminator = Discriminator(width, len(config.strata), map_size).apply(_initialise)
        self.reconstruction = Reconstruction(width, config.block).apply(_initialise)

    def features(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S) -> maps (B, d, h, w): `base` f_b(x), `emotion` g_e of it, `context` g_c of it."""
        base = self.backbone(image)
        return {"base": base, "emotion": self.emotion_generator(base), "context": self.context_generator(base)}

    def _emotion(self, image: Tensor) -> Tensor:
        return self.emotion_generator(self.backbone(image))


class IERN(Disentanglement):
    """The interventional network: f_c(g_r(g_e(f_b(x)), C_i)) for each stratum i."""

    method: ClassVar[Method] = "iern"
    has_strata: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.confounders = nn.Parameter(torch.randn(len(config.strata), config.width, *self.map_size))

    def intervene(self, emotion: Tensor, stratum: int) -> Tensor:
        """(B, d, h, w) emotion -> (B, E) logits with the context set to one stratum; C takes no gradient (Eq. 7)."""
        return self.classifier(self.reconstruction(emotion, self.confounders[stratum].detach()))

    def stratum_logits(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, E) logits, one stratum after another as published."""
        emotion = self.emotion(image)
        return torch.stack([self.intervene(emotion, i) for i in range(len(self.config.strata))], dim=1)


NETWORKS: dict[str, type[Baseline]] = {kind.method: kind for kind in (Baseline, Disentanglement, IERN)}


def build(config: ModelConfig) -> Baseline:
    """The configured network with random weights. `iern.train.network.weights` loads those of the backbone."""
    return NETWORKS[config.method](config)


def stratum_names(config: ModelConfig) -> tuple[str, ...]:
    """The names of the N strata of `stratum_logits`: the configured ones, or `all` for a method without strata."""
    return config.strata if NETWORKS[config.method].has_strata else ("all",)


def average_strata(stratum_logits: Tensor, average: str) -> Tensor:
    """(B, N, E) -> (B, E) probabilities; `average` is `logits` (Eq. 9) or `probabilities` (Eq. 2, 11)."""
    if average == "probabilities":
        return stratum_logits.softmax(dim=-1).mean(dim=1)
    return stratum_logits.mean(dim=1).softmax(dim=-1)


def count_parameters(*parts: nn.Module) -> int:
    """The number of parameters in `parts`, trainable or frozen, without buffers."""
    return sum(p.numel() for part in parts for p in part.parameters())


def batch_norms(parts: Sequence[nn.Module]) -> list[nn.BatchNorm2d]:
    """All BatchNorm2d layers in `parts`."""
    return [module for part in parts for module in part.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def _map_size(backbone: Backbone, image_size: int) -> tuple[int, int]:
    was_training = backbone.training
    height, width = backbone.eval()(torch.zeros(1, 3, image_size, image_size)).shape[-2:]
    backbone.train(was_training)
    return height, width


def _initialise(module: nn.Module) -> None:
    """As published: weights N(0, 0.02), BatchNorm weights N(1, 0.02), biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
