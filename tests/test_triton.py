"""The commands of docs/triton.md, with a real Triton server: it gives the answers of the file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from doubles.gpu.made_up_manifest import made_up_manifest
from doubles.servers.mjpeg_server import mjpeg_server
from doubles.servers.mosquitto_broker import free_port
from doubles.servers.page_client import until
from doubles.servers.real_triton import (
    Installation,
    UnavailableError,
    for_python_backend,
    install_triton,
    log_of,
    real_triton,
    running_triton,
)
from doubles.servers.triton_server import served, triton_server
from doubles.tiny_artifact import tiny_model
from iern.export import to_trt
from iern.export.triton_repository.model_config import model_config
from iern.export.triton_repository.repository import publish, served_file
from iern.runtime.backends.kserve import ModelServer
from iern.runtime.backends.onnx import open_session
from iern.runtime.backends.server_address import parse_server_address
from iern.runtime.backends.trt.engine_file import write_engine
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.errors import ServerLostError, SessionError
from iern.runtime.imaging.images import read_image
from repository import PHOTOS, ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "triton.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Installation:
    try:
        return install_triton(tmp_path_factory.mktemp("triton"))
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def place(installation, tmp_path_factory) -> Iterator[str]:
    """The real server with the bundled model, from the page's own command."""
    folder = tmp_path_factory.mktemp("served")
    (command,) = re.findall(r"^    python (export/\S+ runtime/models/.*)  #", PAGE, re.MULTILINE)
    result = subprocess.run(
        [sys.executable, *(str(ROOT / word) if "/" in word else word for word in shlex.split(command))],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for_python_backend(installation, folder / "models")
    with real_triton(installation, folder / "models") as (address, _):
        yield address


def faces(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), np.uint8)


def test_the_real_servers_answers_are_those_of_the_file(place):
    with open_session(f"triton://{place}/iern") as session, open_session(MODEL) as local:
        assert session.artifact == local.artifact
        for count in (1, 3, 20):
            batch = faces(count, session.artifact.input.size)
            answers, expected = session(batch), local(batch)
            for name in ("probabilities", "logits", "stratum_logits"):
                np.testing.assert_allclose(getattr(answers, name), getattr(expected, name), rtol=0, atol=2e-4)


def test_the_real_server_has_the_labels_and_the_configuration_that_were_written(place):
    found = get(f"http://{place}/v2/models/iern/config")
    with open_session(MODEL) as local:
        written = model_config(local.artifact, 1, "python", "model.py", 16)
    assert differences(written, found) == []
    tensor = {"name": "image", "shape": [1, 112, 112, 3], "datatype": "UINT8", "data": [0] * (112 * 112 * 3)}
    wanted = [{"name": name, "parameters": {"classification": 2}} for name in ("probabilities", "stratum_logits")]
    outputs = get(f"http://{place}/v2/models/iern/infer", {"inputs": [tensor], "outputs": wanted})["outputs"]
    for output, names in zip(outputs, (local.artifact.expressions, local.artifact.strata), strict=True):
        for label in output["data"]:
            _, index, name = label.split(":", 2)
            by_stratum = [f"{s}: {e}" for s in local.artifact.strata for e in local.artifact.expressions]
            expected = list(names) if output["name"] == "probabilities" else by_stratum
            assert name == expected[int(index)]


