"""Over MQTT beside the records, with a real broker: availability, TLS, changes only, and Home Assistant's discovery."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from doubles.made_up_results import grey_result
from doubles.servers.mosquitto_broker import INSTALL, PROGRAM, free_port, messages_of, mosquitto, wait_until
from iern.runtime.app.command_line import parse
from iern.runtime.errors import OutputError
from iern.runtime.faces.face import Face
from iern.runtime.imaging.detection import Detection
from iern.runtime.outputs.broker import Broker, Publishing, parse_broker
from iern.runtime.outputs.mqtt import mqtt_records
from repository import ROOT

paho = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: pip install 'iern[mqtt]'")
with_broker = pytest.mark.skipif(PROGRAM is None, reason=INSTALL)
with_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs apt-get install openssl")

Message = tuple[str, str, bool]
"""Topic, content, and whether the broker had kept it from before."""


@contextlib.contextmanager
def listening(broker: Broker, ca: Path | None = None) -> Iterator[list[Message]]:
    """All messages of the broker, those that it has kept first."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    if ca:
        client.tls_set(ca_certs=str(ca))
    with messages_of(client, broker, "#", lambda one: (one.topic, one.payload.decode(), bool(one.retain))) as got:
        yield got


def kept(broker: Broker, number: int) -> dict[str, str]:
    """What the broker has kept for a new subscriber: topic -> content of `number` messages."""
    found: dict[str, str] = {}

    def complete() -> bool:
        with listening(broker) as got:
            deadline = time.monotonic() + 1
            while len(found) < number and time.monotonic() < deadline:
                found.update({topic: content for topic, content, old in got if old})
                time.sleep(0.02)
        return len(found) >= number

    wait_until(complete)
    return found


@pytest.fixture
def broker() -> Broker:
    return parse_broker(f"mqtt://127.0.0.1:{free_port()}/office/faces")


@with_broker
def test_the_loop_is_online_while_it_runs_and_offline_after_its_end(tmp_path, broker):
    with mosquitto(tmp_path, broker.port):
        with listening(broker) as got:
            with mqtt_records(broker) as publish:
                publish(grey_result(0))
                wait_until(lambda: ("office/faces/availability", "online", False) in got)
                assert kept(broker, 1) == {"office/faces/availability": "online"}
            wait_until(lambda: ("office/faces/availability", "offline", False) in got)
        assert kept(broker, 1) == {"office/faces/availability": "offline"}


@with_broker
def test_the_broker_says_offline_for_a_loop_that_was_killed(tmp_path, broker):
    program = f"""
        import os, signal
        from doubles.made_up_results import grey_result
        from iern.runtime.outputs.broker import parse_broker
        from iern.runtime.outputs.mqtt import mqtt_records
        with mqtt_records(parse_broker("mqtt://127.0.0.1:{broker.port}/office/faces")) as publish:
            publish(grey_result(0))
            input()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with mosquitto(tmp_path, broker.port), listening(broker) as got:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
        wait_until(lambda: ("office/faces/availability", "online", False) in got)
        process.communicate(b"\n", timeout=60)
        wait_until(lambda: ("office/faces/availability", "offline", False) in got)


def environment() -> dict[str, str]:
    """The environment of a program that imports the doubles."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}


