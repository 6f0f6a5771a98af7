"""No command overwrites what it reads, or writes two results into one file: it is refused before it opens anything."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import pytest

from doubles.face_folder import write_faces, write_image
from repository import PHOTOS

RUN = "--data faces --model.weights start/ckpt.pt --out"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with inputs under usual names and under links. Nothing but the faces could be opened."""
    monkeypatch.chdir(tmp_path)
    write_faces(tmp_path / "faces", 4)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "photos" / "web" / "happy" / name, 1)
    shutil.copytree(PHOTOS, tmp_path / "portraits")
    for name in (
        "ckpt.pt",
        "model.onnx",
        "video.mp4",
        "truth.json",
        "start/ckpt.pt",
        "old/latest_net_Base.pth",
        "m.tgz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "ckpt.onnx").symlink_to("ckpt.pt")
    os.link(tmp_path / "model.onnx", tmp_path / "model.int8.onnx")
    os.link(tmp_path / "model.onnx", tmp_path / "model.json")
    os.link(tmp_path / "faces" / "0.png", tmp_path / "face.png")
    return tmp_path


@pytest.mark.parametrize(
    ("module", "arguments", "names"),
    [
        ("iern.train.evaluate", "ckpt.pt --data faces --json ckpt.pt", "--json would overwrite MODEL"),
        ("iern.train.evaluate", "ckpt.pt --data faces --json faces/manifest.csv", "--json would overwrite --data"),
        (
            "iern.train.evaluate",
            "ckpt.pt --data faces --figure face.png",
            "--figure would overwrite --data (faces/0.png)",
        ),
        (
            "iern.train.evaluate",
            "ckpt.pt --data photos --figure photos/web/happy/a.png",
            "--figure would overwrite --data",
        ),
        (
            "iern.train.evaluate",
            "ckpt.pt --data faces --json o.png --figure ./o.png",
            "--json and --figure would write",
        ),
        ("iern.train.probe", "ckpt.pt --data faces --json ckpt.onnx", "--json would overwrite CKPT (ckpt.pt)"),
        ("iern.train.fit", f"{RUN} start", "start/ckpt.pt: --out would overwrite --model.weights"),
        ("iern.train.fit", "--data faces --teachers [start/ckpt.pt] --out start", "--out would overwrite --teachers"),
        ("iern.train.cartoon", "new --sheet new/sheet.png", "--sheet would be inside"),
        ("iern.train.convert_faceres", "m.tgz --data faces --out m.tgz", "--out would overwrite ARCHIVE"),
        (
            "iern.train.convert_published",
            "old -o old/latest_net_Base.pth --expressions a --strata b",
            "--output would overwrite FOLDER",
        ),
        ("iern.export.to_trt", "ckpt.pt --backend none", "ckpt.onnx: --output would overwrite MODEL (ckpt.pt)"),
        ("iern.export.to_trt", "model.onnx --backend rtx --log model.onnx", "--log would overwrite MODEL"),
        ("iern.export.to_trt", "model.onnx --backend rtx --timing-cache model.engine", "--output and --timing-cache"),
        ("iern.export.to_trt", "model.onnx --faces faces --log faces/1.png", "--log would overwrite --faces"),
        ("iern.export.to_int8", "model.onnx --data faces", "model.int8.onnx: --output would overwrite MODEL"),
        ("iern.export.to_int8", "model.onnx --data faces -o ./model.onnx", "--output would overwrite MODEL"),
        ("iern.runtime.media.make_demo", "portraits --output portraits/astronaut.jpg", "overwrite the photographs"),
        ("benchmarks.latency.__main__", "--quick --json latency.md", "--json and the report would write the same file"),
        ("benchmarks.latency.faces", "model.onnx --json model.json", "--json would overwrite MODEL (model.onnx)"),
        ("benchmarks.latency.faces", "model.onnx --json o.md", "--json and its page would write the same file"),
        (
            "benchmarks.flicker.__main__",
            "--video video.mp4 --truth truth.json --json truth.json",
            "--json would overwrite --truth",
        ),
        ("benchmarks.soak.__main__", "--json o.md", "--json and its page would write the same file"),
        ("benchmarks.audit.__main__", "model.onnx --data faces --json model.json", "--json would overwrite MODEL"),
        ("benchmarks.toy.__main__", "--out o.png", "--out and its plot would write the same file"),
        ("benchmarks.confounded.__main__", "--data faces --out faces/0.json", "its plot would overwrite --data"),
        ("benchmarks.confounded.condition_sheet", "--data faces --sheet face.png", "--sheet would overwrite --data"),
    ],
)
def test_an_output_that_is_an_input_or_another_output_is_refused(folder, capsys, module, arguments, names):
    before = contents(folder)
    assert importlib.import_module(module).main(arguments.split()) == 1
    error = capsys.readouterr().err
    assert names in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
