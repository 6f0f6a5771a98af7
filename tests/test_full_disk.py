"""On a full disk every writer reports which file it could not write and what to do, and an older file stays as it was.

In a process of its own a limit on the size of files makes writes fail, as a full disk does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from doubles.face_folder import write_faces
from iern.runtime.bundled import DEMO_CLIP
from repository import PHOTOS, ROOT

resource = pytest.importorskip("resource", reason="limits are POSIX's")

PRELUDE = """
    import resource, sys
    from pathlib import Path

    def limited(size, main, *argv):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            status = main(list(map(str, argv)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("status", status, file=sys.stderr)

    folder, clip, faces, photo = map(Path, sys.argv[1:])
"""
RUNTIME = """
    from iern.runtime.webcam import main
    from doubles.tiny_artifact import tiny_model

    model = folder / "tiny.onnx"
    model.write_bytes(tiny_model())
    arguments = ["--headless", "--source", clip, "--model", model, "--max-frames", 20]
    for option, name in (
        ("--record", "o.mp4"), ("--jsonl", "o.jsonl"), ("--csv", "o.csv"), ("--still", "o.png"), ("--summary", "o.html")
    ):
        limited(2000, main, *arguments, option, folder / name)
"""
TRAIN = """
    import dataclasses
    from doubles.face_folder import EXPRESSIONS, STRATA
    from doubles.tiny_network import tiny_config, tiny_network
    from iern.export import to_trt
    from iern.train import cartoon, evaluate, fit
    from iern.train.network.checkpoint import Checkpoint, save_checkpoint

    tiny = "--model.backbone test_resnet --model.stride 16 --model.image_size 64 --model.width 8 --model.weights none"
    run = "--epochs 1 --batch_size 6 --schedule.warmup 1 --schedule.constant 0 --accelerator cpu --workers 0"
    limited(200_000, fit.main, *tiny.split(), *run.split(), "--data", faces, "--out", folder)
    network = tiny_network(dataclasses.replace(tiny_config(), expressions=EXPRESSIONS, strata=STRATA))
    save_checkpoint(Checkpoint(config=network.config, weights=network.state_dict()), folder / "tiny.pt")
    limited(2000, evaluate.main, folder / "tiny.pt", "--data", faces, "--json", folder / "o.json")
    limited(2000, evaluate.main, folder / "tiny.pt", "--data", faces, "--figure", folder / "o.png")
    limited(2000, cartoon.main, folder / "cartoons", "--identities", 4)
    limited(2000, cartoon.main, "--sheet", folder / "sheet.png")
    limited(90_000, to_trt.main, folder / "tiny.pt", "-o", folder / "o.onnx", "--backend", "none", "--faces", photo)
"""


def reported(folder: Path, faces: Path, program: str) -> list[tuple[str, str]]:
    """The last line on stderr of each command of the program, and its exit status. Only whole lines are printed."""
    code = textwrap.dedent(PRELUDE) + textwrap.dedent(program)
    paths = [str(ROOT / "tests"), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, (folder, DEMO_CLIP, faces, PHOTOS / "biden_portrait.jpg"))],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    parts = done.stderr.split("status ")
    return [(part.splitlines()[-1], parts[i + 1].splitlines()[0]) for i, part in enumerate(parts[:-1])]


def refusal(path: Path, state: str = "; an older file is unchanged") -> tuple[str, str]:
    return (
        f"error: {path}: cannot be written (File too large); raise the limit on the size of files (ulimit -f) or "
        f"choose another place{state}",
        "1",
    )


def test_the_loop_names_the_output_that_it_cannot_write(tmp_path):
    for name in ("o.png", "o.html"):
        (tmp_path / name).write_bytes(b"old")
    growing = [refusal(tmp_path / name, "") for name in ("o.mp4", "o.jsonl", "o.csv")]
    whole = [refusal(tmp_path / name) for name in ("o.png", "o.html")]
    assert reported(tmp_path, tmp_path, RUNTIME) == [*growing, *whole]
    assert [(tmp_path / name).read_bytes() for name in ("o.png", "o.html")] == [b"old", b"old"]
    assert (tmp_path / "o.jsonl").read_bytes().endswith(b"}\n")


def test_training_evaluation_and_export_name_the_file_that_they_cannot_write(tmp_path):
    faces = write_faces(tmp_path / "faces", 20, 12)
    kept = ["ckpt.pt", "o.json", "o.png", "sheet.png", "o.onnx"]
    for name in kept:
        (tmp_path / name).write_bytes(b"old")
    files = [refusal(tmp_path / name) for name in kept]
    cartoons = refusal(tmp_path / "cartoons", "; an older set is unchanged")
    assert reported(tmp_path, faces, TRAIN) == [*files[:3], cartoons, *files[3:]]
    assert [(tmp_path / name).read_bytes() for name in kept] == [b"old"] * len(kept)
    assert not (tmp_path / "cartoons").exists()
    assert not list(tmp_path.glob(".*")), "temporary files are left"
