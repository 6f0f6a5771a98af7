"""Publishes the records to an MQTT broker with paho-mqtt. The loop neither waits for the broker nor needs it."""

from __future__ import annotations

import contextlib
import importlib
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from iern.runtime.errors import OutputError, one_line
from iern.runtime.outputs.broker import Broker, Publishing
from iern.runtime.outputs.frame_result import FrameResult, Sink
from iern.runtime.outputs.home_assistant import discovery, summary
from iern.runtime.outputs.records import json_line, timed_records
from iern.runtime.outputs.selection import Selection
from iern.runtime.system.remedies import install

MOST_WAITING = 1000
"""Records that wait while the broker is away. New ones beyond that are dropped and counted."""
LONGEST_RETRY = 10
"""The longest pause in seconds between two attempts to reach the broker. The first pause is 1 s."""
CLOSING_TIMEOUT = 3.0
"""Seconds for which closing waits until the broker has confirmed the last records."""

EVERY_RECORD = Publishing()
ONLINE, OFFLINE = "online", "offline"
"""What the availability topic holds. Home Assistant expects these words."""


@contextlib.contextmanager
def mqtt_records(broker: Broker, publishing: Publishing = EVERY_RECORD) -> Iterator[Sink]:
    """A sink that publishes one record a frame, at least once (QoS 1). Records wait while the broker is away.

    The broker keeps `online` at the broker's availability topic, and `offline` after the end, also that of a kill.
    Raises OutputError if paho-mqtt is not installed, or if the certificates in `publishing.ca` cannot be read.
    """
    paho = require_mqtt()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    connection = _Connection(broker)
    client.on_connect, client.on_disconnect = connection.on_connect, connection.on_disconnect
    client.on_connect_fail, client.on_publish = connection.on_connect_fail, connection.on_publish
    client.will_set(broker.availability_topic, OFFLINE, qos=1, retain=True)
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls:
        _use_tls(client, publishing.ca)
    client.reconnect_delay_set(1, LONGEST_RETRY)
    records = _Records(client, broker.topic, connection)
    state = _KeptState(client, broker, publishing.discovery)

    def on_up() -> None:
        state.publish()
        records.send()

    connection.on_up = on_up
    client.connect_async(broker.host, broker.port)
    client.loop_start()
    make_record, selected = timed_records(), Selection(publishing.rate, publishing.on_change)
    dropped = 0

    def publish(result: FrameResult) -> None:
        nonlocal dropped
        record = make_record(result)
        if publishing.discovery:
            state.update(summary(result), connection.is_up)
        if not selected(result):
            return
        if records.unconfirmed() >= MOST_WAITING:
            if not dropped:
                print(f"note: {broker}: {MOST_WAITING} records wait; further records are dropped", flush=True)
            dropped += 1
        else:
            records.add(json_line(record))

    try:
        yield publish
    finally:
        deadline = time.monotonic() + CLOSING_TIMEOUT
        while connection.is_up is not False and records.unconfirmed() and time.monotonic() < deadline:
            time.sleep(0.02)
        if connection.is_up:
            with contextlib.suppress(RuntimeError, ValueError):  # the connection was lost just now
                client.publish(broker.availability_topic, OFFLINE, qos=1, retain=True).wait_for_publish(1)
        client.disconnect()
        client.loop_stop()
        if lost := dropped + records.unconfirmed():
            print(f"warning: {broker}: {lost} records did not reach the broker", file=sys.stderr, flush=True)


