"""A served model gives the answers of its file, and a server that is lost, wrong or changed is one clear line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pickle
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from doubles.servers.mjpeg_server import mjpeg_server
from doubles.servers.mosquitto_broker import free_port
from doubles.servers.triton_server import served, triton_server
from doubles.tiny_artifact import tiny_artifact, tiny_model
from iern.runtime.app.command_line import parse
from iern.runtime.backends import triton
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.server_address import ServerAddress, is_served, parse_server_address
from iern.runtime.backends.triton import TritonSession
from iern.runtime.errors import ArtifactError, IernError, ServerLostError, SessionError
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.session import Predictions
from iern.train.evaluation.evaluated_model import open_model

SIZE = 32


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    for name, seconds in (("FIRST_PAUSE", 0.01), ("LONGEST_PAUSE", 0.02), ("LONGEST_WAIT", 0.05)):
        monkeypatch.setattr(triton, name, seconds)


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def of_file(images: np.ndarray, **model) -> Predictions:
    with open_session(tiny_model(**model)) as session:
        return session(images)


def assert_alike(a: Predictions, b: Predictions) -> None:
    for each in dataclasses.fields(Predictions):
        np.testing.assert_allclose(getattr(a, each.name), getattr(b, each.name), rtol=0, atol=1e-5)


def call_until_answered(session: TritonSession) -> Predictions:
    """As a loop does: a call that fails because the server is lost is followed by the next."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(ServerLostError):
            return session(faces(1))
    pytest.fail("the server is not found again")


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_a_served_model_gives_the_answers_of_its_file_for_any_number_of_faces(count):
    model = served(max_batch=16)
    with triton_server(model) as place, open_session(f"triton://{place}/iern") as session:
        assert session.artifact == tiny_artifact()
        assert_alike(session(faces(count)), of_file(faces(count)))
    assert model.batches == [16] * (count // 16) + [count % 16] * bool(count % 16)


def test_the_server_decides_how_many_faces_a_call_has_if_it_takes_fewer():
    model = served(max_batch=3)
    with triton_server(model) as place, open_session(f"triton://{place}/iern") as session:
        assert_alike(session(faces(7)), of_file(faces(7)))
    assert model.batches == [3, 3, 1]


def test_faces_that_are_a_view_into_other_memory_get_the_same_answers():
    with triton_server(served()) as place, open_session(f"triton://{place}/iern") as session:
        assert_alike(session(faces(6)[::2, :, ::-1]), of_file(faces(6)[::2, :, ::-1]))


def test_one_connection_serves_all_calls():
    model = served()
    with triton_server(model) as place, open_session(f"triton://{place}/iern") as session:
        for _ in range(5):
            session(faces(1))
    assert model.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_costs_no_call():
    model = served()
    with triton_server(model) as place, open_session(f"triton://{place}/iern") as session:
        model.close_after_answer = True
        for _ in range(3):
            session(faces(1))
    assert model.connections > 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("triton://localhost:8000/iern", ("localhost", 8000, "iern")),
        ("triton://localhost", ("localhost", 8000, "iern")),
        ("triton://gpu.lan:9000", ("gpu.lan", 9000, "iern")),
        ("triton://10.0.0.2:1/other/", ("10.0.0.2", 1, "other")),
        ("triton://[::1]:8001/iern", ("::1", 8001, "iern")),
        (Path("triton://localhost:8000/iern"), ("localhost", 8000, "iern")),
    ],
)
def test_addresses_are_read_as_text_and_as_paths(text, expected):
    assert is_served(text)
    address = parse_server_address(text)
    assert address == ServerAddress(*expected)
    assert parse_server_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["triton://", "triton://host:port/iern", "triton://host:0/iern", "triton://h/a/b", "triton://u:p@h/iern"]
)
def test_a_malformed_address_is_refused_with_one_that_is_not(text):
    with pytest.raises(SessionError, match="expected triton:// followed by HOST:PORT/MODEL, such as localhost"):
        open_session(text)


@pytest.mark.parametrize("model", ["model.onnx", "/triton/model.onnx", b"triton://localhost/iern"])
def test_files_and_their_content_are_no_addresses(model):
    assert not is_served(model)


@pytest.mark.parametrize("options", [{"provider": "cpu"}, {"precision": "int8"}])
def test_provider_and_precision_are_the_servers_own(options):
    with pytest.raises(SessionError, match=r"^triton://localhost:1/iern: runs on its server, which decides how; leave"):
        open_session(Path("triton://localhost:1/iern"), **options)


