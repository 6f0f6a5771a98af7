"""A repository gets whole versions under new numbers, and its configuration says what the model's file says."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest

from doubles.gpu.made_up_manifest import made_up_manifest
from doubles.tiny_artifact import EXPRESSIONS, STRATA, tiny_artifact, tiny_model
from iern.cpp_ext.tail_weights import TailWeights
from iern.export import to_trt
from iern.export.command_line import parse
from iern.export.triton_repository import repository as module
from iern.export.triton_repository.model_config import as_text, labels, model_config
from iern.export.triton_repository.repository import publish, served_file
from iern.runtime.artifact import Artifact
from iern.runtime.backends.trt.engine_file import write_engine
from iern.runtime.bundled import MODEL
from iern.runtime.errors import ArtifactError, EngineError, IernError, OutputError

ANY_BATCH = {"any_batch": True, "batches": (1, 2, 4)}


@pytest.fixture
def exported(tmp_path) -> Path:
    path = tmp_path / "office.onnx"
    path.write_bytes(tiny_model())
    return path


def write(exported: Path, repository: Path) -> Path:
    return publish(served_file(exported), repository, print_line=lambda line: None)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parameters(text: str) -> dict[str, str]:
    """The parameters of a configuration: each entry has a key and a value."""
    entry = r"^parameters \{\n  (key: .*)\n  value \{\n    string_(value: .*)\n  \}\n\}$"
    return dict(parsed(key, value) for key, value in re.findall(entry, text, re.MULTILINE))


def parsed(key: str, value: str) -> tuple[str, str]:
    """The strings of two lines of text, read by Protocol Buffers' own parser."""
    (found,) = onnx.load_from_string(f"metadata_props {{ {key} {value} }}", format="textproto").metadata_props
    return found.key, found.value


def test_a_version_has_the_model_its_labels_and_its_configuration(exported, tmp_path):
    folder = write(exported, tmp_path / "models")
    assert folder == tmp_path / "models" / "iern" / "1"
    files = files_in(tmp_path / "models" / "iern")
    assert files["1/model.onnx"] == exported.read_bytes()
    assert files["1/expressions.txt"].decode().split() == list(EXPRESSIONS)
    by_stratum = [f"{stratum}: {expression}" for stratum in STRATA for expression in EXPRESSIONS]
    assert files["1/stratum_expressions.txt"].decode().splitlines() == by_stratum
    assert files["config.pbtxt"] == files["1/config.pbtxt"]
    assert len(files) == 5


def test_the_configuration_has_the_description_of_the_file_whatever_words_are_in_it(tmp_path):
    described = dataclasses.replace(tiny_artifact(), data='"Gesichter" für 5 €\nund C:\\Bilder\t\x01', licence="CC0")
    path = tmp_path / "office.onnx"
    path.write_bytes(tiny_model(described))
    write(path, tmp_path)
    found = parameters((tmp_path / "iern" / "config.pbtxt").read_text(encoding="utf-8"))
    assert found.pop("version") == "1"
    assert found == described.to_metadata()
    assert Artifact.from_metadata(found, "config.pbtxt") == described


def test_the_text_escapes_what_a_string_may_not_hold():
    text = 'quote " backslash \\ newline \n tab \t bell \x07 digit after it \x011 umlaut ü emoji 😀'
    assert parsed(as_text({"key": text}), 'value: ""') == (text, "")


def test_each_export_is_the_next_version_and_the_earlier_ones_stay_as_they_were(exported, tmp_path):
    first = write(exported, tmp_path)
    before = files_in(first)
    exported.write_bytes(tiny_model(dataclasses.replace(tiny_artifact(), temperature=2.0), seed=1))
    second = write(exported, tmp_path)
    assert (first.name, second.name) == ("1", "2")
    assert files_in(first) == before
    config = (tmp_path / "iern" / "config.pbtxt").read_text(encoding="utf-8")
    assert config == (second / "config.pbtxt").read_text(encoding="utf-8")
    assert re.findall(r"versions: (\d+)", config) == ["2"]
    assert re.findall(r'label_filename: "(.*?)/', config) == ["2", "2", "2"]
    assert parameters(config)["iern.temperature"] == "2.0"


@pytest.mark.parametrize(("names", "expected"), [(["7"], "8"), (["2", "10", "notes", ".new-x"], "11"), (["0"], "1")])
def test_the_next_version_follows_the_largest_number_that_is_there(exported, tmp_path, names, expected):
    for name in names:
        (tmp_path / "iern" / name).mkdir(parents=True)
    assert write(exported, tmp_path).name == expected


def test_a_number_that_another_export_takes_meanwhile_is_left_to_it(exported, tmp_path, monkeypatch):
    write(exported, tmp_path)
    numbers = iter([1, 1, 2])
    monkeypatch.setattr(module, "next_version", lambda folder: next(numbers))
    before = files_in(tmp_path / "iern" / "1")
    assert write(exported, tmp_path).name == "2"
    assert files_in(tmp_path / "iern" / "1") == before
    assert re.findall(r"versions: (\d+)", (tmp_path / "iern" / "2" / "config.pbtxt").read_text(encoding="utf-8")) == [
        "2"
    ]


