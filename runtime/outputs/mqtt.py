"""Publishes the records to an MQTT broker with paho-mqtt. The loop neither waits for the broker nor needs it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from iern.runtime.errors import OutputError
from iern.runtime.outputs.broker import Broker
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.records import json_line, timed_records
from iern.runtime.system.remedies import install

MOST_WAITING = 1000
"""Records that wait while the broker is away. New ones beyond that are dropped and counted."""
LONGEST_RETRY = 10
"""The longest pause in seconds between two attempts to reach the broker. The first pause is 1 s."""
CLOSING_TIMEOUT = 3.0
"""Seconds for which closing waits until the broker has confirmed the last records."""


@contextlib.contextmanager
def mqtt_records(broker: Broker) -> Iterator[Sink]:
    """A sink that publishes one record a frame, at least once (QoS 1). Records wait while the broker is away.

    Raises OutputError if paho-mqtt is not installed.
    """
    paho = require_mqtt()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    connection = _Connection(broker)
    client.on_connect, client.on_disconnect = connection.on_connect, connection.on_disconnect
    client.on_connect_fail, client.on_publish = connection.on_connect_fail, connection.on_publish
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    client.reconnect_delay_set(1, LONGEST_RETRY)
    make_record = timed_records()
    # Of the records that paho gets while it connects for the first time, it sends later ones before earlier ones.
    waiting: deque[bytes] = deque()
    sending = threading.Lock()
    accepted = dropped = 0

    def send() -> None:
        with sending:
            while waiting and connection.was_up:
                client.publish(broker.topic, waiting.popleft(), qos=1)

    connection.on_first = send
    client.connect_async(broker.host, broker.port)
    client.loop_start()

    def publish(result: FrameResult) -> None:
        nonlocal accepted, dropped
        if accepted - connection.confirmed >= MOST_WAITING:
            if not dropped:
                print(f"note: {broker}: {MOST_WAITING} records wait; further records are dropped", flush=True)
            dropped += 1
        else:
            waiting.append(json_line(make_record(result)))
            accepted += 1
        send()

    try:
        yield publish
    finally:
        deadline = time.monotonic() + CLOSING_TIMEOUT
        while connection.is_up is not False and connection.confirmed < accepted and time.monotonic() < deadline:
            time.sleep(0.02)
        client.disconnect()
        client.loop_stop()
        lost = dropped + accepted - connection.confirmed
        if lost:
            print(f"warning: {broker}: {lost} records did not reach the broker", file=sys.stderr, flush=True)


class _Connection:
    """Callbacks of paho's thread: they print each change of the connection once, and count confirmed records."""

    def __init__(self, broker: Broker) -> None:
        self.confirmed = 0
        """Records that the broker has confirmed."""
        self.is_up: bool | None = None
        """None before the first attempt to connect has ended."""
        self.was_up = False
        """Whether the broker has accepted a connection."""
        self.on_first: Callable[[], None] = lambda: None
        """Called when it accepts the first one."""
        self._broker = broker
        self._last_note = ""

    def on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_up = not reason.is_failure
        self._print(f"refused: {reason}; check user and password" if reason.is_failure else "connected")
        if self.is_up and not self.was_up:
            self.was_up = True
            self.on_first()

    def on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self.is_up and reason.is_failure:
            self._print("connection lost; records wait while the loop tries to reconnect")
        self.is_up = False

    def on_connect_fail(self, _client: Any, _data: Any) -> None:
        self.is_up = False
        self._print("cannot be reached; records wait while the loop tries again")

    def on_publish(self, _client: Any, _data: Any, _number: int, _reason: Any, _properties: Any) -> None:
        self.confirmed += 1

    def _print(self, note: str) -> None:
        if note != self._last_note:
            print(f"note: {self._broker}: {note}", flush=True)
        self._last_note = note


def require_mqtt() -> ModuleType:
    """paho's client. Raises OutputError with the remedy if it is not installed."""
    try:
        return importlib.import_module("paho.mqtt.client")
    except ImportError as error:
        raise OutputError(f"--mqtt needs paho-mqtt, which is not installed; {install('mqtt')}") from error