def get(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=30) as reply:
        return json.load(reply)


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """What the server's configuration lacks of the written one. It has more: the defaults."""
    if isinstance(expected, dict):
        return [each for key in expected for each in differences(expected[key], found.get(key), f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [each for a, b in zip(expected, found, strict=True) for each in differences(a, b, where)]
    return [] if expected == found else [f"{where}: {expected!r}, found {found!r}"]


def exchange(place: str, images: np.ndarray) -> tuple[Any, ...]:
    """What a client gets: the tensors, the version, and the words of refusals."""
    server = ModelServer(parse_server_address(f"triton://{place}/iern"), 30)
    with contextlib.closing(server):
        found = server.infer("image", images, ["probabilities", "logits", "stratum_logits"])
        errors = []
        for wrong in (images[:, :8], np.repeat(images, 40, axis=0)):
            with pytest.raises(SessionError) as error:
                server.infer("image", wrong, ["logits"])
            assert not isinstance(error.value, ServerLostError)
            errors.append(str(error.value).replace(place, ""))
        other = ModelServer(parse_server_address(f"triton://{place}/other"), 30)
        with contextlib.closing(other):
            ready = server.is_ready(), other.is_ready()
            for call in (other.config, lambda: other.infer("image", images, ["logits"])):
                with pytest.raises(ServerLostError) as error:
                    call()
                errors.append(str(error.value).replace(place, ""))
        return server.metadata(), {**found.outputs}, found.version, ready, errors


def test_the_double_of_the_server_answers_as_the_real_one(installation, tmp_path):
    exported = tmp_path / "office.onnx"
    exported.write_bytes(tiny_model())
    publish(served_file(exported), tmp_path / "models")
    for_python_backend(installation, tmp_path / "models")
    batch = faces(3, 32)
    with real_triton(installation, tmp_path / "models") as (place, _):
        real = exchange(place, batch)
    with triton_server(served()) as place:
        double = exchange(place, batch)
    assert {**real[0], "platform": ""} == {**double[0], "platform": ""}
    for name, values in double[1].items():
        np.testing.assert_allclose(real[1][name], values, rtol=0, atol=1e-4)
    assert real[2:4] == double[2:4]
    statuses = [re.findall(r"status \d+", error) for error in real[4]]
    assert statuses == [re.findall(r"status \d+", error) for error in double[4]]


def test_several_loops_at_once_get_their_own_answers(place):
    """The server joins their faces into batches."""
    with open_session(MODEL) as local:
        expected = local(faces(8, 112)).logits
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        with open_session(f"triton://{place}/iern") as session:
            for _ in range(3):
                found[number] = session(faces(8, 112)[number : number + 1]).logits[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose([found[number] for number in range(8)], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", ["onnxruntime", "tensorrt"])
def test_the_real_servers_parser_reads_the_configuration_of_the_other_backends(installation, tmp_path, kind):
    """It then lacks the backend's library, which is not in this wheel. A wrong field ends earlier."""
    path = tmp_path / "office.onnx"
    path.write_bytes(tiny_model())
    if kind == "tensorrt":
        write_engine(path.with_suffix(".engine"), b"plan", made_up_manifest(path, any_batch=True))
        path = path.with_suffix(".engine")
    publish(served_file(path), tmp_path / "models")
    config = tmp_path / "models" / "iern" / "config.pbtxt"
    text = config.read_text(encoding="utf-8")
    cases = {"as written": text, "with a wrong field": text.replace("max_batch_size", "max_batch_sise")}
    found = {}
    for name, content in cases.items():
        config.write_text(content, encoding="utf-8")
        with running_triton(installation, tmp_path / "models", free_port()) as process:
            process.wait(60)
            found[name] = log_of(process)
    assert "unable to find backend library for backend" in found["as written"]
    assert "failed to read text proto" not in found["as written"]
    assert "failed to read text proto" in found["with a wrong field"]


def test_the_page_commands_run_against_the_real_server(place, tmp_path):
    words = re.findall(r"python (.*?) --model (triton://\S+)", PAGE)
    assert len(words) == 2
    for command, address in words:
        argv = [sys.executable, *(str(ROOT / word) if "/" in word else word for word in command.split())]
        argv += ["--model", address.replace("localhost:8000", place)]
        if "webcam.py" in command:
            argv += ["--source", DEMO_CLIP, "--headless", "--max-frames", "5", "--jsonl", tmp_path / "out.jsonl"]
        result = subprocess.run(
            [*map(str, argv)], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, check=False
        )
        assert f"triton at {place}" in result.stdout, result.stdout + result.stderr
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(records) == 5 and any(record["faces"] for record in records)


def test_the_page_says_how_the_library_opens_it(place):
    (line,) = re.findall(r"^    recognizer = (.*)$", PAGE, re.MULTILINE)
    program = f"from iern import ExpressionRecognizer\nrecognizer = {line.replace('localhost:8000', place)}"
    names: dict[str, Any] = {}
    exec(program, names)
    with names["recognizer"] as recognizer:
        (face,) = recognizer(PHOTOS / "astronaut.jpg")
    assert face.expression == "happiness"


def test_a_new_version_is_taken_by_a_running_server_and_a_running_session(installation, tmp_path):
    exported, repository, prepared = (tmp_path / name for name in ("office.onnx", "models", "prepared"))
    for seed in (0, 1):
        exported.write_bytes(tiny_model(seed=seed))
        publish(served_file(exported), prepared)
        for_python_backend(installation, prepared)
        if seed == 0:
            shutil.copytree(prepared, repository)
    watching = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with (
        real_triton(installation, repository, None, *watching) as (place, _),
        open_session(f"triton://{place}/iern") as session,
        open_session(tiny_model(seed=1)) as local,
    ):
        before, expected = session(faces(1, 32)).logits, local(faces(1, 32)).logits
        assert not np.allclose(before, expected, atol=1e-3)
        shutil.move(prepared / "iern" / "2", repository / "iern" / "2")
        os.replace(prepared / "iern" / "config.pbtxt", repository / "iern" / "config.pbtxt")

        def changed() -> bool:
            with contextlib.suppress(ServerLostError):
                return bool(np.allclose(session(faces(1, 32)).logits, expected, atol=1e-3))
            return False

        assert until(changed)


def test_the_loop_goes_on_when_its_server_is_back_and_ctrl_c_ends_it_while_it_is_gone(installation, tmp_path):
    models = tmp_path / "models"
    assert to_trt.main([str(MODEL), "--triton", str(models)]) == 0
    for_python_backend(installation, models)
    port, records = free_port(), tmp_path / "out.jsonl"
    command = [
        *(sys.executable, ROOT / "runtime" / "webcam.py", "--model", f"triton://127.0.0.1:{port}/iern"),
        *("--headless", "--jsonl", records),
    ]
    with contextlib.ExitStack() as stack:
        camera = stack.enter_context(mjpeg_server([read_image(PHOTOS / "astronaut.jpg")], then="repeat"))
        command += ["--source", f"http://{camera}/"]
        first = contextlib.ExitStack()
        stack.enter_context(first)
        first.enter_context(real_triton(installation, models, port))
        loop = stack.enter_context(
            subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        )
        stack.callback(loop.kill)
        assert until(lambda: records.exists() and len(records.read_bytes().splitlines()) >= 3)
        first.close()
        time.sleep(2)
        assert loop.poll() is None, "the loop survives seconds without its server"
        seen = len(records.read_bytes().splitlines())
        with real_triton(installation, models, port):
            assert until(lambda: len(records.read_bytes().splitlines()) > seen)
        time.sleep(1)
        loop.send_signal(signal.SIGINT)
        output, _ = loop.communicate(timeout=30)
    assert loop.returncode == 0, output
    assert "is not reached" in output and "answers again" in output
    assert re.search(r"note: \d+ frames? failed and got no result", output), output
