"""The float32 file or the 8-bit file: which one opens, why, and what is refused.

The files are real and small. The one in place of the 8-bit file has other weights, so its outputs tell which one ran.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pickle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime import ExpressionRecognizer
from iern.runtime.artifact import Artifact
from iern.runtime.backends.onnx import OnnxSession, open_session
from iern.runtime.backends.precision import LEAST_GAIN, open_in_precision
from iern.runtime.backends.speed_record import key_of, record_path, record_speed_up
from iern.runtime.errors import ArtifactError, SessionError
from iern.runtime.session import Session
from iern.runtime.system.files import sha256
from iern.runtime.system.processor import Processor, processor

VNNI = Processor("a new CPU", True, ("avx512_vnni",))
OLD_X86 = Processor("an old CPU", True, ())
OLD_ARM = Processor("an old Arm", False, ())
UNKNOWN = Processor("a CPU", True, None)
FACES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def slow(content: bytes) -> bytes:
    """The same model, which computes much more and adds none of it."""
    model = onnx.load_from_string(content)
    chain = ["pixels", *(f"wave {i}" for i in range(200)), "nothing"]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in itertools.pairwise(chain[:-1])]
    nodes += [helper.make_node("Mul", [chain[-2], "zero"], ["nothing"])]
    nodes += [helper.make_node("Add", ["pixels", "nothing"], ["the same pixels"])]
    cast, scale, *others = model.graph.node
    scale.input[0] = "the same pixels"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    model.graph.ClearField("node")
    model.graph.node.extend([cast, *nodes, scale, *others])
    return model.SerializeToString()


def pair(folder: Path, given: bytes | None = None, made_from: str | None = None, small_is_slow: bool = False) -> Path:
    """A model and its 8-bit file beside it -> the path of the model. The 8-bit file is much faster, or much slower."""
    path = folder / "office.onnx"
    content = given or tiny_model(seed=0)
    path.write_bytes(content if small_is_slow else slow(content))
    described = dataclasses.replace(tiny_artifact(), float_sha256=made_from or sha256(path))
    small = tiny_model(described, seed=1)
    (folder / "office.int8.onnx").write_bytes(slow(small) if small_is_slow else small)
    return path


def opened(model: Path | bytes, precision: str, here: Processor = VNNI, provider: str = "cpu") -> Session:
    def open_file(file: Path | str | bytes, key: str) -> OnnxSession:
        return OnnxSession(file, key, threads=1)

    return open_in_precision(model, precision, provider, 1, open_file, here)


def is_eight_bit(session: Session) -> bool:
    """Whether the session runs the file in place of the 8-bit file: by its outputs, and by its description."""
    with OnnxSession(tiny_model(seed=0), "cpu") as given, OnnxSession(tiny_model(seed=1), "cpu") as small:
        logits = session(FACES).logits
        first, second = (np.allclose(logits, each(FACES).logits, atol=1e-4) for each in (given, small))
    assert first != second
    assert second == bool(session.artifact.float_sha256)
    return second


def test_auto_times_both_once_and_takes_the_faster_one_from_then_on(tmp_path):
    model = pair(tmp_path)
    with opened(model, "auto") as session:
        assert is_eight_bit(session)
        assert "measured at this start" in session.precision_note
    written = record_path().read_bytes()
    with opened(model, "auto") as session:
        assert is_eight_bit(session)
        assert session.precision_note.startswith("8 bits: one face in 8 bits is ")
        assert "measured at an earlier start" in session.precision_note
    assert record_path().read_bytes() == written
    ((key, factor),) = json.loads(written).items()
    assert factor > LEAST_GAIN
    assert "a new CPU" in key and "1 threads" in key


def test_auto_takes_the_float_file_where_that_is_faster(tmp_path):
    model = pair(tmp_path, small_is_slow=True)
    for when in ("this", "an earlier"):
        with opened(model, "auto") as session:
            assert not is_eight_bit(session)
            assert session.precision_note.startswith("float32: one face in 8 bits is 0.")
            assert f"measured at {when} start" in session.precision_note


@pytest.mark.parametrize(("factor", "eight_bit"), [(LEAST_GAIN + 0.01, True), (LEAST_GAIN - 0.01, False)])
def test_a_small_gain_does_not_count(tmp_path, factor, eight_bit):
    model = pair(tmp_path)
    small = tmp_path / "office.int8.onnx"
    record_speed_up(key_of(VNNI, onnxruntime.__version__, 1, sha256(model), sha256(small)), factor)
    with opened(model, "auto") as session:
        assert is_eight_bit(session) == eight_bit


def test_a_retrained_pair_is_timed_again(tmp_path):
    opened(pair(tmp_path), "auto").close()
    opened(pair(tmp_path, given=tiny_model(seed=2)), "auto").close()
    assert len(json.loads(record_path().read_text(encoding="utf-8"))) == 2


def test_a_cache_that_cannot_be_written_is_no_error_and_each_start_times_again(tmp_path, cache):
    cache.write_bytes(b"")
    model = pair(tmp_path)
    for _ in range(2):
        with opened(model, "auto") as session:
            assert is_eight_bit(session)
            assert "measured at this start" in session.precision_note


@pytest.mark.parametrize(
    ("here", "provider", "reason"),
    [
        (OLD_X86, "cpu", "not 8 bits: an old CPU has no 8-bit dot products"),
        (OLD_ARM, "auto", "not 8 bits: an old Arm has no 8-bit dot products"),
        (UNKNOWN, "cpu", "not 8 bits: whether a CPU has 8-bit dot products is unknown"),
        (VNNI, "cuda", "not 8 bits: 8 bits are for the CPU, and a GPU comes first"),
    ],
)
def test_auto_leaves_the_8_bit_file_closed_where_it_cannot_be_faster(tmp_path, here, provider, reason):
    model = pair(tmp_path)
    (tmp_path / "office.int8.onnx").write_bytes(b"damaged")
    with opened(model, "auto", here, provider) as session:
        assert not is_eight_bit(session)
        assert session.precision_note == reason
    assert not record_path().exists()


def test_auto_never_takes_an_8_bit_file_that_was_made_from_another_model(tmp_path):
    model = pair(tmp_path, made_from="0" * 64)
    with opened(model, "auto") as session:
        assert not is_eight_bit(session)
        assert (
            "office.int8.onnx was not made from this file; make it: python export/to_int8.py" in session.precision_note
        )
    assert not record_path().exists()
    with pytest.raises(ArtifactError, match=r"office\.int8\.onnx: was not made from .*office\.onnx; make it:.*fp32"):
        opened(model, "int8")


def test_auto_without_an_8_bit_file_or_with_a_damaged_one_opens_the_model(tmp_path):
    model = pair(tmp_path)
    (tmp_path / "office.int8.onnx").write_bytes(b"damaged")
    with opened(model, "auto") as session:
        assert not is_eight_bit(session)
        assert "office.int8.onnx: onnxruntime cannot load it" in session.precision_note
    (tmp_path / "office.int8.onnx").unlink()
    with opened(model, "auto") as session:
        assert session.precision_note == "not 8 bits: there is no office.int8.onnx beside it"
    with opened(model.read_bytes(), "auto") as session:
        assert "in memory" in session.precision_note
    model.unlink()
    with pytest.raises(ArtifactError, match=r"office\.onnx: no such file"):
        opened(model, "auto")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_auto_opens_the_model_if_its_8_bit_file_may_not_be_read(tmp_path):
    model = pair(tmp_path)
    (tmp_path / "office.int8.onnx").chmod(0)
    with opened(model, "auto") as session:
        assert not is_eight_bit(session)
        assert session.precision_note.endswith("office.int8.onnx: Permission denied")


@pytest.mark.parametrize("here", [VNNI, OLD_ARM, UNKNOWN])
def test_int8_opens_the_8_bit_file_without_timing_it(tmp_path, here):
    with opened(pair(tmp_path, small_is_slow=True), "int8", here, "auto") as session:
        assert is_eight_bit(session)
        assert (session.precision_note, session.note) == ("8 bits, as requested", "")
    assert not record_path().exists()


def test_int8_is_refused_where_sums_may_saturate_and_on_a_gpu(tmp_path):
    model = pair(tmp_path)
    with pytest.raises(SessionError, match=r"an old CPU has no 8-bit dot products .*saturate.*fp32 or auto"):
        opened(model, "int8", OLD_X86)
    with pytest.raises(SessionError, match="for the CPU only, found the provider cuda; use cpu"):
        opened(model, "int8", provider="cuda")


def test_int8_without_an_8_bit_file_is_an_error_with_the_command_that_makes_it(tmp_path):
    model = pair(tmp_path)
    (tmp_path / "office.int8.onnx").unlink()
    with pytest.raises(
        ArtifactError, match=r"office\.int8\.onnx: no such file; make it: python export/to_int8\.py .*fp32"
    ):
        opened(model, "int8")
    with pytest.raises(ArtifactError, match="expected the content of an 8-bit file"):
        opened(tiny_model(), "int8")


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_given_8_bit_file_is_opened_as_it_is(tmp_path, precision):
    pair(tmp_path)
    path = tmp_path / "office.int8.onnx"
    for model in (path, path.read_bytes()):
        with opened(model, precision) as session:
            assert is_eight_bit(session)
            assert session.precision_note == "8 bits, as this file is"


def test_a_given_8_bit_file_has_a_note_where_sums_may_saturate(tmp_path):
    pair(tmp_path)
    for precision in ("auto", "fp32"):
        with opened(tmp_path / "office.int8.onnx", precision, OLD_X86) as session:
            assert "an old CPU has no 8-bit dot products (VNNI)" in session.note
    with opened(tmp_path / "office.int8.onnx", "fp32", VNNI) as session:
        assert session.note == ""


def test_fp32_opens_the_file_as_it_is(tmp_path):
    with opened(pair(tmp_path), "fp32") as session:
        assert not is_eight_bit(session)
        assert session.precision_note == ""
    with pytest.raises(SessionError, match="unknown precision 'fp16'; expected auto, fp32, int8"):
        opened(tmp_path / "office.onnx", "fp16")


def test_an_open_session_is_in_float32_unless_asked_and_a_prior_keeps_the_reason(tmp_path):
    rated = Artifact(**{**vars(tiny_artifact()), "prior": (0.5, 0.3, 0.2)})
    model = tmp_path / "office.onnx"
    model.write_bytes(tiny_model(rated))
    (tmp_path / "office.int8.onnx").write_bytes(
        tiny_model(dataclasses.replace(rated, float_sha256=sha256(model)), seed=1)
    )
    with open_session(model, provider="cpu") as session:
        assert not is_eight_bit(session)
    if processor().saturates:
        pytest.skip("this CPU refuses 8 bits")
    with open_session(model, provider="cpu", prior="uniform", precision="int8") as session:
        assert session.artifact.float_sha256
        assert session.precision_note == "8 bits, as requested"


def test_an_engine_takes_no_8_bits():
    with pytest.raises(SessionError, match=r"office\.engine: is a TensorRT engine.*leave out int8"):
        open_session("office.engine", precision="int8")


def test_a_recognizer_takes_a_precision_and_keeps_it_when_it_is_pickled(tmp_path):
    if processor().saturates:
        pytest.skip("this CPU refuses 8 bits")
    model = pair(tmp_path)
    for precision, expected in (("int8", True), ("fp32", False)):
        with (
            ExpressionRecognizer(model, provider="cpu", threads=1, precision=precision) as recognizer,
            pickle.loads(pickle.dumps(recognizer)) as twin,
        ):
            for each in (recognizer, twin):
                assert bool(each.artifact.float_sha256) == expected
