"""One process works for all: it alone does the work, all have its result, and all end if it fails."""

from __future__ import annotations

import numpy as np
import pytest
from lightning_fabric import Fabric

from doubles.scripts import run_script
from iern.runtime.errors import DataError, TrainingError
from iern.train.training.first_process import in_first_process
from repository import PHOTOS

PORTRAIT = PHOTOS / "obama_portrait.jpg"

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import torch
from lightning_fabric import Fabric
from iern.runtime.errors import TrainingError
from iern.runtime.imaging.detection import Detection
from iern.train.data.detections import find_faces
from iern.train.training.first_process import in_first_process

torch.set_num_threads(1)
out, portrait, broken = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
rank = fabric.global_rank

def find(path):
    (out / f"looked.{path.name}.{rank}").touch()
    return find_faces([path])

(face,) = in_first_process(fabric, lambda: find(portrait))
assert isinstance(face, Detection)
np.save(out / f"landmarks.{rank}.npy", face.landmarks)
try:
    in_first_process(fabric, lambda: find(broken))
except TrainingError as error:
    (out / f"error.{rank}").write_text(str(error), encoding="utf-8")
fabric.barrier()
"""


def test_a_single_process_has_its_own_result_and_error():
    fabric = Fabric(accelerator="cpu", devices=1)
    assert in_first_process(fabric, lambda: [1, None]) == [1, None]

    def fail() -> None:
        raise DataError("5.png is broken")

    with pytest.raises(TrainingError, match=r"5\.png is broken"):
        in_first_process(fabric, fail)


@pytest.mark.slow
def test_two_processes_search_the_images_once_and_both_have_the_faces_or_the_error(tmp_path):
    script, broken = tmp_path / "search.py", tmp_path / "broken.png"
    script.write_text(SCRIPT, encoding="utf-8")
    broken.write_bytes(b"no picture")
    run_script(script, tmp_path, PORTRAIT, broken)
    looked = {path.name for path in tmp_path.glob("looked.*")}
    assert looked == {f"looked.{PORTRAIT.name}.0", "looked.broken.png.0"}
    first, second = (np.load(tmp_path / f"landmarks.{rank}.npy") for rank in (0, 1))
    np.testing.assert_array_equal(first, second)
    errors = [(tmp_path / f"error.{rank}").read_text(encoding="utf-8") for rank in (0, 1)]
    assert errors[0] == errors[1] and "broken.png" in errors[0]
