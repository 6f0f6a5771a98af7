"""The command: a checkpoint becomes one verified file, or one line has the reason and no file is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from doubles.tiny_artifact import tiny_model
from doubles.tiny_network import random_faces, sequential_logits, tiny_config, tiny_network
from iern.export import convert
from iern.export.convert import ExportOptions
from iern.export.engine.plan_builder import load_backend
from iern.export.parity import gate_faces, half_precision
from iern.export.parity.gate_faces import GateFaces, edge_cases
from iern.export.to_trt import main
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import OnnxSession, open_session
from iern.runtime.backends.trt import plan as tensorrt_engine
from iern.runtime.backends.trt.engine_file import read_engine
from iern.runtime.checksum import with_checksum
from iern.runtime.errors import EngineError
from iern.train.cartoons.data_set import plan, write
from iern.train.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from repository import ROOT

PHOTOGRAPH = str(ROOT / "tests" / "data" / "photos" / "biden_portrait.jpg")
TEMPERATURE = 1.3
THRESHOLD = 0.45
OPTIONS = ["--faces", PHOTOGRAPH, "--licence", "nur für Forschung", "--backend", "none"]


def checkpoint(**changes) -> Checkpoint:
    model = tiny_network()
    return Checkpoint(
        **{
            "config": model.config,
            "weights": model.state_dict(),
            "provenance": {"data": "/somebody/faces", "licence": "CC0-1.0", "seed": 0},
            "metrics": {"accuracy": np.float32(0.5), "recall": {"anger": np.float64(0.25)}},
            "temperature": TEMPERATURE,
            "threshold": THRESHOLD,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """ckpt.onnx, written beside its ckpt.pt by the command, as the user types it in another folder."""
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(checkpoint(), folder / "ckpt.pt")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-X", "utf8", ROOT / "export" / "to_trt.py", folder / "ckpt.pt", *OPTIONS]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    (folder / "output.txt").write_text(result.stdout, encoding="utf-8")
    assert not list(elsewhere.iterdir())
    return folder / "ckpt.onnx"


MANY = 100
"""Faces for the gate of half precision in place of `gate_faces.MANY`, which takes many seconds."""


@pytest.fixture
def fewer_faces(monkeypatch):
    monkeypatch.setattr(gate_faces, "MANY", MANY)


def copied(exported: Path, folder: Path) -> Path:
    """A copy of the checkpoint, without other files, in the folder."""
    return Path(shutil.copy(exported.with_suffix(".pt"), folder))


def refused(capsys, *words: str | Path) -> str:
    """The one line of the failed command on stderr."""
    assert main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def test_it_prints_parity_path_size_and_digest_of_the_file_and_that_no_engine_is_built(exported):
    output = (exported.parent / "output.txt").read_text(encoding="utf-8")
    assert re.search(r"^onnxruntime +\d\.\de-\d\d +\d\.\de-\d\d +\d\.\de-\d\d +0$", output, re.MULTILINE)
    size, digest = exported.stat().st_size / 1e6, hashlib.sha256(exported.read_bytes()).hexdigest()
    assert f"wrote {exported}: {size:.1f} MB, sha256 {digest}" in output
    assert "no engine is built: --backend none;" in output


def test_only_the_file_is_written_beside_the_checkpoint(exported):
    assert {path.name for path in exported.parent.iterdir()} == {"ckpt.pt", "ckpt.onnx", "output.txt"}


def test_the_file_answers_in_the_runtime_as_the_sequential_network_does(exported):
    faces = random_faces(20)
    expected = sequential_logits(tiny_network(), faces)
    with OnnxSession(exported) as session:
        predictions = session(faces)
    np.testing.assert_allclose(predictions.stratum_logits, expected.numpy(), rtol=0, atol=1e-4)
    probabilities = (expected.mean(dim=1) / TEMPERATURE).softmax(dim=1)
    np.testing.assert_allclose(predictions.probabilities, probabilities.numpy(), rtol=0, atol=1e-5)


def test_the_files_description_is_that_of_the_checkpoint(exported):
    with OnnxSession(exported) as session:
        artifact = session.artifact
    config = tiny_config()
    assert (artifact.expressions, artifact.strata, artifact.input) == (config.expressions, config.strata, config.input)
    assert (artifact.method, artifact.answer, artifact.temperature) == ("iern", "logits", TEMPERATURE)
    assert artifact.threshold == THRESHOLD
    assert artifact.metrics == {"accuracy": 0.5, "recall": {"anger": 0.25}}
    assert artifact.checkpoint_sha256 == hashlib.sha256(exported.with_suffix(".pt").read_bytes()).hexdigest()
    assert {"iern", "torch", "onnx"} <= set(artifact.versions)
    assert artifact.parity["forms"]["onnxruntime"]["argmax_changes"] == 0


def test_the_same_checkpoint_gives_the_same_bytes_from_another_process_and_folder(exported, tmp_path):
    source, target = copied(exported, tmp_path), tmp_path / "new folder" / "other.onnx"
    assert main([str(source), "-o", str(target), *OPTIONS]) == 0
    assert target.read_bytes() == exported.read_bytes()
    assert not source.with_suffix(".onnx").exists()


def test_data_and_licence_of_the_command_line_replace_those_of_the_checkpoint(exported):
    with OnnxSession(exported) as session:
        assert session.artifact.licence == "nur für Forschung"
    source = exported.with_suffix(".pt")
    assert convert.describe(load_checkpoint(source), source, ExportOptions(data="CK+, MMI")).data == "CK+, MMI"
    assert convert.describe(load_checkpoint(source), source).licence == "CC0-1.0"


OWN_RATES = (0.1, 0.25, 0.05, 0.6)
"""Of anger, happiness, sadness and neutral."""


def test_a_prior_multiplies_the_probabilities_by_the_ratio_of_the_rates(tmp_path):
    save_checkpoint(checkpoint(prior=OWN_RATES), tmp_path / "ckpt.pt")
    assert main([str(tmp_path / "ckpt.pt"), "--prior", "neutral=0.2,anger=0.5", *OPTIONS]) == 0
    faces = random_faces(20)
    own = (sequential_logits(tiny_network(), faces).mean(dim=1) / TEMPERATURE).softmax(dim=1).numpy()
    products = own * np.array([0.5, 0.25, 0.05, 0.2]) / OWN_RATES
    expected = products / products.sum(axis=1, keepdims=True)
    assert np.abs(expected - own).max() > 0.1
    with OnnxSession(tmp_path / "ckpt.onnx") as session:
        assert session.artifact.prior == pytest.approx((0.5, 0.25, 0.05, 0.2))
        assert session.artifact.threshold == THRESHOLD
        np.testing.assert_allclose(session(faces).probabilities, expected, rtol=0, atol=1e-5)


def test_without_a_prior_the_file_assumes_that_of_the_checkpoint_and_the_loop_may_change_it(tmp_path):
    save_checkpoint(checkpoint(prior=OWN_RATES), tmp_path / "ckpt.pt")
    faces, photograph = random_faces(5), GateFaces(Path(PHOTOGRAPH))
    for name, prior in (("own", None), ("uniform", "uniform")):
        convert.convert(tmp_path / "ckpt.pt", tmp_path / f"{name}.onnx", photograph, ExportOptions(prior=prior))
    with open_session(tmp_path / "own.onnx") as own, open_session(tmp_path / "uniform.onnx") as exported:
        assert own.artifact.prior == OWN_RATES
        expected = exported(faces)
        assert np.abs(own(faces).probabilities - expected.probabilities).max() > 0.01
    with open_session(tmp_path / "own.onnx", prior="uniform") as changed:
        for name, values in vars(changed(faces)).items():
            np.testing.assert_allclose(values, getattr(expected, name), rtol=0, atol=1e-5)


def test_a_prior_that_the_model_cannot_have_is_refused_before_anything_is_written(exported, tmp_path, capsys):
    source = copied(exported, tmp_path)
    assert "does not record how frequent" in refused(capsys, source, "--prior", "uniform", *OPTIONS)
    save_checkpoint(checkpoint(prior=OWN_RATES), source)
    assert "names joy" in refused(capsys, source, "--prior", "joy=0.5", *OPTIONS)
    assert "sums to 1.2" in refused(capsys, source, "--prior", "neutral=0.6,anger=0.6", *OPTIONS)
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt.pt"}
    assert "already exported; leave out --prior" in refused(capsys, exported, "--prior", "uniform", "--backend", "none")


def test_the_file_names_no_folder_of_the_machine(exported):
    with OnnxSession(exported) as session:
        assert session.artifact.data == "faces"
    assert b"somebody" not in exported.read_bytes()


def test_an_exported_file_is_checked_and_not_changed(exported, capsys):
    before = exported.read_bytes()
    assert main([str(exported), "--faces", PHOTOGRAPH, "--backend", "none"]) == 0
    assert "sound" in capsys.readouterr().out
    assert exported.read_bytes() == before


@pytest.fixture
def wrong_algebra(monkeypatch):
    """The exporter with a mistake: the first stratum's centre is wrong by a hundredth."""
    right = convert.deconfound

    def wrong(*arguments, **options):
        network = right(*arguments, **options)
        network.head.entry.context[0] *= 1.01
        return network

    monkeypatch.setattr(convert, "deconfound", wrong)


