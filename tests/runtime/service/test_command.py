"""The command: it serves what docs/api.md shows, answers what has come when it stops, and reports what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest

from doubles.servers.page_client import fetch, until
from doubles.servers.service import metric
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.service import __main__ as command
from iern.runtime.service.limits import Limits
from repository import PHOTOS, ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PHOTO = PHOTOS / "obama_portrait.jpg"
COMMAND = [sys.executable, "-m", "iern.runtime.service", "--detect-size", "640", "--precision", "fp32", "--port"]


@contextlib.contextmanager
def running_command(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The command in its own process on a free port, and the address that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *(arguments or ("0",))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    try:
        assert process.stdout
        printed = ""
        while (found := re.search(r"http://\S+", printed)) is None:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address():
    with running_command() as (_, url):
        yield url


@pytest.fixture(scope="module")
def expected():
    with ExpressionRecognizer(precision="fp32") as recognizer:
        (face,) = recognizer(cv2.imread(str(PHOTO)))
    return f"{face.expression} {face.probability:.3f}"


def test_the_client_of_the_docs_prints_what_the_library_finds(address, expected, tmp_path):
    (client,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in client.splitlines() if line.strip()]) <= 25
    (tmp_path / "client.py").write_text(client, encoding="utf-8")
    (tmp_path / "text.jpg").write_text("not a picture", encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "client.py", str(PHOTO), "text.jpg"],
        cwd=tmp_path,
        env={**os.environ, "IERN_SERVICE": address.rstrip("/"), "IERN_TOKEN": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{PHOTO}: {expected} at [")
    assert second.startswith("text.jpg: 415: image: found no picture")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_of_the_docs_and_of_the_help_work(address, expected, tmp_path):
    lines = re.findall(r"^ +(curl .+)$", PAGE + command.EXAMPLES, re.MULTILINE)
    assert len(lines) >= 5
    shutil.copy(PHOTO, tmp_path / "photo.jpg")
    for line in lines:
        words = [re.sub(r"http://[\w.]+:8080/", address, word) for word in shlex.split(line)]
        result = subprocess.run([*words, "-s", "-S"], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        assert result.returncode == 0, result.stderr
        (face,) = json.loads(result.stdout)["faces"]
        assert f"{face['expression']} {face['probability']:.3f}" == expected


def test_the_limits_that_the_docs_name_are_the_usual_ones():
    usual = Limits()
    for option, value in (("megabytes", usual.megabytes), ("megapixels", usual.megapixels), ("waiting", usual.waiting)):
        assert re.search(rf"`--{option}`(?:, | \(){value:g}\)", PAGE), option


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_the_requests_that_have_come_are_answered_and_the_status_is_0(number):
    photograph = PHOTO.read_bytes()
    with running_command() as (process, url), ThreadPoolExecutor(6) as clients:
        replies = [clients.submit(fetch, f"{url}v1/faces", "POST", data=photograph) for _ in range(6)]
        assert until(lambda: metric(url, "iern_waiting_requests") >= 1)
        process.send_signal(number)
        statuses = [reply.exception() or reply.result().status for reply in replies]
        assert process.wait(60) == 0
        assert process.stdout.read() == "the service stops; requests that have come are still answered\n"
    answered = [status for status in statuses if status == 200]
    refused = [status for status in statuses if isinstance(status, OSError)]  # they came after the stop
    assert answered
    assert len(answered) + len(refused) == 6, statuses


def test_a_service_that_others_can_reach_prints_a_token_and_needs_it():
    with running_command("0.0.0.0:0", IERN_TOKEN="") as (_, url):
        port, token = re.search(r":(\d+)/\?token=(\S{20,})", url).groups()
        here = f"http://127.0.0.1:{port}/v1/faces"
        assert fetch(here, "POST", data=b"x").status == 401
        assert fetch(here, "POST", data=b"x", headers={"Authorization": f"Bearer {token}"}).status == 415


def test_a_port_in_use_is_one_line_and_status_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run([*COMMAND, str(port)], capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert result.returncode == 1
    assert re.fullmatch(rf"error: cannot listen on port {port} of 127.0.0.1 \(.*\); .*--port\n", result.stderr)


@pytest.mark.parametrize("library", ["aiohttp", "prometheus_client"])
def test_a_missing_library_is_reported_with_the_command_that_installs_it(library, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, library, None)
    assert command.main(["--port", "0"]) == 1
    assert re.fullmatch(rf"error: the service: {library} .*iern\[serve\].*\n", capsys.readouterr().err)


@pytest.mark.parametrize("argv", [["--port", "x"], ["--waiting", "0"], ["--rate", "-1"], ["--token", "short"]])
def test_wrong_usage_is_refused(argv):
    with pytest.raises(SystemExit) as end:
        command.main(argv)
    assert end.value.code == 2
