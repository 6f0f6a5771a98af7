"""The commands of `iern`, one line each: `iern train` runs what `python train/fit.py` runs in a checkout.

To add a command, write its module with a `main(argv) -> int`, and add its line here. The help, the tests of the
installed package and the commands in messages follow.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A word after `iern`, and what it runs."""

    name: str
    script: str
    """The file of its `main`: as a script in a checkout, and as a module below `iern`."""
    extra: str
    """The extra of the package that brings what it imports beside the runtime."""
    purpose: str
    """What it is for, in one line of the help."""

    @property
    def module(self) -> str:
        """`train/fit.py` -> `iern.train.fit`."""
        return f"iern.{self.script.removesuffix('.py').replace('/', '.')}"


COMMANDS = (
    Command(
        *("webcam", "runtime/webcam.py", "cpu"),
        "find faces in a camera, stream, video or images, and name their expressions",
    ),
    Command("serve", "runtime/service/__main__.py", "serve", "answer pictures that are sent over HTTP"),
    Command(
        *("doctor", "runtime/doctor/__main__.py", "cpu"),
        "print what is installed, what will be used, and how to repair it",
    ),
    Command("import", "train/import_data.py", "train", "make a public data set of faces ready to train on"),
    Command("train", "train/fit.py", "train", "train the network by a recipe, on your faces or on drawn ones"),
    Command("evaluate", "train/evaluate.py", "train", "measure a model on labelled faces, with intervals"),
    Command("calibrate", "train/calibrate.py", "train", "make the probabilities honest, and choose the uncertain ones"),
    Command("export", "export/to_trt.py", "export", "turn a checkpoint into the file that `webcam` runs, and prove it"),
    Command(
        *("audit", "audit/__main__.py", "train,export"),
        "compare exported models on faces whose light, focus and so on are changed",
    ),
)
"""Those that run a model first, then those that make one, in the order of the work."""

REQUIRED = {
    "cpu": ("cv2", "onnxruntime", "av", "simplejpeg"),
    "serve": ("aiohttp", "prometheus_client"),
    "train": ("torch", "jsonargparse", "sklearn"),
    "export": ("torch", "onnx", "onnxscript"),
}
"""Extra -> modules that it brings. If one is absent, the extra is not installed. `cpu` has those of `gpu` too."""