@with_broker
def test_only_changes_are_published_and_a_later_subscriber_finds_nothing_old(tmp_path, broker):
    with mosquitto(tmp_path, broker.port), listening(broker) as got:
        with mqtt_records(broker, Publishing(on_change=True)) as publish:
            for index in range(60):
                publish(grey_result(index, faces=index // 20))
        wait_until(lambda: ("office/faces/availability", "offline", False) in got)
        records = [json.loads(content) for topic, content, _ in got if topic == "office/faces"]
        assert [(record["frame"], len(record["faces"])) for record in records] == [(0, 0), (20, 1), (40, 2)]
        assert kept(broker, 1) == {"office/faces/availability": "offline"}


@with_broker
def test_home_assistant_finds_two_sensors_whose_values_and_availability_are_kept(tmp_path, broker):
    with mosquitto(tmp_path, broker.port), mqtt_records(broker, Publishing(discovery="homeassistant")) as publish:
        publish(with_faces((10, "sad"), (40, "happy"), (20, "sad")))
        found = kept(broker, 4)
        states = {"office/faces/availability": "online"}
        for key, value in (("expression", "happy"), ("faces", 3)):
            sensor = json.loads(found[f"homeassistant/sensor/iern_office_faces/{key}/config"])
            assert sensor["name"] and sensor["unique_id"] == f"iern_office_faces_{key}"
            assert sensor["device"]["identifiers"] == ["iern_office_faces"]
            assert states[sensor["availability_topic"]] == "online"
            (named,) = re.findall(r"^\{\{ value_json\.(\w+) \}\}$", sensor["value_template"])
            assert json.loads(found[sensor["state_topic"]])[named] == value
        publish(with_faces())
        publish(with_faces())
        with listening(broker) as got:
            wait_until(lambda: any(json.loads(text) == {"faces": 0, "expression": "nobody"} for text in summaries(got)))
            publish(with_faces((5, "sad")))
            publish(with_faces((6, "sad")))
            publish(with_faces((6, "uncertain")))
            wait_until(lambda: len(summaries(got)) >= 3)
        assert [json.loads(text)["expression"] for text in summaries(got)] == ["nobody", "sad", "uncertain"]


def summaries(got: list[Message]) -> list[str]:
    return [content for topic, content, _ in got if topic == "office/faces/summary"]


def with_faces(*faces: tuple[float, str]):
    """A result with faces of this width and expression."""
    found = [
        Face(Detection(0, 0, width, width, np.zeros((5, 2)), 0.9), {"happy" if name == "uncertain" else name: 1.0}, 0.0,
             name == "uncertain")
        for width, name in faces
    ]  # fmt: skip
    return dataclasses.replace(grey_result(0), faces=found)


@with_broker
@pytest.mark.slow
def test_a_broker_that_was_restarted_gets_the_sensors_and_the_last_values_again(tmp_path, broker):
    with mqtt_records(broker, Publishing(discovery="ha")) as publish:
        with mosquitto(tmp_path, broker.port):
            publish(with_faces((5, "sad")))
            before = kept(broker, 4)
        publish(with_faces((5, "happy")))
        with mosquitto(tmp_path, broker.port):
            before = kept(broker, 4)
    assert json.loads(before["office/faces/summary"])["expression"] == "happy"
    assert "ha/sensor/iern_office_faces/faces/config" in before


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Path:
    """The certificate of an authority, and beside it server.pem for 127.0.0.1, signed by it, with server.key."""
    folder = tmp_path_factory.mktemp("certificates")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    runs = [
        [*new, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"],
        [*new, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-addext",
         "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key",
         "-out", "server.pem"],
    ]  # fmt: skip
    for run in runs:
        subprocess.run(run, cwd=folder, capture_output=True, check=True)
    (folder / "server.key").chmod(0o644)
    return folder / "ca.pem"


@with_broker
@with_openssl
def test_records_arrive_encrypted_from_a_broker_whose_authority_is_named(tmp_path, capfd, authority):
    broker = parse_broker(f"mqtts://127.0.0.1:{free_port()}/office/faces")
    server = authority.with_name("server.pem")
    with mosquitto(tmp_path, broker.port, certificate=server), listening(broker, authority) as got:
        with mqtt_records(broker, Publishing(ca=authority)) as publish:
            publish(grey_result(7))
        wait_until(lambda: ("office/faces/availability", "offline", False) in got)
    assert [json.loads(content)["frame"] for topic, content, _ in got if topic == "office/faces"] == [7]
    printed = capfd.readouterr()
    assert f"mqtts://127.0.0.1:{broker.port}/office/faces: connected" in printed.out
    assert printed.err == ""


@with_broker
@with_openssl
def test_a_broker_with_a_certificate_that_nobody_trusted_has_signed_gets_nothing(tmp_path, capfd, authority):
    broker = parse_broker(f"mqtts://user:secret@127.0.0.1:{free_port()}/office/faces")
    server = authority.with_name("server.pem")
    printed = ""

    def reported() -> bool:
        nonlocal printed
        printed += capfd.readouterr().out
        return "--mqtt-ca FILE names the authority" in printed

    with (
        mosquitto(tmp_path, broker.port, certificate=server),
        listening(broker, authority) as got,
        mqtt_records(broker) as publish,
    ):
        publish(grey_result(7))
        wait_until(reported)
    assert got == []
    assert "cannot be reached (unable to get local issuer certificate)" in printed
    assert "secret" not in printed


def test_a_file_without_certificates_is_an_error_at_the_start(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate", encoding="utf-8")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(OutputError, match=r"\.pem: holds no certificates .*BEGIN CERTIFICATE"):
            mqtt_records(Broker("127.0.0.1", 1, "t", tls=True), Publishing(ca=path)).__enter__()


def test_the_options_reach_the_sink():
    options = parse(["--mqtt", "mqtts://broker/a", "--mqtt-rate", "2", "--mqtt-on-change", "--mqtt-discovery",
                     "--mqtt-ca", "ca.pem"])  # fmt: skip
    assert options.mqtt == Broker("broker", 8883, "a", tls=True)
    assert str(options.mqtt) == "mqtts://broker:8883/a"
    assert options.publishing == Publishing(2.0, True, Path("ca.pem"), "homeassistant")
    assert parse(["--mqtt", "mqtt://broker/a", "--mqtt-discovery", "my/ha/"]).publishing.discovery == "my/ha"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--mqtt-rate", "2"], "need --mqtt URL"),
        (["--mqtt-discovery"], "need --mqtt URL"),
        (["--mqtt", "mqtt://broker/a", "--mqtt-ca", "ca.pem"], "begins with mqtts"),
        (["--mqtt", "mqtt://broker/a", "--mqtt-discovery", "a/#"], "expected a prefix of topics"),
        (["--mqtt", "mqtt://broker/a", "--mqtt-rate", "-1"], "at least 0"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(capsys, arguments, reason):
    with pytest.raises(SystemExit):
        parse(arguments)
    assert reason in capsys.readouterr().err