def test_a_command_refuses_a_malformed_address_in_its_usage_line_and_shows_no_password(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--model", "triton://user:secret@host/iern"])
    error = capsys.readouterr().err
    assert "argument --model: expected triton:// followed by HOST:PORT/MODEL, such as localhost:8000/iern" in error
    assert "secret" not in error


def test_a_prior_changes_the_answers_of_a_served_model_as_those_of_its_file():
    artifact = dataclasses.replace(tiny_artifact(), prior=(0.5, 0.3, 0.2))
    with (
        triton_server(served(artifact)) as place,
        open_session(f"triton://{place}/iern", prior="uniform") as session,
        open_session(tiny_model(artifact), prior="uniform") as expected,
    ):
        assert session.artifact.prior == expected.artifact.prior
        assert_alike(session(faces(4)), expected(faces(4)))


def test_the_library_takes_the_address_and_a_pickled_recognizer_opens_it_again():
    crop = faces(1)[0]
    with triton_server(served()) as place, ExpressionRecognizer(f"triton://{place}/iern") as recognizer:
        again = pickle.loads(pickle.dumps(recognizer))
        with again, ExpressionRecognizer(tiny_model()) as local:
            answers = [each.classify(crop).probabilities for each in (recognizer, again, local)]
    assert answers[0] == answers[1] == pytest.approx(answers[2], abs=1e-5)


def test_the_evaluation_opens_a_served_model():
    with triton_server(served()) as place:
        model = open_model(Path(f"triton://{place}/iern"))
        assert model.expressions == tiny_artifact().expressions
        assert_alike(model.predict(faces(20)), of_file(faces(20)))


def refused(address: str, kind: type[IernError] = SessionError) -> str:
    with pytest.raises(kind) as error:
        TritonSession(address, timeout=0.3)
    assert str(error.value).startswith(address)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_server_that_does_not_run_is_refused_in_one_line():
    address = f"triton://127.0.0.1:{free_port()}/iern"
    assert "is not reached ([Errno 111] Connection refused); check that it runs" in refused(address)


def test_a_server_that_never_answers_is_refused_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"triton://127.0.0.1:{silent.getsockname()[1]}/iern"
        assert "is not reached (no answer within 0.3 s)" in refused(address)


def test_another_model_is_refused_with_the_words_of_the_server():
    with triton_server(served()) as place:
        message = refused(f"triton://{place}/other")
    assert "has no such model ready (status 404: Request for unknown model: 'other' is not found)" in message


def test_a_program_that_is_no_triton_server_is_refused_even_if_its_answer_never_ends():
    with mjpeg_server([np.zeros((8, 8, 3), np.uint8)], then="repeat") as place:
        assert "expected Triton's port for HTTP" in refused(f"triton://{place}/iern")


def test_a_program_that_does_not_speak_http_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        client = socket.create_connection(server.getsockname())
        client.close()
        address = f"triton://127.0.0.1:{server.getsockname()[1]}/iern"

        def greet() -> None:
            for _ in range(2):
                connection, _peer = server.accept()
                with contextlib.suppress(OSError):
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(1000)
                connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        assert "does not answer as Triton does: the answer begins with SSH-2.0" in refused(address)
        thread.join()


def test_a_model_without_our_description_is_refused_with_the_command_that_writes_it():
    model = served()
    model.config["parameters"] = {}
    with triton_server(model) as place:
        assert "labels and preprocessing are unknown" in refused(f"triton://{place}/iern", ArtifactError)


def test_a_model_of_another_shape_than_described_is_refused_with_both():
    model = served()
    model.config["input"][0]["dims"] = [64, 64, 3]
    with triton_server(model) as place:
        message = refused(f"triton://{place}/iern", ArtifactError)
    assert "image (batch, 64, 64, 3) UINT8" in message
    assert "promises image (batch, 32, 32, 3) UINT8" in message


@pytest.mark.parametrize("key", ["iern.expressions", "iern.temperature", "iern.versions"])
def test_a_description_that_lacks_a_part_is_refused(key):
    model = served()
    del model.config["parameters"][key]
    with triton_server(model) as place:
        assert f"lacks {key.removeprefix('iern.')}" in refused(f"triton://{place}/iern", ArtifactError)


def test_while_the_server_is_gone_each_call_fails_and_the_first_after_its_return_succeeds(caplog):
    caplog.set_level(logging.WARNING)
    model = served()
    with contextlib.ExitStack() as first:
        place = first.enter_context(triton_server(model))
        session = TritonSession(f"triton://{place}/iern")
        session(faces(1))
        first.close()
        for _ in range(5):
            with pytest.raises(ServerLostError, match=f"triton://{place}/iern: the server is not reached"):
                session(faces(1))
    with triton_server(model, int(place.rpartition(":")[2])), session:
        assert_alike(call_until_answered(session), of_file(faces(1)))
    assert [record.getMessage().partition(": ")[2].partition(",")[0] for record in caplog.records][1:] == [
        "answers again"
    ]


def test_a_call_to_a_lost_server_waits_a_little_and_not_for_the_whole_pause(monkeypatch):
    """A loop would otherwise fail thousands of frames a second, or not see Ctrl-C for the time of the pause."""
    slept: list[float] = []
    with contextlib.ExitStack() as running:
        place = running.enter_context(triton_server(served()))
        session = TritonSession(f"triton://{place}/iern")
        running.close()
        with pytest.raises(ServerLostError):
            session(faces(1))
    monkeypatch.setattr(triton.time, "sleep", slept.append)
    monkeypatch.setattr(triton, "LONGEST_WAIT", 1.0)
    session._next_attempt = time.monotonic() + 100
    with session, pytest.raises(ServerLostError, match="is not reached"):
        session(faces(1))
    assert slept == [1.0]


def test_a_call_that_takes_too_long_fails_and_the_next_one_gets_its_own_answer():
    model = served()
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern", timeout=0.3) as session:
        model.hang = 1.0
        with pytest.raises(ServerLostError, match=r"no answer within 0.3 s"):
            session(faces(3))
        model.hang = 0.0
        assert_alike(call_until_answered(session), of_file(faces(1)))


def test_a_model_that_the_server_unloads_is_lost_and_comes_back_with_it():
    model = served()
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern") as session:
        model.loaded = False
        for _ in range(2):
            with pytest.raises(ServerLostError, match="unknown model"):
                session(faces(1))
        model.loaded = True
        assert_alike(call_until_answered(session), of_file(faces(1)))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature": 2.0}, "temperature"),
        ({"expressions": ("neutral", "sad", "happy")}, "expressions"),
        ({"threshold": 0.5}, "threshold"),
        ({"prior": (0.5, 0.3, 0.2)}, "prior"),
    ],
)
def test_another_description_after_a_restart_ends_the_session_with_what_differs(change, named):
    """The loop has shown and written answers in the meaning of the first one."""
    with contextlib.ExitStack() as first:
        place = first.enter_context(triton_server(served()))
        session = TritonSession(f"triton://{place}/iern")
        first.close()
        with pytest.raises(ServerLostError):
            session(faces(1))
    other = served(dataclasses.replace(tiny_artifact(), **change), version=2)
    with triton_server(other, int(place.rpartition(":")[2])), session, pytest.raises(SessionError) as error:
        call_until_answered(session)
    assert not isinstance(error.value, ServerLostError)
    expected = f"now has another model, version 2 in place of 1 (it differs in {named}); start again to use it"
    assert expected in str(error.value)


