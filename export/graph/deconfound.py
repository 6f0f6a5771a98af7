"""The deconfounded network: cheaper than the network as trained, and exact.

What the strata share is computed once, and what does not depend on the image is computed at export. In eval mode all is
affine but the ReLUs inside the residual blocks, and the published blocks end in a plain sum. With e the emotion
feature, C_i the centre of stratum i and * a convolution:

1. The first convolution of g_r splits over its two inputs: W * [e, C_i] + b = a + B_i with a = We * e + b, computed
   once, and B_i = Wc * C_i, a constant map. Baking the map, not a bias, keeps the zero padding exact.
2. So does the first convolution of block 1: W11 * (a + B_i) + b11 = p + Q_i with p = W11 * a + b11 and a constant
   Q_i = W11 * B_i. The work of each stratum begins at ReLU(p + Q_i). We and W11 stay two convolutions: one 5x5
   convolution composed of them would be wrong at the border.
3. The last convolution feeds only the global average pool and the linear classifier. The sum over the pixels of a
   3x3 convolution is nine window sums of its input times its weights, so with u the residual stream and h the last
   ReLU's output, logits_i = Wf mean(u_i) + sum_k M_k windowsum_k(h_i) + constant, where M = Wf W32 / (H W).

Counted in 3x3 convolutions of d to d channels, that is 2 + 4 N instead of 8 N. With `block: paper` a ReLU follows the
last convolution, so step 3 does not hold: 2 + 2 N instead of 5 N.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from iern.cpp_ext.tail_weights import window_sum_weights
from iern.export.graph.fold import fold_batch_norms, fold_pixel_scale
from iern.export.graph.round_kernels import round_kernels
from iern.train.network.config import ModelConfig
from iern.train.network.iern import IERN, Baseline, Classifier, Disentanglement, PublishedBlock, Reconstruction


@torch.no_grad()
def deconfound(
    model: Baseline,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
    trunk: torch.dtype | None = None,
) -> Deconfounded:
    """A model of any method -> the same function of pixels in eval mode, folded in float64 and cast to `dtype`.

    `temperature` divides the logits of `probabilities` only. `trunk` is the number type of everything before the tail,
    `dtype` by default. It may be float16 for GPUs: convolution kernels are then rounded such that they keep their sums,
    and sums over maps and logits stay in `dtype`. The given model is not changed.
    """
    trunk = trunk or dtype
    config = model.config
    model = copy.deepcopy(model).double().eval().requires_grad_(False)
    image = torch.zeros(1, 3, config.image_size, config.image_size, dtype=torch.float64)
    fold_batch_norms(model.backbone, image)
    scale = 1 / (255 * torch.tensor(config.std, dtype=torch.float64))
    generator, head, tail = _generator_head_tail(model, model.backbone(image))
    # Weights divided by 127 would be below float16's normal numbers; pixels divided by 127 are not.
    of_weights, of_pixels = (scale, None) if trunk == dtype else (torch.ones_like(scale), scale.flip(0))
    backbone = fold_pixel_scale(model.backbone, image, of_weights)
    network = Deconfounded(NetworkParts(backbone, generator, head, tail), config, of_pixels, temperature).to(dtype)
    for part in (network.backbone, network.generator, network.head):
        if trunk != dtype:
            round_kernels(part, trunk)
        part.to(trunk)
    return network


@dataclass(frozen=True, eq=False)
class NetworkParts:
    """The parts of a deconfounded network, in the order in which they run."""

    backbone: nn.Module
    generator: nn.Module
    head: nn.Module
    tail: nn.Module


class Deconfounded(nn.Module):
    """Pixels -> probabilities. The graph may be cut between its parts: backbone, generator, head, tail."""

    mean: Tensor
    scale: Tensor | None

    def __init__(self, parts: NetworkParts, config: ModelConfig, scale: Tensor | None, temperature: float) -> None:
        """`scale` (3,) multiplies blue, green and red pixels. None: the weights of the first convolution hold it."""
        super().__init__()
        self.backbone, self.generator, self.head, self.tail = parts.backbone, parts.generator, parts.head, parts.tail
        self.mirrored = config.mirrored
        self.average = config.answer
        self.temperature = temperature
        # (1, 3, 1, 1) blue, green, red in 0..255. Subtracted before the backbone pads with zeros.
        mean = 255 * torch.tensor(config.mean[::-1], dtype=torch.float64)
        self.register_buffer("mean", mean.view(1, 3, 1, 1))
        self.register_buffer("scale", None if scale is None else scale.view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, S, 3) BGR, uint8 or float in 0..255 -> probabilities (B, E), logits (B, E), per stratum (B, N, E)."""
        # Cast first: TensorRT accepts uint8 only as the input of a cast.
        pixels = image.to(self.mean.dtype).permute(0, 3, 1, 2) - self.mean
        if self.scale is not None:
            pixels = pixels * self.scale
        trunk = next(self.backbone.parameters()).dtype
        stratum_logits = self.tail(*self.head(self._emotion(pixels.to(trunk))))
        # Not `iern.train.network.iern.average_strata`: the graph computes the mean logits once for both outputs, and
        # the parity gate compares this form with that function.
        logits = stratum_logits.mean(dim=1)
        if self.average == "probabilities":
            return (stratum_logits / self.temperature).softmax(dim=-1).mean(dim=1), logits, stratum_logits
        return (logits / self.temperature).softmax(dim=-1), logits, stratum_logits

    def _emotion(self, pixels: Tensor) -> Tensor:
        if not self.mirrored:
            return self.generator(self.backbone(pixels))
        own, other = self.generator(self.backbone(torch.cat([pixels, pixels.flip(3)]))).unflatten(0, (2, -1))
        return (own + other.flip(3)) / 2


