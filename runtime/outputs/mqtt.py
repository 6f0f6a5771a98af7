"""The records to an MQTT broker, through paho-mqtt: the loop neither waits for the broker nor needs it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from iern.runtime.errors import OutputError
from iern.runtime.outputs.broker import Broker
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.records import dated_records, json_line

QUEUED = 1000
"""Records that wait while the broker is away; with more to come, the new ones are dropped and counted."""
LONGEST_PAUSE = 10
"""Seconds between two trials to reach a broker that is away, at most; the first is 1."""
GOODBYE = 3.0
"""Seconds that the end waits for a broker to take what is left."""


@contextlib.contextmanager
def mqtt_records(broker: Broker) -> Iterator[Sink]:
    """A sink that publishes one record a frame, at least once (QoS 1). A broker that is away or lost is waited for.

    Raises OutputError where paho-mqtt is not installed.
    """
    paho = _paho()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    connection = _Connection(broker)
    client.on_connect, client.on_disconnect = connection.up, connection.down
    client.on_connect_fail, client.on_publish = connection.failed, connection.delivered
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    client.max_queued_messages_set(QUEUED)
    client.reconnect_delay_set(1, LONGEST_PAUSE)
    client.connect_async(broker.host, broker.port)
    client.loop_start()
    make = dated_records()
    taken = refused = 0

    def publish(view: FrameResult) -> None:
        nonlocal taken, refused
        answer = client.publish(broker.topic, json_line(make(view)), qos=1)
        if answer.rc == paho.MQTT_ERR_QUEUE_SIZE:
            if not refused:
                print(f"note: {broker}: {QUEUED} records wait; what comes on top is dropped", flush=True)
            refused += 1
        else:
            taken += 1

    try:
        yield publish
    finally:
        deadline = time.monotonic() + GOODBYE
        while connection.is_up and connection.count < taken and time.monotonic() < deadline:
            time.sleep(0.02)
        client.disconnect()
        client.loop_stop()
        lost = refused + taken - connection.count
        if lost:
            print(f"warning: {broker}: {lost} records did not reach the broker", file=sys.stderr, flush=True)


class _Connection:
    """What paho's thread tells: each change is said once."""

    def __init__(self, broker: Broker) -> None:
        self.count = 0
        """Records that the broker has confirmed."""
        self.is_up = False
        self._broker = broker
        self._said = ""

    def up(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_up = not reason.is_failure
        self._say(f"refused: {reason}; check user and password" if reason.is_failure else "connected")

    def down(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self.is_up and reason.is_failure:
            self._say("connection lost; it is tried again, and records wait")
        self.is_up = False

    def failed(self, _client: Any, _data: Any) -> None:
        self._say("cannot be reached; it is tried again, and records wait")

    def delivered(self, _client: Any, _data: Any, _number: int, _reason: Any, _properties: Any) -> None:
        self.count += 1

    def _say(self, what: str) -> None:
        if what != self._said:
            print(f"note: {self._broker}: {what}", flush=True)
        self._said = what


def _paho() -> ModuleType:
    try:
        return importlib.import_module("paho.mqtt.client")
    except ImportError as error:
        raise OutputError("--mqtt needs paho-mqtt, which is not installed; pip install 'iern[mqtt]'") from error