def test_new_weights_of_the_same_description_are_taken_without_a_break(caplog):
    caplog.set_level(logging.WARNING)
    model, other = served(), served(seed=1, version=2)
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern") as session:
        session(faces(1))
        model.session, model.config, model.version = other.session, other.config, other.version
        assert_alike(session(faces(3)), of_file(faces(3), seed=1))
    assert "now runs version 2 in place of 1" in caplog.text


def test_a_version_that_the_configuration_does_not_describe_is_refused():
    model = served()
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern") as session:
        model.version = "2"
        with pytest.raises(SessionError, match="runs version 2, and its configuration describes version 1"):
            session(faces(1))


def described(*outputs: tuple[str, list[int], int], datatype: str = "FP32") -> bytes:
    listed = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, shape, size in outputs
    ]
    return json.dumps({"model_version": "1", "outputs": listed}).encode() + b"\n"


WHOLE = (("probabilities", [1, 3], 12), ("logits", [1, 3], 12), ("stratum_logits", [1, 2, 3], 24))


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (described(*WHOLE) + bytes(40), "24 bytes for the output stratum_logits"),
        (described(*WHOLE[:2], ("stratum_logits", [1, 2, 3], 20)) + bytes(48), "20 bytes for the output"),
        (described(*WHOLE[:2]) + bytes(24), "lacks stratum_logits"),
        (described(*WHOLE[:2], ("stratum_logits", [1, 3, 2], 24)) + bytes(48), r"is \(1, 3, 2\), expected \(1, 2, 3\)"),
        (described(*WHOLE, datatype="FP64") + bytes(96), "outputs are described as"),
        (b'{"outputs": [{}]}\n', "outputs are described as"),
        (b"<html>", "does not answer as Triton does: the answer begins with b'<html>'"),
        (b"[]\n", "does not answer as Triton does"),
        (b"", "does not answer as Triton does"),
    ],
)
def test_an_answer_that_is_cut_off_or_of_another_form_fails_the_call_and_not_the_next(reply, found):
    model = served()
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern") as session:
        model.replies.append(reply)
        with pytest.raises(SessionError, match=found):
            session(faces(1))
        assert_alike(session(faces(1)), of_file(faces(1)))


def test_a_refusal_of_the_server_is_quoted_and_costs_that_call_alone():
    model = served(max_batch=16)
    with triton_server(model) as place, TritonSession(f"triton://{place}/iern") as session:
        model.config["max_batch_size"] = 1  # behind the session's back
        with pytest.raises(SessionError, match=r"refuses 2 faces \(status 400: .*batch-size must be <= 1 for 'iern'"):
            session(faces(2))
        assert_alike(session(faces(1)), of_file(faces(1)))
