"""Access to the page: no other site, nobody without the token, and no file except the page's own."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from doubles.servers.page_client import FakeControls, fetch, numbered_result, page, watch_page

TOKEN = "a token; with, any “letters”"
ADDRESSES = ("", "page.js", "page.css", "stream", "state", "files/0", "photo", "metrics", "nowhere")


@pytest.fixture
def private(capsys):
    """A page for this machine only: its address and its controls."""
    controls = FakeControls()
    with page(capsys, controls=controls) as (sink, url):
        sink(numbered_result(0))
        yield url, controls


@pytest.fixture
def guarded(capsys):
    """A page with a token: its address and its sink."""
    with page(capsys, token=TOKEN) as (sink, url):
        sink(numbered_result(0))
        yield url, sink


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost.evil.example", "10.0.0.1:{port}", ""]
)
def test_a_foreign_name_that_points_to_this_machine_is_refused(private, host):
    url, controls = private
    host = host.format(port=urlsplit(url).port)
    assert fetch(url, headers={"Host": host}).status == 403
    assert fetch(f"{url}recording", "POST", json={"on": True}, headers={"Host": host}).status == 403
    assert not controls.recording


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9000", "[::1]:9000", "LOCALHOST:9000"])
def test_this_machines_own_names_are_accepted_with_any_port_as_a_tunnel_sends_it(private, host):
    assert fetch(private[0], headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another program on this machine
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    ],
)
def test_another_sites_page_can_neither_press_a_button_nor_read(private, headers):
    url, controls = private
    headers = {name: value.format(host=urlsplit(url).netloc) for name, value in headers.items()}
    assert fetch(f"{url}recording", "POST", json={"on": True}, headers=headers).status == 403
    assert fetch(f"{url}state", headers=headers).status == 403
    assert not controls.recording


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://{host}"}, {"Sec-Fetch-Site": "same-origin"}])
def test_the_page_itself_can(private, headers):
    url, controls = private
    headers = {name: value.format(host=urlsplit(url).netloc) for name, value in headers.items()}
    assert fetch(f"{url}recording", "POST", json={"on": True}, headers=headers).status == 204
    assert controls.recording


def test_a_form_cannot_press_a_button(private):
    url, controls = private
    assert fetch(f"{url}recording", "POST", data={"on": "true"}).status == 415
    assert fetch(f"{url}recording", "POST", data='{"on": true}', headers={"Content-Type": "text/plain"}).status == 415
    assert not controls.recording


def test_a_link_from_another_site_opens_the_page(private):
    assert fetch(private[0], headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200


def test_no_response_has_a_cors_header_and_no_script_of_another_site_runs(private):
    url, _ = private
    for method, address in (("GET", ""), ("GET", "state"), ("GET", "nowhere"), ("OPTIONS", "recording")):
        headers = fetch(f"{url}{address}", method).headers
        assert not [name for name in headers if name.startswith("Access-Control-")]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_has_no_inline_script_or_style():
    from iern.runtime.serve.routes import PAGE

    text = (PAGE / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == [""]
    assert not re.search(r"<style|\son\w+=|\sstyle=", text)


@pytest.mark.parametrize(
    "path",
    [
        "/../setup.py",
        "/page/../../feed.py",
        "/%2e%2e/feed.py",
        "/..%2f..%2f..%2fetc/passwd",
        "/page.js/../../access.py",
        "//etc/passwd",
        "/files/../../../etc/passwd",
        "/files/0/../../access.py",
        "/files/%2e%2e",
        "/files/-1",
        "/page.js%00.html",
    ],
)
def test_no_path_leads_to_a_file_that_is_not_the_pages(private, path):
    """Over a bare socket, because clients normalise such paths before they send them."""
    place = urlsplit(private[0])
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.match(rb"HTTP/1.[01] 40[04] ", response)


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_is_sent_without_the_token_or_with_a_wrong_one(guarded, address):
    url, _ = guarded
    wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN[:7]}"}, {"Cookie": "iern-0=1"})
    for headers in wrong:
        assert fetch(f"{url}{address}", headers=headers).status == 401
    assert fetch(f"{url}{address}?token=wrong").status == 401


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(guarded):
    url, sink = guarded
    reply = fetch(url, params={"token": TOKEN})
    assert (reply.status, reply.headers["Location"]) == (303, "./")
    cookie, *attributes = reply.headers["Set-Cookie"].split("; ")
    assert set(attributes) == {
        "HttpOnly",
        "SameSite=Lax",
    }  # no path, see `_redirect_with_cookie`
    assert re.fullmatch(r"iern-[0-9a-f]{8}=[0-9a-f]{64}", cookie)
    headers = {"Cookie": cookie}
    assert fetch(url, headers=headers).status == 200
    assert watch_page(url, sink, [numbered_result(1)], bool, headers=headers)


def test_a_program_sends_the_token_in_a_bearer_header_and_a_probe_needs_none(capsys):
    with page(capsys, token="plain-token") as (sink, url):
        sink(numbered_result(0))
        assert fetch(f"{url}metrics", headers={"Authorization": "Bearer plain-token"}).status == 200
        assert fetch(f"{url}healthz").status == 200


def test_with_a_token_any_host_name_is_accepted_as_a_proxy_passes_it_on(capsys):
    with page(capsys, token="plain-token") as (_, url):
        headers = {"Authorization": "Bearer plain-token", "Host": "cameras.example.org"}
        assert fetch(url, headers=headers).status == 200


def test_a_page_that_others_can_reach_makes_and_prints_a_token(capsys):
    found = set()
    for _ in range(2):
        with page(capsys, "0.0.0.0:0") as (_, url):
            place = urlsplit(url)
            token = place.query.removeprefix("token=")
            here = f"http://127.0.0.1:{place.port}/"
            assert fetch(here).status == 401
            assert fetch(here, params={"token": token}).status == 303
            found.add(token)
    assert len(found) == 2
    assert min(map(len, found)) >= 20


def test_a_token_that_the_operator_gave_is_not_printed(capsys):
    with page(capsys, "0.0.0.0:0", token="plain-token") as (_, url):
        assert "token" not in url
