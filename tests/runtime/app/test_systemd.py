"""The service: its reports to systemd, over real sockets, and its unit, checked by systemd itself."""

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
from pathlib import Path

import numpy as np
import pytest

from doubles.servers.mjpeg_server import mjpeg_server
from doubles.tiny_artifact import tiny_model
from iern.runtime.app.command_line import parse
from iern.runtime.app.frame_analyzer import STUCK_AFTER
from iern.runtime.app.systemd import READY, heartbeat, notify
from iern.runtime.webcam import main
from repository import ROOT

UNITS = [ROOT / "docs" / "iern.service", ROOT / "docs" / "iern@.service"]
INSTANCE = "iern@front.service"
"""The name of an instance of the template."""

units = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")


@pytest.fixture(params=["in a folder", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """A socket that receives reports, as systemd's does."""
    name = str(tmp_path / "notify") if request.param == "in a folder" else f"@iern-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield listener


def received(listener: socket.socket) -> list[str]:
    """The reports since the last call."""
    reports = []
    while True:
        try:
            reports.append(listener.recv(4096).decode())
        except BlockingIOError:
            return reports


def test_the_service_reports_that_it_is_ready(systemd):
    notify(READY)
    assert received(systemd) == ["READY=1"]


def test_the_watchdog_gets_a_report_every_third_of_its_timeout_and_not_every_frame(systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "900000")
    beat = heartbeat()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        beat()
        time.sleep(0.005)
    assert 2 <= len(received(systemd)) <= 4


@pytest.mark.parametrize("variables", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_without_a_watchdog_for_this_process_nothing_is_sent(systemd, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    heartbeat()()
    assert received(systemd) == []


@pytest.mark.parametrize("name", [None, "", "/nowhere/notify", "@nobody-listens"])
def test_a_service_runs_without_a_listener(monkeypatch, name):
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if name is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify(READY)
    heartbeat()()


def test_a_listener_that_does_not_read_does_not_block_the_service(systemd):
    began = time.monotonic()
    for _ in range(2000):  # more than its queue holds
        notify(READY)
    assert time.monotonic() - began < 10


def test_the_loop_reports_its_start_its_life_and_its_end(systemd, monkeypatch, tmp_path):
    """It also reports while its camera is lost: after five frames nothing comes for more than two seconds."""
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny_model())
    images = [np.full((48, 64, 3), level, np.uint8) for level in range(90, 95)]
    reports: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.05):
            reports.extend(received(systemd))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        with mjpeg_server(images, then="hang") as address:
            arguments = ["--headless", "--source", f"http://{address}/cam", "--model", str(model)]
            assert main([*arguments, "--give-up", "2"]) == 1
    finally:
        over.set()
        listener.join()
    reports += received(systemd)
    assert (reports[0], reports[-1]) == ("READY=1", "STOPPING=1")
    assert reports[1:-1].count("WATCHDOG=1") == len(reports) - 2 > 5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")
@units
def test_systemd_finds_no_fault_in_the_unit(tmp_path, unit):
    """Only the path of Python is changed to this one."""
    name = INSTANCE if "@" in unit.name else unit.name
    text = unit.read_text(encoding="utf-8").replace("/opt/iern/.venv/bin/python", sys.executable)
    (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / name]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (result.returncode, result.stderr) == (0, "")


@units
def test_the_unit_starts_at_boot_restarts_after_any_end_and_its_watchdog_waits_longer_than_the_loop(unit):
    set_to = dict(line.split("=", 1) for line in settings(unit))
    starts = set_to["WantedBy"], set_to["Restart"], set_to["StartLimitIntervalSec"]
    assert starts == ("multi-user.target", "always", "0")
    assert set_to["Type"] == "notify", "only such services have a watchdog"
    assert int(set_to["WatchdogSec"]) > STUCK_AFTER, "the loop notices first that a model does not return"


def settings(unit: Path) -> list[str]:
    """The lines of a unit that set something."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "=" in line and not line.startswith("#")]


def test_the_template_is_hardened_as_the_unit_and_an_instance_shares_no_folder_with_another_one():
    """All differences are the names of files and folders, and the options, which an instance must have."""
    unit, template = map(settings, UNITS)
    assert set(unit) - set(template) == {
        "Description=IERN: facial expressions, live",
        'Environment=IERN_OPTIONS="--serve 8080"',
        "EnvironmentFile=-/etc/iern.conf",
        "StateDirectory=iern",
        "CacheDirectory=iern",
        "WorkingDirectory=%S/iern",
        "Environment=XDG_CACHE_HOME=%C/iern HOME=%S/iern",
    }
    others = set(template) - set(unit)
    assert all("%i" in line for line in others)
    assert {line.split("=")[0] for line in others} >= {"StateDirectory", "CacheDirectory", "EnvironmentFile"}


@units
def test_the_command_of_the_unit_has_valid_arguments(monkeypatch, unit):
    monkeypatch.delenv("IERN_TOKEN", raising=False)
    text = unit.read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    default_options = re.findall(r'^Environment=IERN_OPTIONS="(.*)"$', text, re.MULTILINE)
    program, *argv = shlex.split(command.replace("$IERN_OPTIONS", "".join(default_options)))
    assert program.startswith("/")
    assert argv[:2] == ["-m", "iern.runtime.webcam"]
    assert parse(argv[2:]).headless
