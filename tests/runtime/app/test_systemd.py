"""The service: what systemd is told, over real sockets, and the unit that systemd itself reads."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from doubles.servers.mjpeg_server import mjpeg_server
from doubles.tiny_artifact import tiny_model
from iern.runtime.app import command_line as options
from iern.runtime.app.frame_analyzer import STUCK
from iern.runtime.app.systemd import READY, heartbeat, notify
from iern.runtime.webcam import main
from repository import ROOT

UNIT = ROOT / "docs" / "iern.service"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.fixture(params=["in a folder", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """A socket that listens as systemd's does."""
    name = str(tmp_path / "notify") if request.param == "in a folder" else f"@iern-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    """All that has been told until now."""
    told = []
    while True:
        try:
            told.append(listener.recv(4096).decode())
        except BlockingIOError:
            return told


def test_systemd_is_told_that_the_service_is_ready(systemd):
    notify(READY)
    assert heard(systemd) == ["READY=1"]


def test_the_watchdog_hears_of_each_third_of_its_patience_and_not_of_each_frame(systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    beat = heartbeat()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        beat()
        time.sleep(0.005)
    assert 2 <= len(heard(systemd)) <= 4


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_watchdog_for_this_process_nothing_is_told(systemd, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    heartbeat()()
    assert heard(systemd) == []


@pytest.mark.parametrize("name", [None, "", "/nowhere/notify", "@nobody-listens"])
def test_a_service_does_not_fail_for_want_of_somebody_who_listens(monkeypatch, name):
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify(READY)
    heartbeat()()


def test_a_listener_that_does_not_read_holds_up_nobody(systemd):
    began = time.monotonic()
    for _ in range(2000):  # more than its queue holds
        notify(READY)
    assert time.monotonic() - began < 10


def test_the_loop_tells_systemd_when_it_begins_lives_and_ends(systemd, monkeypatch, tmp_path):
    """While its camera is away, too: five frames, and then nothing for two seconds and more."""
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny_model())
    images = [np.full((48, 64, 3), level, np.uint8) for level in range(90, 95)]
    told: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.05):
            told.extend(heard(systemd))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        with mjpeg_server(images, then="hang") as address:
            arguments = ["--headless", "--source", f"http://{address}/cam", "--model", str(model)]
            assert main([*arguments, "--give-up", "2"]) == 1
    finally:
        over.set()
        listener.join()
    told += heard(systemd)
    assert (told[0], told[-1]) == ("READY=1", "STOPPING=1")
    assert told[1:-1].count("WATCHDOG=1") == len(told) - 2 > 5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    """The program is at another place here; everything else is as shipped."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/iern/.venv/bin/python", sys.executable)
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / UNIT.name]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_unit_starts_at_boot_starts_anew_whatever_happened_and_has_a_watchdog_that_the_loop_outpaces():
    text = UNIT.read_text(encoding="utf-8")
    unit = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert (unit["WantedBy"], unit["Restart"], unit["StartLimitIntervalSec"]) == ("multi-user.target", "always", "0")
    assert unit["Type"] == "notify", "systemd hears the watchdog of such services alone"
    assert int(unit["WatchdogSec"]) > STUCK, "a model that does not come back is noticed by the loop first"


def test_the_units_command_is_one_that_the_loop_takes(monkeypatch):
    monkeypatch.delenv("IERN_TOKEN", raising=False)
    text = UNIT.read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    (given,) = re.findall(r'^Environment=IERN_OPTIONS="(.*)"$', text, re.MULTILINE)
    program, *argv = shlex.split(command.replace("$IERN_OPTIONS", given))
    assert program.startswith("/")
    assert argv[:2] == ["-m", "iern.runtime.webcam"]
    assert options.parse(argv[2:]).headless