@pytest.mark.usefixtures("wrong_algebra")
def test_over_the_parity_limit_it_fails_and_writes_no_file(exported, tmp_path, capsys):
    source = copied(exported, tmp_path)
    assert main([str(source), *OPTIONS]) == 1
    output = capsys.readouterr()
    assert "onnxruntime: strata differ by" in output.err
    assert "nothing was written" in output.err
    assert "strata / spread" in output.out
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def test_weights_that_are_not_numbers_are_refused_and_an_older_file_stays_as_it_was(tmp_path, capsys):
    weights = {name: tensor.clone() for name, tensor in tiny_network().state_dict().items()}
    weights["confounders"][0, 0, 0, 0] = float("nan")
    save_checkpoint(checkpoint(weights=weights), tmp_path / "ckpt.pt")
    (tmp_path / "ckpt.onnx").write_bytes(b"older")
    assert "differ by nan" in refused(capsys, tmp_path / "ckpt.pt", *OPTIONS)
    assert (tmp_path / "ckpt.onnx").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt.pt", "ckpt.onnx"}


def foreign_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, path)


def misfitting_checkpoint(path: Path) -> None:
    save_checkpoint(checkpoint(config=tiny_config(width=16)), path)


def checkpoint_of_an_unknown_backbone(path: Path) -> None:
    save_checkpoint(checkpoint(config=tiny_config(backbone="resnet50_of_tomorrow")), path)