def test_a_failure_leaves_the_served_version_and_no_traces(exported, tmp_path, monkeypatch):
    write(exported, tmp_path)
    before = files_in(tmp_path / "iern")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(exported, tmp_path)
    assert files_in(tmp_path / "iern") == before
    assert {path.name for path in (tmp_path / "iern").iterdir()} == {"1", "config.pbtxt"}


def test_another_user_can_read_the_version_as_the_umask_allows(exported, tmp_path):
    umask = os.umask(0o022)
    try:
        folder = write(exported, tmp_path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_a_configuration_that_was_changed_by_hand_is_kept(exported, tmp_path):
    write(exported, tmp_path)
    config = tmp_path / "iern" / "config.pbtxt"
    mine = config.read_text(encoding="utf-8") + "instance_group { count: 4 }\n"
    config.write_text(mine, encoding="utf-8")
    lines: list[str] = []
    publish(served_file(exported), tmp_path, lines.append)
    assert "note: " in lines[0] and "changed by hand; it is kept as config.pbtxt.before-2" in lines[0]
    assert (tmp_path / "iern" / "config.pbtxt.before-2").read_text(encoding="utf-8") == mine
    publish(served_file(exported), tmp_path, lines.append)
    assert len(lines) == 3


def test_a_repository_that_is_a_file_is_refused(exported, tmp_path):
    (tmp_path / "models").touch()
    with pytest.raises(OutputError, match="models"):
        write(exported, tmp_path / "models")


def test_a_file_that_iern_did_not_export_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(tiny_model(with_metadata=False))
    with pytest.raises(ArtifactError, match="has no iern"):
        write(path, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def engine(folder: Path, **changes: object) -> Path:
    """The files of an engine, whose plan no TensorRT reads here."""
    onnx_file = folder / "office.fp16.onnx"
    onnx_file.write_bytes(tiny_model())
    path = folder / "office.fp16.engine"
    manifest = made_up_manifest(onnx_file, **{**ANY_BATCH, **changes})
    tail = TailWeights(np.zeros((3, 4, 1), np.float32), np.zeros(3, np.float32)) if manifest.head == "kernel" else None
    write_engine(path, b"a plan", manifest, tail)
    return path


def test_an_engine_becomes_a_plan_with_its_profiles(tmp_path):
    folder = write(engine(tmp_path), tmp_path)
    assert (folder / "model.plan").read_bytes() == b"a plan"
    config = (folder / "config.pbtxt").read_text(encoding="utf-8")
    assert 'backend: "tensorrt"' in config and 'default_model_filename: "model.plan"' in config
    assert re.findall(r'profile: "(\d)"', config) == ["0", "1", "2"]
    assert re.findall(r"preferred_batch_size: (\d)", config) == ["1", "2", "4"]
    assert "max_batch_size: 4" in config
    assert Artifact.from_metadata(parameters(config), "config") == tiny_artifact()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"any_batch": False}, "takes exactly 1, 2, 4 faces a call, and Triton joins requests to any number"),
        ({"backend": "rtx"}, "is of TensorRT for RTX"),
        ({"head": "kernel"}, "ends before the averaging kernel"),
    ],
)
def test_an_engine_that_triton_cannot_run_is_refused_with_the_command_that_builds_one(tmp_path, changes, problem):
    path = engine(tmp_path, **changes)
    with pytest.raises(EngineError) as error:
        write(path, tmp_path / "models")
    assert problem in str(error.value)
    assert f"build one for it: python export/to_trt.py {path.with_suffix('.onnx')} --backend tensorrt" in str(
        error.value
    )


def run(*words: str | Path) -> int:
    return to_trt.main([str(word) for word in words])


def test_the_command_writes_an_exported_file_and_an_engine_into_the_repository(tmp_path, capsys):
    model = Path(shutil.copy(MODEL, tmp_path / "office.onnx"))
    assert run(model, "--triton", tmp_path / "models") == 0
    assert run(engine(tmp_path), "--triton", tmp_path / "models") == 0
    assert (tmp_path / "models" / "iern" / "1" / "model.onnx").read_bytes() == MODEL.read_bytes()
    assert (tmp_path / "models" / "iern" / "2" / "model.plan").read_bytes() == b"a plan"
    output = capsys.readouterr().out
    assert "version 1 for Triton" in output and "version 2 for Triton" in output
    assert "no engine is built" not in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["office.engine"], "--triton REPO writes it for a Triton server"),
        (["office.engine", "--triton", "models", "--prior", "uniform"], "copied as it is; leave out --prior"),
        (["office.engine", "--triton", "models", "--log", "x"], "copied as it is; leave out the other options"),
        (["office.onnx", "--triton", "models", "--backend", "rtx"], "leave out --backend rtx"),
        (["office.onnx", "--triton", "models", "--head", "kernel"], "leave out --backend rtx"),
    ],
)
def test_options_that_make_no_sense_for_a_server_are_refused(words, message):
    with pytest.raises(IernError, match=re.escape(message)):
        parse(words)


def test_labels_and_configuration_follow_the_number_of_strata():
    collapsed = dataclasses.replace(tiny_artifact(), strata=("all",), collapsed_from=2)
    assert labels(collapsed)["stratum_expressions.txt"] == "all: neutral\nall: happy\nall: sad\n"
    outputs = model_config(collapsed, 1, "onnxruntime", "model.onnx", 16)["output"]
    assert [entry["dims"] for entry in outputs] == [[3], [3], [1, 3]]
