"""A session gives the same outputs however the faces are split, and refuses wrong files and faces in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.artifact import INPUT_NAME, OUTPUT_NAMES, Artifact
from iern.runtime.backends.onnx import OnnxSession, open_session
from iern.runtime.bundled import MODEL, YUNET
from iern.runtime.errors import ArtifactError, IernError, SessionError
from iern.runtime.session import Predictions, Session

MAX = 5
SIZE = 32
ROUNDING = 1e-4
"""Logits. onnxruntime sums 1,024 float32 pixels in another order for one face than for several."""
BUILT_FOR_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
HAS_GPU = shutil.which("nvidia-smi") is not None


def faces(count: int, size: int = SIZE) -> np.ndarray:
    """(count, size, size, 3) uint8 noise around another colour in each face, so that all outputs differ."""
    random = np.random.default_rng(3)
    colours = random.integers(0, 200, (count, 1, 1, 3))
    return (colours + random.integers(0, 56, (count, size, size, 3))).astype(np.uint8)


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_model())
    return path


def reference(artifact: Artifact, images: np.ndarray) -> Predictions:
    """Compute the tiny model in float64, with the weights of its file: mean colour, affine map, mean, softmax."""
    graph = onnx.load_from_string(tiny_model(artifact)).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    colour = images.mean(axis=(1, 2)) / 255
    flat = colour @ values["weight"] + values["bias"]
    stratum_logits = flat.reshape(len(images), len(artifact.strata), len(artifact.expressions))
    logits = stratum_logits.mean(axis=1)
    exponentials = np.exp(logits / artifact.temperature)
    return Predictions(exponentials / exponentials.sum(axis=1, keepdims=True), logits, stratum_logits)


def assert_alike(a: Predictions, b: Predictions) -> None:
    for name in ("probabilities", "logits", "stratum_logits"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=ROUNDING)


def test_the_outputs_are_those_of_the_graph_with_the_temperature_in_the_probabilities_only():
    artifact = tiny_artifact(temperature=2.5)
    with open_session(tiny_model(artifact)) as session:
        assert_alike(session(faces(4)), reference(artifact, faces(4)))


@pytest.mark.parametrize("count", [0, 1, MAX, MAX + 1, 64])
def test_any_number_of_faces_gets_the_outputs_of_one_at_a_time(model, count):
    batch = faces(count)
    with open_session(model, max_batch=MAX) as session:
        together = session(batch)
        alone = [session(batch[k : k + 1]) for k in range(count)]
    assert together.probabilities.shape == together.logits.shape == (count, 3)
    assert len(np.unique(together.logits[:, 0].round(4))) == count
    assert together.stratum_logits.shape == (count, 2, 3)
    for name in ("probabilities", "logits", "stratum_logits"):
        array = getattr(together, name)
        assert array.dtype == np.float32
        for row, one in zip(array, alone, strict=True):
            np.testing.assert_allclose(row, getattr(one, name)[0], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("count", "runs"), [(0, []), (1, [1]), (MAX, [5]), (MAX + 1, [5, 1]), (12, [5, 5, 2])])
def test_every_backend_gets_at_most_its_largest_batch(count, runs):
    given = []

    class Recording(Session):
        def _free(self) -> None:
            pass

        def _run(self, batch: np.ndarray) -> Predictions:
            given.append(len(batch))
            return reference(self.artifact, batch)

    predictions = Recording(tiny_artifact(), "a backend", MAX)(faces(count))
    assert given == runs
    assert_alike(predictions, reference(tiny_artifact(), faces(count)))


def test_faces_that_are_a_view_into_other_memory_get_the_same_outputs(model):
    batch = faces(6)
    with open_session(model) as session:
        assert_alike(session(batch[::2, :, ::-1]), session(np.ascontiguousarray(batch[::2, :, ::-1])))


def test_a_copied_file_and_its_bytes_give_the_outputs_of_the_original(model, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(model, tmp_path / "elsewhere" / "Modell für Gesichter.onnx")
    outputs = []
    for source in (model, str(copy), model.read_bytes()):
        with open_session(source) as session:
            outputs.append(session(faces(3)))
            assert session.artifact == tiny_artifact()
    assert_alike(outputs[0], outputs[1])
    assert_alike(outputs[0], outputs[2])


@pytest.mark.parametrize(
    "wrong",
    [
        faces(2).astype(np.float32),
        faces(2, size=16),
        faces(1)[0],
        faces(2)[..., 0],
        faces(2).transpose(0, 3, 1, 2),
        faces(2).tolist(),
        np.zeros(0, np.uint8),
    ],
    ids=["float", "size", "no batch", "grey", "channels first", "list", "empty of no shape"],
)
def test_faces_that_do_not_fit_the_model_are_refused_with_what_was_expected(model, wrong):
    with open_session(model) as session, pytest.raises(SessionError, match=r"expected faces of \(batch, 32, 32, 3\)"):
        session(wrong)


@pytest.mark.parametrize("count", [0, 1])
def test_a_closed_session_cannot_be_called(model, count):
    with open_session(model) as session:
        pass
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session(faces(count))


def test_calls_and_the_close_of_several_threads_follow_one_another():
    """A backend that is called, or freed, while it runs would fail here."""
    running = []

    class OneAtATime(Session):
        def _run(self, batch: np.ndarray) -> Predictions:
            assert not running
            running.append(batch)
            time.sleep(0.01)
            running.pop()
            return reference(self.artifact, batch)

        def _free(self) -> None:
            assert not running

    session = OneAtATime(tiny_artifact(), "a backend", MAX)
    with ThreadPoolExecutor(8) as pool:
        for predictions in pool.map(session, [faces(7)] * 8):
            assert_alike(predictions, reference(tiny_artifact(), faces(7)))
        last = pool.submit(session, faces(7))
        session.close()
        assert last.exception() is None or "closed" in str(last.exception())


NAMES = (b"raw\xff.onnx", "été.onnx".encode(), b"folder\xff/model.onnx")
"""Paths of models in bytes. The first and the last are not valid UTF-8."""


def test_a_model_whose_path_is_no_text_gives_the_outputs_of_its_bytes(tmp_path):
    with open_session(tiny_model()) as session:
        expected = session(faces(2))
    for name in NAMES:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tiny_model())
        for form in (path, str(path)):
            with open_session(form) as session:
                assert_alike(session(faces(2)), expected)
        path.write_bytes(b"no model")
        assert_refused(path, "onnxruntime cannot load it.*copy it again")


def test_in_a_locale_of_ascii_only_a_model_of_any_name_opens(tmp_path):
    paths = [os.path.join(os.fsencode(tmp_path), name) for name in NAMES]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(MODEL, path)
    code = (
        "import sys\n"
        "from iern.runtime import ExpressionRecognizer\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "for path in sys.argv[1:]:\n"
        "    ExpressionRecognizer(path, threads=1).close()\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code, *paths], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_path_as_bytes_is_refused_with_what_to_pass(model):
    assert_refused(os.fsencode(model), r"path '.*model\.onnx' as bytes, expected the content.*os\.fsdecode")


def test_a_largest_batch_of_0_is_refused(model):
    with pytest.raises(SessionError, match="at least 1"):
        open_session(model, max_batch=0)


def assert_refused(source: Path | bytes, found: str, error: type[IernError] = ArtifactError, **options) -> None:
    with pytest.raises(error, match=found) as refusal:
        OnnxSession(source, **options)
    message = str(refusal.value)
    assert "\n" not in message
    assert message.startswith("the model in memory" if isinstance(source, bytes) else str(source))


def test_a_missing_file_a_folder_and_an_empty_file_are_refused(tmp_path):
    (tmp_path / "empty.onnx").touch()
    assert_refused(tmp_path / "none.onnx", "no such file.*check the path")
    assert_refused(tmp_path, "no such file")
    assert_refused(tmp_path / "empty.onnx", "0 bytes.*export")
    assert_refused(b"", "0 bytes.*export")


@pytest.mark.parametrize("content", [b"neutral, happiness\n" * 9, b"PK\x03\x04" + bytes(99)], ids=["text", "zip"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    assert_refused(tmp_path / "model.onnx", "cannot load it.*copy it again")
    assert_refused(content, "cannot load it")


def test_a_file_truncated_anywhere_is_refused_in_one_line(tmp_path):
    whole = tiny_model()
    entries = onnx.load_from_string(whole).metadata_props  # they are last, each after two bytes
    between_entries = len(whole) - np.cumsum([2 + entry.ByteSize() for entry in reversed(entries)])
    for length in {*range(1, len(whole), 29), len(whole) - 1, *between_entries.tolist()}:
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        assert_refused(tmp_path / "cut.onnx", "cannot load it|no iern|lacks")


def test_an_onnx_file_of_another_program_is_refused(tmp_path):
    assert_refused(tiny_model(with_metadata=False), "no iern.* metadata")
    detector = YUNET
    assert_refused(detector, "no iern.* metadata")


def changed_model(change) -> bytes:
    """Return the tiny model after `change(graph)`."""
    model = onnx.load_from_string(tiny_model())
    change(model.graph)
    return model.SerializeToString()


def of_other_type(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    graph.node[0].CopyFrom(helper.make_node("Identity", [INPUT_NAME], ["pixels"]))


def with_fixed_batch(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def without_strata(graph: onnx.GraphProto) -> None:
    del graph.output[2]


def with_another_input(graph: onnx.GraphProto) -> None:
    graph.input.append(helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1]))


def with_a_scalar(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("ReduceMax", [OUTPUT_NAMES[0]], ["peak"], keepdims=0))
    graph.output.append(helper.make_tensor_value_info("peak", TensorProto.FLOAT, []))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (of_other_type, r"has image \(batch, 32, 32, 3\) float, .*promises image \(batch, 32, 32, 3\) uint8"),
        (with_fixed_batch, "exactly 1 faces per call"),
        (without_strata, r"promises .*stratum_logits \(batch, 2, 3\) float"),
        (with_another_input, "has .*threshold"),
        (with_a_scalar, "has .*peak"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(change, found):
    assert_refused(changed_model(change), found)


def test_a_graph_of_other_labels_than_its_metadata_is_refused():
    model = onnx.load_from_string(tiny_model())
    six = Artifact(tuple("abcdef"), tiny_artifact().strata, tiny_artifact().input)
    helper.set_model_props(model, six.to_metadata())
    assert_refused(model.SerializeToString(), r"has .*probabilities \(batch, 3\).*promises .*\(batch, 6\)")


@pytest.mark.parametrize("change", ["moved alone", "cut", "as bytes"])
def test_a_graph_whose_external_data_is_missing_is_refused_in_one_line(tmp_path, change):
    model = onnx.load_from_string(tiny_model())
    path = tmp_path / "model.onnx"
    for tensor in model.graph.initializer:
        if tensor.name == "weight":
            onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    onnx.save_model(model, path)
    OnnxSession(path)  # the complete file opens
    if change == "moved alone":
        path = Path(shutil.move(path, tmp_path.parent / "alone.onnx"))
    elif change == "cut":
        os.truncate(tmp_path / "weights.bin", 10)
    assert_refused(path.read_bytes() if change == "as bytes" else path, "cannot load it.*one whole file")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_a_checkpoint_is_refused_with_the_command_that_exports_it(suffix):
    with pytest.raises(ArtifactError, match=rf"python export/to_trt\.py run/best\{suffix}$"):
        open_session(Path("run") / f"best{suffix}")


def test_a_file_of_unknown_suffix_is_refused():
    with pytest.raises(ArtifactError, match=r"model\.tflite.*\.onnx"):
        open_session("model.tflite")


def test_the_provider_of_the_cpu_is_cpu(model):
    for strict in (False, True):
        with open_session(model, provider="cpu", strict=strict) as session:
            assert session.provider == "cpu"


def test_an_unknown_provider_is_refused_with_the_known_ones(model):
    with pytest.raises(SessionError, match=r"'tpu'.*auto, cpu, cuda"):
        open_session(model, provider="tpu")


@pytest.mark.skipif(BUILT_FOR_CUDA and HAS_GPU, reason="this machine can run CUDA")
def test_without_a_gpu_the_cpu_is_used_and_noted_and_strict_refuses(model):
    for provider in ("auto", "cuda"):
        with open_session(model, provider=provider) as session:
            assert session.provider == "cpu"
            assert ("CUDA" in session.note) == (provider == "cuda" or BUILT_FOR_CUDA)
            assert_alike(session(faces(2)), reference(session.artifact, faces(2)))
    with pytest.raises(SessionError, match=r"without CUDA.*iern\[gpu\]|CUDA cannot run.*nvidia-smi") as refusal:
        open_session(model, provider="cuda", strict=True)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(BUILT_FOR_CUDA, reason="this onnxruntime may fall back")
def test_if_onnxruntime_has_only_the_cpu_strict_auto_is_the_cpu(model):
    with open_session(model, provider="auto", strict=True) as session:
        assert session.provider == "cpu"


def test_without_onnxruntime_the_module_imports_and_opening_has_an_error_with_what_to_install(model):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from iern.runtime.errors import SessionError\n"
        "from iern.runtime.backends.onnx import open_session\n"
        "try: open_session(sys.argv[1])\n"
        "except SessionError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(model)]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    assert "pip install 'iern[cpu]'" in output
    assert len(output.splitlines()) == 1


def test_opening_and_running_prints_nothing(model, capfd):
    with open_session(model, provider="cpu") as session:
        session(faces(20))
    for bad in (b"no model", tiny_model()[:-40]):
        with pytest.raises(ArtifactError):
            open_session(bad, provider="cpu")
    assert capfd.readouterr() == ("", "")