class StrataEntry(nn.Module):
    """Steps 1 and 2: combines the emotion feature with every stratum, up to the first ReLU."""

    context: Tensor
    entered_context: Tensor

    def __init__(self, mix: nn.Conv2d, enter: nn.Conv2d, confounders: Tensor) -> None:
        """`mix` (2d -> d) is g_r's first convolution, `enter` is block 1's, with its BatchNorm folded in.

        `confounders` are the (N, d, h, w) centres.
        """
        super().__init__()
        width = confounders.shape[1]
        of_emotion, of_context = mix.weight.split(width, dim=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.mix.weight, self.mix.bias = nn.Parameter(of_emotion.clone()), mix.bias
        self.enter = enter
        context = F.conv2d(confounders, of_context, padding=1)
        self.register_buffer("context", context)
        self.register_buffer("entered_context", F.conv2d(context, enter.weight, padding=1))

    def forward(self, emotion: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d, h, w) -> residual stream and first ReLU's output, (B * N, d, h, w), with a face's strata adjacent."""
        mixed = self.mix(emotion)
        u = _in_every_stratum(mixed, self.context)
        return u, F.relu(_in_every_stratum(self.enter(mixed), self.entered_context))


class PublishedHead(nn.Module):
    """g_r with published blocks for all strata at once, up to the input of its last convolution."""

    def __init__(self, reconstruction: Reconstruction, confounders: Tensor) -> None:
        super().__init__()
        first, second, third = reconstruction.blocks
        enter, self.leave = _convolutions(first)
        self.entry = StrataEntry(reconstruction.mix, enter, confounders)
        self.second = second
        self.third = HalfBlock(_convolutions(third)[0])

    def forward(self, emotion: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d, h, w) emotion -> u and h, each (B * N, d, h, w)."""
        u, h = self.entry(emotion)
        return self.third(self.second(u + self.leave(h)))


class PaperHead(nn.Module):
    """The whole of g_r with the paper's blocks, for all strata at once."""

    def __init__(self, reconstruction: Reconstruction, confounders: Tensor) -> None:
        super().__init__()
        first, *others = reconstruction.blocks
        self.entry = StrataEntry(reconstruction.mix, _convolutions(first)[0], confounders)
        self.others = nn.Sequential(*others)

    def forward(self, emotion: Tensor) -> tuple[Tensor]:
        """(B, d, h, w) emotion -> (B * N, d, h, w)."""
        u, h = self.entry(emotion)
        return (self.others(u + h),)


class HalfBlock(nn.Module):
    """A published block up to its ReLU. `WindowSumTail` computes the rest."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(B, d, h, w) -> the input, and the ReLU's output of the same shape."""
        return u, F.relu(self.convolution(u))


class WholeMap(nn.Module):
    """The head of a network that has nothing between its generator and the pool."""

    def forward(self, u: Tensor) -> tuple[Tensor]:
        """(B, d, h, w) -> the input."""
        return (u,)


class WindowSumTail(nn.Module):
    """Step 3: last convolution, pool and classifier as nine window sums.

    `iern.cpp_ext.reference` is the slow form that it is compared with.
    """

    windows: Tensor

    def __init__(self, last: nn.Conv2d, classifier: Classifier, map_size: tuple[int, int], strata: int) -> None:
        super().__init__()
        assert last.bias is not None, "the convolution carries its BatchNorm's shift"
        linear = classifier.linear
        arrays = window_sum_weights(
            _array(linear.weight), _array(linear.bias), _array(last.weight), _array(last.bias), map_size
        )
        kernel, bias = (torch.from_numpy(array).to(linear.weight) for array in arrays)
        self.strata = strata
        self.register_buffer("windows", _windows(*map_size).to(linear.weight))
        self.of_windows = nn.Linear(kernel[0].numel(), len(kernel))
        self.of_windows.weight = nn.Parameter(kernel.flatten(1))
        self.of_windows.bias = nn.Parameter(bias)
        self.of_mean = nn.Linear(linear.in_features, linear.out_features, bias=False)
        self.of_mean.weight = linear.weight

    def forward(self, u: Tensor, h: Tensor) -> Tensor:
        """u and h (B * N, d, h, w), before and after the last ReLU -> (B, N, E) logits."""
        u, h = u.to(self.windows.dtype), h.to(self.windows.dtype)
        sums = h.flatten(2) @ self.windows
        logits = self.of_windows(sums.flatten(1)) + self.of_mean(u.mean(dim=(2, 3)))
        return logits.unflatten(0, (-1, self.strata))


class PooledTail(nn.Module):
    """Pool and classifier, as in the network."""

    def __init__(self, classifier: Classifier, strata: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.strata = strata

    def forward(self, u: Tensor) -> Tensor:
        """(B * N, d, h, w) -> (B, N, E) logits."""
        return self.classifier(u.to(self.classifier.linear.weight.dtype)).unflatten(0, (-1, self.strata))


def _generator_head_tail(model: Baseline, feature: Tensor) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Generator, head and tail of a model, given one (1, d, h, w) example of its backbone's map.

    The types are checked here alone: this algebra is the one thing in `export` that depends on a network's structure.
    """
    if not isinstance(model, Disentanglement):
        return nn.Identity(), WholeMap(), PooledTail(model.classifier, strata=1)
    generator = model.emotion_generator
    fold_batch_norms(generator, feature)
    if isinstance(model, IERN):
        return generator, *deconfounded_head(model.reconstruction, model.confounders, model.classifier)
    *others, last = generator
    if model.config.mirrored or not isinstance(last, PublishedBlock):  # mirroring back needs the whole map
        return generator, WholeMap(), PooledTail(model.classifier, strata=1)
    enter, leave = _convolutions(last)
    tail = WindowSumTail(leave, model.classifier, (feature.shape[2], feature.shape[3]), strata=1)
    return nn.Sequential(*others), HalfBlock(enter), tail


def deconfounded_head(
    reconstruction: Reconstruction, confounders: Tensor, classifier: Classifier
) -> tuple[nn.Module, nn.Module]:
    """g_r, C (N, d, h, w) and f_c in eval mode -> head and tail. Folds the BatchNorms in place."""
    fold_batch_norms(reconstruction, confounders[:1], confounders[:1])
    strata, _, height, width = confounders.shape
    last = reconstruction.blocks[-1]
    if not isinstance(last, PublishedBlock):
        return PaperHead(reconstruction, confounders), PooledTail(classifier, strata)
    tail = WindowSumTail(_convolutions(last)[-1], classifier, (height, width), strata)
    return PublishedHead(reconstruction, confounders), tail


def _array(values: Tensor) -> NDArray[np.floating]:
    return values.detach().cpu().numpy()


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]


def _in_every_stratum(maps: Tensor, constants: Tensor) -> Tensor:
    """(B, d, h, w) + (N, d, h, w) -> (B * N, d, h, w)."""
    return (maps.unsqueeze(1) + constants).flatten(0, 1)


def _windows(height: int, width: int) -> Tensor:
    """(h * w, 9) of 0 and 1: the pixels that each tap of a 3x3 kernel, padded by 1, meets on its way over the map."""
    met = torch.einsum("yk,xl->yxkl", _met_by_taps(height), _met_by_taps(width))
    return met.reshape(height * width, 9)


def _met_by_taps(length: int) -> Tensor:
    """(length, 3), one side of the map. The first tap meets all pixels but the last; the last tap all but the first."""
    met = torch.ones(length, 3)
    met[-1, 0] = met[0, 2] = 0
    return met
