"""The files of a run over HTTP: only those, whole, until their last whole line, and only so many at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from doubles.servers.page_client import FakeControls, fetch, page, until
from iern.runtime.serve import downloads
from iern.runtime.serve.controls import RunFile


def test_growing_records_are_sent_until_their_last_whole_line(capsys, tmp_path):
    path = tmp_path / "answers.jsonl"
    whole = b"".join(b'{"frame": %d}\n' % index for index in range(30_000))
    with page(capsys, controls=FakeControls(RunFile(path, "records", growing=True))) as (_, url):
        missing = fetch(f"{url}files/0")
        assert (missing.status, missing.text) == (404, "answers.jsonl is no longer there\n")
        path.write_bytes(whole + b'{"fra')
        assert fetch(f"{url}files/0").text.encode() == whole
        path.write_bytes(b'{"fra')
        assert (fetch(f"{url}files/0").status, fetch(f"{url}files/0").text) == (200, "")


def test_a_recording_is_sent_whole_and_listed_by_its_name_alone(capsys, tmp_path):
    path = tmp_path / "Türe & Tor “1”.webm"
    path.write_bytes(os.urandom(300_000).hex().encode())
    with page(capsys, controls=FakeControls(RunFile(path, "recording"))) as (_, url):
        (listed,) = json.loads(fetch(f"{url}state").text)["controls"]["files"]
        reply = fetch(f"{url}files/0")
    assert listed == {"number": 0, "name": path.name, "kind": "recording", "bytes": 600_000, "offered": True}
    assert reply.text == path.read_text(encoding="utf-8")
    (name,) = re.findall(r"attachment; filename\*=UTF-8''(\S+)$", reply.headers["Content-Disposition"])
    assert unquote(name) == path.name
    assert reply.headers["Content-Type"] == "application/octet-stream"


def test_no_number_leads_to_a_file_that_this_run_did_not_write(capsys, tmp_path):
    ours, other = tmp_path / "ours.webm", tmp_path / "other.webm"
    ours.write_bytes(b"ours")
    other.write_bytes(b"other")
    with page(capsys, controls=FakeControls(RunFile(ours, "recording"))) as (_, url):
        for number in ("1", "00001", "999999", "1234567", "-1", "x", "other.webm", ""):
            assert fetch(f"{url}files/{number}").status == 404
        ours.unlink()
        ours.symlink_to(other)  # somebody puts a link in its place
        assert fetch(f"{url}files/0").status == 404
        ours.unlink()
        os.mkfifo(ours)  # a pipe would block its reader
        assert fetch(f"{url}files/0").status == 404


def test_a_file_beyond_the_largest_size_is_listed_but_not_sent(capsys, tmp_path, monkeypatch):
    path = tmp_path / "long.webm"
    path.write_bytes(bytes(1001))
    monkeypatch.setattr(downloads, "LARGEST_FILE", 1000)
    with page(capsys, controls=FakeControls(RunFile(path, "recording"))) as (_, url):
        assert json.loads(fetch(f"{url}state").text)["controls"]["files"][0]["offered"] is False
        refusal = fetch(f"{url}files/0")
    assert (refusal.status, "1001 bytes" in refusal.text, "copy it" in refusal.text) == (413, True, True)


def test_a_download_more_than_the_limit_is_refused_until_one_has_ended(capsys, tmp_path):
    path = tmp_path / "large.webm"
    with path.open("wb") as file:
        file.truncate(64 << 20)  # more than all buffers on the way hold
    with page(capsys, controls=FakeControls(RunFile(path, "recording"))) as (_, url), contextlib.ExitStack() as stack:
        place = urlsplit(url)
        for _ in range(downloads.MOST_DOWNLOADS):
            line = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=30))
            line.sendall(f"GET /files/0 HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
            assert line.recv(12) == b"HTTP/1.1 200"
        refusal = fetch(f"{url}files/0")
        assert (refusal.status, refusal.headers["Retry-After"]) == (503, "10")
        line.close()
        assert until(lambda: fetch(f"{url}files/1").status == 404 and head_status(place) == b"200")


def head_status(place) -> bytes:
    """The status of the large file, of which nothing more is read."""
    with socket.create_connection((place.hostname, place.port), timeout=30) as line:
        line.sendall(f"GET /files/0 HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        return line.recv(12)[9:]


@pytest.fixture(autouse=True)
def _few_bytes_in_the_system(monkeypatch):
    """A stuck reader's download ends soon after the test."""
    monkeypatch.setattr(downloads.long_responses, "SEND_TIMEOUT", 1.0)
