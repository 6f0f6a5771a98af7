"""The configuration of a network, which goes from the recipe into the checkpoint and into the exported file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from iern.runtime.imaging.preprocess import InputSpec

Method = Literal["iern", "disentanglement", "baseline"]

SEVEN_EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


@dataclass(frozen=True)
class ModelConfig:
    """A network, exactly: this and the weights rebuild it."""

    expressions: tuple[str, ...]
    """E names in the order of the logits."""
    strata: tuple[str, ...]
    """N confounder strata in the order of the centres."""
    method: Method = "iern"
    """`iern`, or an ablation of Table 2: `disentanglement`, `baseline`."""
    preset: str = "custom"
    """Name of the preset that it is based on."""
    backbone: str = "resnet50.tv_in1k"
    """Any timm model with feature maps."""
    stride: int = 32
    """Where the backbone is cut: image size over map size."""
    image_size: int = 224
    """Side of the square input, pixels."""
    width: int = 512
    """d: channels of the maps behind the backbone."""
    block: Literal["published", "paper"] = "published"
    """Residual block: `published` has two convolutions and no last ReLU; `paper` has one and a ReLU, as in Table 5."""
    answer: Literal["logits", "probabilities"] = "logits"
    """What is averaged over the strata: logits (Eq. 9) or probabilities (Eq. 2)."""
    mirrored: bool = False
    """Predict from the mean feature of the face and its mirror image. `train/calibrate.py` sets it."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Subtracted from red, green, blue in 0..1."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Divides them after that."""
    margin: float = 1.1
    """Side of the face crop over the longer side of the detected box."""
    alignment: Literal["landmarks", "eyes", "none"] = "eyes"
    """What a crop follows: see `iern.runtime.imaging.preprocess.InputSpec`."""

    @property
    def input(self) -> InputSpec:
        """The input of the network, as the runtime describes it."""
        from iern.runtime.imaging.preprocess import (
            InputSpec,
        )  # late: it imports OpenCV, which the network does not need

        return InputSpec(size=self.image_size, margin=self.margin, alignment=self.alignment)

    def to_dict(self) -> dict[str, Any]:
        """-> plain types only, for `torch.save` and `weights_only=True`."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown or missing fields."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


PRESETS: dict[str, dict[str, Any]] = {
    # The paper's network: 7x7 maps of 512 channels.
    "paper": {"backbone": "resnet50.tv_in1k", "stride": 32, "image_size": 224, "width": 512},
    # For webcams on small machines: 7x7 maps too, from MobileNet without its last two blocks.
    "edge": {
        "backbone": "mobilenetv1_100",
        "stride": 16,
        "image_size": 112,
        "width": 104,
        "alignment": "landmarks",
        "margin": 0.95,
    },
}


def from_preset(preset: str, **changes: Any) -> ModelConfig:
    """A preset with changes: `from_preset("edge", expressions=..., strata=..., width=96)`."""
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return ModelConfig(**{"preset": preset, **PRESETS[preset], **changes})
