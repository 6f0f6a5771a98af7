"""Records over MQTT, with a real broker: they arrive, they wait while it is away, and credentials are never shown."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from doubles.made_up_results import grey_result
from doubles.servers.mosquitto_broker import INSTALL, PROGRAM, free_port, messages_of, mosquitto, wait_until
from iern.runtime.app.command_line import parse
from iern.runtime.errors import OutputError
from iern.runtime.outputs.broker import Broker, parse_broker
from iern.runtime.outputs.mqtt import mqtt_records

with_broker = pytest.mark.skipif(PROGRAM is None, reason=INSTALL)


@pytest.fixture
def paho():
    return pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'iern[mqtt]'")


@contextlib.contextmanager
def subscriber(paho, broker: Broker) -> Iterator[list[dict]]:
    """The records that arrive after it has subscribed."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    if broker.user:
        client.username_pw_set(broker.user, broker.password)
    with messages_of(client, broker, broker.topic, lambda message: json.loads(message.payload)) as got:
        yield got


@with_broker
def test_every_record_arrives_in_order(tmp_path, capfd, paho):
    broker = parse_broker(f"mqtt://127.0.0.1:{free_port()}/office/faces")
    with mosquitto(tmp_path, broker.port), subscriber(paho, broker) as got:
        with mqtt_records(broker) as publish:
            for index in range(200):
                publish(grey_result(index, faces=1))
        wait_until(lambda: len(got) >= 200)
    assert [record["frame"] for record in got] == list(range(200))
    assert got[0]["faces"][0]["expression"] == "happy"
    assert got[0]["start"]
    assert capfd.readouterr().err == ""


@with_broker
def test_a_broker_that_is_away_at_the_start_gets_the_records_later(tmp_path, capfd, paho):
    broker = parse_broker(f"mqtt://127.0.0.1:{free_port()}/office/faces")
    with contextlib.ExitStack() as later:
        with mqtt_records(broker) as publish:
            start = time.monotonic()
            for index in range(20):
                publish(grey_result(index))
            assert time.monotonic() - start < 5, "the loop does not wait for the broker"
            wait_until(lambda: "cannot be reached" in capfd.readouterr().out)
            later.enter_context(mosquitto(tmp_path, broker.port))
            got = later.enter_context(subscriber(paho, broker))
            wait_until(lambda: publish(grey_result(99)) or got)
        assert capfd.readouterr().err == "", "the broker has confirmed all of them"
    assert got[-1]["frame"] == 99


@with_broker
@pytest.mark.slow
def test_the_sink_reconnects_to_a_broker_that_was_killed(tmp_path, capfd, paho):
    broker = parse_broker(f"mqtt://127.0.0.1:{free_port()}/office/faces")
    with mqtt_records(broker) as publish:
        with mosquitto(tmp_path, broker.port), subscriber(paho, broker) as got:
            publish(grey_result(0))
            wait_until(lambda: len(got) == 1)
        for index in range(1, 6):
            publish(grey_result(index))
            time.sleep(0.1)
        with mosquitto(tmp_path, broker.port), subscriber(paho, broker) as after:
            wait_until(lambda: publish(grey_result(7)) or 7 in [record["frame"] for record in after])
    printed = capfd.readouterr().out
    assert "connection lost" in printed
    assert printed.count("connected") == 2


def test_records_for_a_broker_that_never_comes_are_limited_and_counted(capfd, monkeypatch, paho):
    monkeypatch.setattr("iern.runtime.outputs.mqtt.MOST_WAITING", 10)
    broker = parse_broker(f"mqtt://user:secret@127.0.0.1:{free_port()}/office/faces")
    start = time.monotonic()
    with mqtt_records(broker) as publish:
        for index in range(100):
            publish(grey_result(index))
    assert time.monotonic() - start < 20
    printed = capfd.readouterr()
    assert "100 records did not reach the broker" in printed.err
    assert printed.out.count("10 records wait; further records are dropped") == 1
    assert "secret" not in printed.out + printed.err
    assert "user" not in printed.out + printed.err


@with_broker
def test_a_user_is_accepted_and_a_wrong_password_is_reported_without_showing_it(tmp_path, capfd, paho):
    port = free_port()
    right, wrong = (parse_broker(f"mqtt://anna:{word}@127.0.0.1:{port}/t") for word in ("p%40ss", "secret"))
    assert right.password == "p@ss"
    with mosquitto(tmp_path, port, "anna:p@ss\n"), subscriber(paho, right) as got:
        with mqtt_records(wrong) as publish:
            publish(grey_result(1))
            time.sleep(1)
        refused = capfd.readouterr()
        with mqtt_records(right) as publish:
            publish(grey_result(2))
        wait_until(lambda: got)
    assert [record["frame"] for record in got] == [2]
    assert "refused: Not authorized" in refused.out
    assert "secret" not in refused.out + refused.err


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker/a", Broker("broker", 1883, "a")),
        ("mqtt://u:p%2Fw@broker:99/a/b", Broker("broker", 99, "a/b", "u", "p/w")),
        ("mqtt://[::1]:99/a", Broker("::1", 99, "a")),
    ],
)
def test_an_address_is_read_and_shown_without_credentials(url, expected):
    broker = parse_broker(url)
    assert broker == expected
    for shown in (str(broker), repr(broker), repr(parse(["--mqtt", url]))):
        assert "p/w" not in shown


@pytest.mark.parametrize(
    "url",
    ["broker/a", "http://u:secret@broker/a", "mqtt://u:secret@broker", "mqtt://u:secret@broker:x/a",
     "mqtt://u:secret@b/a/#", "mqtt:///secret", "mqtt://u:sec/ret@b/secret?x"],
)  # fmt: skip
def test_a_wrong_address_is_refused_without_repeating_it(capsys, url):
    with pytest.raises(SystemExit) as left:
        parse(["--mqtt", url])
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert "mqtt://[user:password@]host[:port]/topic" in printed
    assert "secret" not in printed.rpartition("error:")[2]


def test_without_paho_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(OutputError, match=r"pip install 'iern\[mqtt\]'"), mqtt_records(Broker("h", 1, "t")):
        pass


def test_the_command_line_needs_no_paho():
    program = "import sys; sys.modules['paho'] = None; from iern.runtime.app import command_line, wiring"
    subprocess.run([sys.executable, "-c", program], check=True)