def checkpoint_that_cannot_be_served(path: Path) -> None:
    save_checkpoint(checkpoint(temperature=0.0), path)


def truncated_checkpoint(path: Path) -> None:
    save_checkpoint(checkpoint(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("epoch, loss\n1, 0.5\n", encoding="utf-8"), "not a checkpoint"),
        (truncated_checkpoint, "cut off"),
        (foreign_checkpoint, "not of this project"),
        (misfitting_checkpoint, "do not fit"),
        (checkpoint_of_an_unknown_backbone, "cannot be built"),
        (checkpoint_that_cannot_be_served, "temperature"),
    ],
    ids=["absent", "folder", "empty", "text", "truncated", "foreign", "misfitting", "backbone", "temperature"],
)
def test_a_bad_checkpoint_is_refused_in_one_line_that_names_it(make, found, tmp_path, capsys):
    path = tmp_path / "ckpt.pt"
    make(path)
    line = refused(capsys, path, "--faces", PHOTOGRAPH)
    assert found in line
    assert str(path) in line
    assert not list(tmp_path.glob("**/*.onnx"))


def external_weights(path: Path, content: bytes) -> None:
    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {})  # a checksum of the one file would be noticed first
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def contradicting_outputs(path: Path, content: bytes) -> None:
    model = onnx.load_from_string(content)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    artifact = dataclasses.replace(Artifact.from_metadata(metadata, "copy"), temperature=5.0)
    onnx.helper.set_model_props(model, artifact.to_metadata())
    path.write_bytes(model.SerializeToString())


def flipped_bytes(path: Path, content: bytes) -> None:
    middle = len(content) // 2
    path.write_bytes(
        content[:middle] + bytes(byte ^ 1 for byte in content[middle : middle + 4]) + content[middle + 4 :]
    )