class _Records:
    """The records in their order, from the loop to the broker."""

    def __init__(self, client: Any, topic: str, connection: _Connection) -> None:
        self._client, self._topic, self._connection = client, topic, connection
        # Of the records that paho gets while it connects for the first time, it sends later ones before earlier ones.
        self._waiting: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._sent: set[int] = set()
        """Paho's numbers of the records that the broker has not confirmed."""

    def add(self, record: bytes) -> None:
        self._waiting.append(record)
        self.send()

    def send(self) -> None:
        """Pass what waits to paho, if the broker was ever there. Any thread may call it."""
        with self._lock:
            while self._waiting and self._connection.was_up:
                self._sent.add(self._client.publish(self._topic, self._waiting.popleft(), qos=1).mid)

    def unconfirmed(self) -> int:
        """How many records the broker has not confirmed. Not for paho's thread, which could wait for itself."""
        with self._lock:
            while self._connection.confirmed:
                self._sent.discard(self._connection.confirmed.popleft())  # or it was no record
            return len(self._sent) + len(self._waiting)


class _KeptState:
    """What the broker keeps for later subscribers: that the loop is online, its sensors, and their last values."""

    def __init__(self, client: Any, broker: Broker, prefix: str | None) -> None:
        self._client, self._broker = client, broker
        self._sensors = list(discovery(broker, prefix)) if prefix else []
        self._summary = ""

    def publish(self) -> None:
        """Publish all of it. The broker may be a new one, and has published the loop's will."""
        for topic, message in self._sensors:
            self._client.publish(topic, message, qos=1, retain=True)
        if self._summary:
            self._publish_summary()
        self._client.publish(self._broker.availability_topic, ONLINE, qos=1, retain=True)

    def update(self, summary: str, is_up: bool | None) -> None:
        """Publish the summary if it has changed. While the broker is away `publish` does it later."""
        if summary != self._summary:
            self._summary = summary
            if is_up:
                self._publish_summary()

    def _publish_summary(self) -> None:
        # With QoS 0 paho keeps none for later, when an old one could replace a newer one.
        self._client.publish(self._broker.summary_topic, self._summary, qos=0, retain=True)


class _Connection:
    """Callbacks of paho's thread: they print each change of the connection once, and collect what is confirmed."""

    def __init__(self, broker: Broker) -> None:
        self.confirmed: deque[int] = deque()
        """Paho's numbers of the messages that the broker has confirmed."""
        self.is_up: bool | None = None
        """None before the first attempt to connect has ended."""
        self.was_up = False
        """Whether the broker has accepted a connection."""
        self.on_up: Callable[[], None] = lambda: None
        """Called each time that it accepts one."""
        self._broker = broker
        self._last_note = ""

    def on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_up = not reason.is_failure
        self._print(f"refused: {reason}; check user and password" if reason.is_failure else "connected")
        if self.is_up:
            self.was_up = True
            self.on_up()

    def on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self.is_up and reason.is_failure:
            self._print("connection lost; records wait while the loop tries to reconnect")
        self.is_up = False

    def on_connect_fail(self, _client: Any, _data: Any) -> None:
        self.is_up = False
        error = sys.exc_info()[1]  # paho calls this while it handles the error
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f" ({error.verify_message}); --mqtt-ca FILE names the authority that has signed its certificate"
        else:
            reason = f" ({error.reason})" if isinstance(error, ssl.SSLError) and error.reason else ""
        self._print(f"cannot be reached{reason}; records wait while the loop tries again")

    def on_publish(self, _client: Any, _data: Any, number: int, _reason: Any, _properties: Any) -> None:
        self.confirmed.append(number)

    def _print(self, note: str) -> None:
        if note != self._last_note:
            print(f"note: {self._broker}: {note}", flush=True)
        self._last_note = note


def _use_tls(client: Any, ca: Path | None) -> None:
    """Encrypt the connection, and accept only a certificate of the broker's name that a trusted authority signed."""
    try:
        client.tls_set(ca_certs=None if ca is None else str(ca))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{ca}: holds no certificates ({one_line(error)}); --mqtt-ca expects a file in PEM, which begins with "
            "-----BEGIN CERTIFICATE-----"
        ) from error


def require_mqtt() -> ModuleType:
    """paho's client. Raises OutputError with the remedy if it is not installed."""
    try:
        return importlib.import_module("paho.mqtt.client")
    except ImportError as error:
        raise OutputError(f"--mqtt needs paho-mqtt, which is not installed; {install('mqtt')}") from error
