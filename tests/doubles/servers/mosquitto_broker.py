"""A real MQTT broker for tests."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from iern.runtime.outputs.broker import Broker

T = TypeVar("T")

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
INSTALL = "needs a broker: apt-get install mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mosquitto(
    folder: Path, port: int, passwords: str = "", certificate: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run mosquitto on a local port. With lines of user:password in `passwords` it accepts only these users.

    With a `certificate`, whose key is beside it as .key, every connection is encrypted.
    """
    assert PROGRAM
    access = "allow_anonymous true\n"
    if passwords:
        file = folder / "passwords"
        file.write_text(passwords, encoding="utf-8")
        subprocess.run(["mosquitto_passwd", "-U", file], check=True)
        file.chmod(0o644)
        access = f"allow_anonymous false\npassword_file {file}\n"
    if certificate:
        access += f"certfile {certificate}\nkeyfile {certificate.with_suffix('.key')}\n"
    config = folder / f"mosquitto.{port}.conf"
    config.write_text(f"listener {port} 127.0.0.1\npersistence false\nuser root\n{access}", encoding="utf-8")
    process = subprocess.Popen([PROGRAM, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def messages_of(client: Any, broker: Broker, topic: str, read: Callable[[Any], T]) -> Iterator[list[T]]:
    """What `read` makes of each message that paho's `client` gets of the topic, those that the broker kept first."""
    got: list[T] = []
    ready = threading.Event()
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: got.append(read(message))
    client.connect(broker.host, broker.port)
    client.loop_start()
    assert ready.wait(30)
    try:
        yield got
    finally:
        client.disconnect()
        client.loop_stop()


def wait_until(condition: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
