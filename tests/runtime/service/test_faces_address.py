"""POST /v1/faces: its answers are the library's, alone and in batches, and it refuses what it cannot take."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import pytest

from doubles.servers.page_client import fetch, until
from doubles.servers.service import HeldRecognition, ask, metric, record, service
from iern.runtime.faces.face import Face
from iern.runtime.outputs.records import SCHEMA
from repository import PHOTOS

NAMES = ("astronaut", "obama_and_biden", "obama_portrait", "biden_portrait")
NO_FACE = cv2.imencode(".png", np.full((300, 400, 3), 90, np.uint8))[1].tobytes()


def photo(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()


def half(name: str) -> bytes:
    """A picture small enough that several fit in a batch."""
    image = cv2.imread(str(PHOTOS / f"{name}.jpg"), cv2.IMREAD_REDUCED_COLOR_2)
    return cv2.imencode(".png", image)[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def assert_same(answer: dict, faces: list[Face]) -> None:
    """The answer's faces are the library's."""
    assert len(answer["faces"]) == len(faces)
    for found, expected in zip(answer["faces"], faces, strict=True):
        assert found["expression"] == expected.expression
        assert found["uncertain"] == expected.uncertain
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert found["disagreement"] == pytest.approx(expected.disagreement, abs=1e-5)
        assert found["score"] == pytest.approx(expected.detection.score, abs=1e-4)
        box = found.get("whole_box", found["box"])
        detection = expected.detection
        assert box == pytest.approx([detection.x, detection.y, detection.width, detection.height], abs=0.06)


@pytest.fixture(scope="module")
def url(recognition):
    with service(recognition) as address:
        yield address


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_the_librarys(url, library, name):
    answer = record(ask(url, photo(name)))
    assert_same(answer, library(decoded(photo(name))))
    assert answer["faces"]
    assert (answer["schema"], answer["frame"], answer["time"], answer["name"]) == (SCHEMA, 0, 0.0, "image")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", answer["start"])


def test_a_picture_without_a_face_has_none(url):
    assert record(ask(url, NO_FACE))["faces"] == []


def test_pictures_that_wait_run_together_and_each_gets_its_own_answer(recognition, library):
    """One of them is damaged and one has no face; the others' answers are the library's."""
    damaged = bytearray(half("astronaut"))
    damaged[200:2000] = bytes(1800)
    pictures = [half("astronaut"), NO_FACE, half("obama_and_biden"), bytes(damaged), half("biden_portrait")]
    held = HeldRecognition(recognition)
    with service(held) as url, ThreadPoolExecutor(len(pictures) + 1) as clients:
        first = clients.submit(ask, url, NO_FACE)
        assert until(lambda: held.batches == [1])
        replies = []
        for number, picture in enumerate(pictures):
            replies.append(clients.submit(ask, url, picture))
            assert until(lambda number=number: metric(url, "iern_waiting_requests") == number + 2)
        held.may_run.set()
        answers = [reply.result() for reply in replies]
        assert record(first.result())["faces"] == []
        assert held.batches == [1, len(pictures)]
        assert metric(url, "iern_batch_pictures_count") == 2
        assert metric(url, "iern_faces_total", "neutral") + metric(url, "iern_faces_total", "happiness") > 0
    assert answers[3].status == 400, answers[3].text
    for picture, answer in zip(pictures, answers, strict=True):
        if picture != bytes(damaged):
            assert_same(record(answer), library(decoded(picture)))
    shared = {record(answer)["latency_ms"]["infer"] for number, answer in enumerate(answers) if number != 3}
    assert len(shared) == 1, "one call of the model"


def test_a_form_with_one_part_gives_the_same_and_its_name(url, library):
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("image", photo("astronaut"), filename="me & you.jpg", content_type="image/jpeg")
    answer = record(fetch(f"{url}v1/faces", "POST", data=form))
    assert answer["name"] == "me & you.jpg"
    assert_same(answer, library(decoded(photo("astronaut"))))


def form_of(*parts: bytes) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for number, part in enumerate(parts):
        form.add_field(f"part{number}", part, filename="a.jpg")
    return form


BROKEN_FORM = {"data": b"--x\r\nno header", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize(
    ("status", "options", "words"),
    [
        (415, {"data": b""}, "no picture of 0 bytes"),
        (415, {"data": b"hello"}, "no picture of 5 bytes"),
        (415, {"data": b"GIF89a" + bytes(50)}, "a GIF"),
        (415, {"data": NO_FACE, "headers": {"Content-Encoding": "gzip"}}, "compressed"),
        (400, {"data": photo("astronaut")[:9000]}, "cut off"),
        (400, {"data": b"\xff\xd8\xff\xe0"}, "header of the JPEG"),
        (400, {"data": form_of(NO_FACE, NO_FACE)}, "several parts"),
        (400, {"data": form_of()}, "form"),
        (400, BROKEN_FORM, "form"),
        (400, {"data": NO_FACE, "headers": {"Content-Type": "multipart/form-data"}}, "form"),
        (413, {"data": bytes(11_000_000)}, "expected at most 10000000"),
        (413, {"data": form_of(bytes(10_000_001))}, "expected at most 10000000"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line_of_json(url, status, options, words):
    reply = fetch(f"{url}v1/faces", "POST", **options)
    assert reply.status == status, reply.text
    assert reply.text.count("\n") == 1
    assert set(json.loads(reply.text)) == {"error"}
    assert words in json.loads(reply.text)["error"]


def test_an_upload_without_a_stated_length_is_cut_at_the_limit(url):
    async def endless():
        for _ in range(40):
            yield bytes(1 << 20)

    assert fetch(f"{url}v1/faces", "POST", data=endless()).status == 413


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(recognition, monkeypatch):
    bomb = cv2.imencode(".png", np.zeros((3000, 3000), np.uint8))[1].tobytes()
    decoded_pictures = []
    monkeypatch.setattr("iern.runtime.service.recognition.decode_image", lambda *given: decoded_pictures.append(given))
    with service(recognition, megapixels=8.99) as url:
        reply = ask(url, bomb)
    assert reply.status == 413
    assert "3000x3000 pixels, expected at most 8.99 million" in reply.text
    assert decoded_pictures == []


def test_a_full_queue_answers_503_at_once_and_loses_nothing(recognition):
    held = HeldRecognition(recognition)
    with service(held, waiting=3) as url, ThreadPoolExecutor(3) as clients:
        replies = [clients.submit(ask, url, NO_FACE) for _ in range(3)]
        assert until(lambda: metric(url, "iern_waiting_requests") == 3)
        for _ in range(4):
            refusal = ask(url, NO_FACE)
            assert refusal.status == 503
            assert int(refusal.headers["Retry-After"]) >= 1
            assert "3 requests wait" in json.loads(refusal.text)["error"]
        held.may_run.set()
        assert [reply.result().status for reply in replies] == [200] * 3
        assert ask(url, NO_FACE).status == 200
        assert metric(url, "iern_requests_total", "503") == 4
        assert metric(url, "iern_waiting_requests") == 0


def test_too_many_requests_of_one_address_are_answered_with_429(recognition):
    with service(recognition, rate=0.01) as url:
        assert ask(url, NO_FACE).status == 200
        refusal = ask(url, NO_FACE)
    assert refusal.status == 429
    assert 90 < int(refusal.headers["Retry-After"]) <= 100


def test_a_failure_of_the_model_is_one_requests_and_the_next_is_answered(recognition, monkeypatch):
    with service(recognition) as url:
        with monkeypatch.context() as patch:
            patch.setattr("iern.runtime.service.recognition.crop_faces", lambda *_: 1 / 0)
            reply = ask(url, NO_FACE)
        assert (reply.status, set(json.loads(reply.text))) == (500, {"error"})
        assert ask(url, NO_FACE).status == 200


TOKEN = "a-long-word-of-mine"


@pytest.mark.parametrize("address", ["", "v1/faces", "v1/camera", "openapi.json", "metrics", "page.js", "nowhere"])
def test_nothing_is_answered_without_the_token(recognition, address):
    with service(recognition, TOKEN) as url:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Basic !"}):
            reply = fetch(f"{url}{address}", "POST" if address == "v1/faces" else "GET", headers=headers)
            assert reply.status == 401
            assert "token" in json.loads(reply.text)["error"]
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert fetch(f"{url}healthz").status == 200
        assert ask(url, NO_FACE, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_another_site_and_a_foreign_name_are_refused_and_no_answer_has_a_cors_header(url, headers):
    reply = ask(url, NO_FACE, headers=headers)
    assert reply.status == 403
    for answer in (reply, ask(url, NO_FACE), fetch(f"{url}v1/faces", "OPTIONS")):
        assert not [name for name in answer.headers if name.startswith("Access-Control-")]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_and_its_script_are_there_and_name_only_addresses_of_the_service(url):
    page, script = fetch(url).text, fetch(f"{url}page.js").text
    named = re.findall(r"""href="([^"d][^"]*)"|fetch\("([^"]*)"|URL\("([^"]*)\"""", page + script)
    found = {"".join(groups) for groups in named}
    assert found == {"openapi.json", "metrics", "healthz", "v1/faces", "v1/camera"}
    for address in ("openapi.json", "metrics", "healthz"):
        assert fetch(f"{url}{address}").status == 200


def test_a_client_that_leaves_gives_up_its_place_while_others_are_answered(recognition):
    held = HeldRecognition(recognition)
    with service(held, waiting=8) as url, ThreadPoolExecutor(2) as clients:
        first = clients.submit(ask, url, NO_FACE)
        assert until(lambda: held.batches == [1])
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port)) as line:
            head = f"POST /v1/faces HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(NO_FACE)}\r\n\r\n"
            line.sendall(head.encode() + NO_FACE)
            assert until(lambda: metric(url, "iern_waiting_requests") == 2)
        assert until(lambda: metric(url, "iern_waiting_requests") == 1)
        last = clients.submit(ask, url, NO_FACE)
        assert until(lambda: metric(url, "iern_waiting_requests") == 2)
        held.may_run.set()
        assert (first.result().status, last.result().status) == (200, 200)
        assert held.batches == [1, 1]