def unknown_operation(path: Path, content: bytes) -> None:
    model = onnx.load_from_string(content)
    model.graph.node[0].op_type = "Transposed"
    path.write_bytes(with_checksum(model.SerializeToString()))


def weights_not_numbers(path: Path, content: bytes) -> None:
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.name == "tail.of_mean.weight":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    path.write_bytes(with_checksum(model.SerializeToString()))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path, content: None, "check the path"),
        (lambda path, content: path.write_bytes(b""), "is empty"),
        (lambda path, content: path.write_text("not a graph", encoding="utf-8"), "no ONNX file"),
        (lambda path, content: path.write_bytes(content[: len(content) // 2]), "cut off"),
        (lambda path, content: path.write_bytes(tiny_model(with_metadata=False)), "no iern.* metadata"),
        (external_weights, "weights.bin"),
        (contradicting_outputs, "probabilities differ"),
        (unknown_operation, "no valid ONNX graph"),
        (weights_not_numbers, "NaN"),
        (flipped_bytes, "is damaged"),
    ],
    ids=["absent", "empty", "text", "truncated", "foreign", "external", "contradicting", "operation", "nan", "flipped"],
)
def test_a_bad_onnx_file_is_refused_in_one_line_that_names_it(make, found, exported, tmp_path, capsys):
    path = tmp_path / "model.onnx"
    make(path, exported.read_bytes())
    line = refused(capsys, path, "--faces", PHOTOGRAPH)
    assert found in line
    assert str(path) in line


def test_an_output_that_is_no_onnx_file_is_refused_before_any_work(exported, tmp_path, capsys):
    line = refused(capsys, exported.with_suffix(".pt"), "-o", tmp_path / "model.engine")
    assert "model.onnx" in line
    assert not list(tmp_path.iterdir())


def test_options_of_an_export_are_refused_for_an_exported_file(exported, tmp_path, capsys):
    assert "leave out --data" in refused(capsys, exported, "--data", "CK+")
    assert "model.engine" in refused(capsys, exported, "-o", tmp_path / "model.onnx")


def test_faces_that_cannot_be_opened_are_reported_and_nothing_is_written(exported, tmp_path, capsys):
    source = copied(exported, tmp_path)
    assert "no such file" in refused(capsys, source, "--faces", tmp_path / "absent.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


@pytest.fixture(scope="module")
def engine(exported, tmp_path_factory) -> Path:
    """ckpt.fp16.engine and the command's other files, by TensorRT for RTX."""
    try:
        load_backend("rtx")
    except EngineError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("engine")
    source = copied(exported, folder)
    target = ["--compute-capability", "sm_89", "--max-batch", "1", "--log", str(folder / "log.txt")]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.setattr(gate_faces, "MANY", MANY)
        assert main([str(source), "--faces", PHOTOGRAPH, *target]) == 0
    (folder / "output.txt").write_text(output.getvalue(), encoding="utf-8")
    return folder / "ckpt.fp16.engine"


def test_an_engine_is_written_with_its_manifest_and_both_exported_files_and_nothing_else(engine):
    made = {"ckpt.onnx", "ckpt.fp16.onnx", "ckpt.fp16.engine", "ckpt.fp16.engine.json"}
    assert {path.name for path in engine.parent.iterdir()} == {"ckpt.pt", "log.txt", "output.txt", *made}
    found = read_engine(engine)
    assert found.artifact.licence == "CC0-1.0"
    assert found.artifact.parity["faces"] == MANY + len(edge_cases(64))
    assert found.artifact.parity["agreement"] >= 0.995
    assert (found.manifest.precision, found.manifest.targets) == ("fp16", ("sm_89",))


def test_it_prints_the_differences_of_half_precision_and_the_head_room_of_the_layers(engine):
    output = (engine.parent / "output.txt").read_text(encoding="utf-8")
    assert f"half precision against float64, on {MANY + len(edge_cases(64))} images:" in output
    assert re.search(r"^head-room below 65504 +\d+ x  at least 4 x$", output, re.MULTILINE)
    assert f"wrote {engine}: {engine.stat().st_size / 1e6:.1f} MB" in output
    assert "stratum_logits" in (engine.parent / "log.txt").read_text(encoding="utf-8")


def test_the_file_in_half_precision_answers_in_the_runtime_within_its_rounding(engine):
    faces = random_faces(20)
    expected = sequential_logits(tiny_network(), faces).numpy()
    with OnnxSession(engine.with_suffix(".onnx")) as session:
        predictions = session(faces)
    error = np.abs(predictions.stratum_logits - expected).max() / np.ptp(expected)
    assert 1e-6 < error < 1e-2


def test_an_exported_file_becomes_an_engine_without_pytorch(engine, tmp_path):
    """As on a small machine, with the file that a larger one exported."""
    source = Path(shutil.copy(engine.with_suffix(".onnx"), tmp_path / "office.onnx"))
    program = f"""
import sys
for name in ("torch", "timm", "torchvision", "lightning_fabric", "onnxscript", "sklearn", "matplotlib"):
    sys.modules[name] = None
from iern.export.to_trt import main
sys.exit(main([{str(source)!r}, "--faces", {PHOTOGRAPH!r}, "--backend", "rtx", "--head", "kernel", "--max-batch", "2"]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    found = read_engine(tmp_path / "office.engine")
    assert found.tail is not None
    assert found.manifest.batches == (1, 2)
    assert "fp16" in result.stdout


@pytest.mark.usefixtures("wrong_algebra")
def test_without_parity_there_is_no_engine_either(exported, tmp_path, capsys):
    source = copied(exported, tmp_path)
    assert main([str(source), "--faces", PHOTOGRAPH, "--backend", "auto"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


@pytest.mark.usefixtures("fewer_faces")
def test_half_precision_that_differs_too_much_is_refused_and_the_float32_file_stays(
    exported, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(half_precision, "AGREEMENT_LIMIT", 1.1)
    source = copied(exported, tmp_path)
    line = refused(capsys, source, *OPTIONS, "--precision", "fp16")
    assert "ckpt.fp16.onnx was not written; use --precision fp32; " in line
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt.pt", "ckpt.onnx"}


@pytest.mark.usefixtures("fewer_faces")
def test_the_gates_can_use_the_faces_of_a_data_set(exported, tmp_path, capsys):
    write(tmp_path / "set", plan(4), size=64)
    source = copied(exported, tmp_path)
    assert main([str(source), "--faces", str(tmp_path / "set"), "--backend", "none", "--precision", "fp16"]) == 0
    output = capsys.readouterr().out
    assert f"float64, on {len(edge_cases(64)) + 9} images" in output.splitlines()[1]
    assert f"half precision against float64, on {len(edge_cases(64)) + MANY} images" in output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--backend", "none", "--head", "kernel"], "leave out --head"),
        (["--compute-capability", "sm_99"], "does not build for sm_99; it supports sm_75"),
        (["--compute-capability", "ada"], "no compute capability"),
        (["--backend", "rtx", "--timing-cache", "cache"], "no timing cache"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_impossible_engine_options_are_refused_before_any_work(exported, tmp_path, capsys, words, found):
    source = copied(exported, tmp_path)
    assert found in refused(capsys, source, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]


def test_a_precision_other_than_the_files_is_refused(exported, capsys):
    assert "is fp32, and an engine has the precision of its file" in refused(capsys, exported, "--precision", "fp16")


@pytest.fixture
def no_tensorrt(monkeypatch):
    monkeypatch.setattr(tensorrt_engine, "MODULES", {"tensorrt": ("no_such_module",), "rtx": ("nor_this_one",)})


@pytest.mark.usefixtures("no_tensorrt")
def test_without_tensorrt_the_reason_is_printed_and_the_file_is_complete(exported, tmp_path, capsys):
    source = copied(exported, tmp_path)
    assert main([str(source), "--faces", PHOTOGRAPH]) == 0
    assert "no engine is built: TensorRT is not installed; pip install" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"ckpt.pt", "ckpt.onnx"}


@pytest.mark.parametrize("words", [["--backend", "tensorrt"], ["--head", "kernel"], ["--max-batch", "4"]])
@pytest.mark.usefixtures("no_tensorrt")
def test_without_tensorrt_a_required_engine_is_an_error_before_any_work(exported, tmp_path, capsys, words):
    source = copied(exported, tmp_path)
    assert "TensorRT is not installed" in refused(capsys, source, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.pt"]
