"""A photo that is dropped on the page: answered as the library answers, within limits, for the page alone."""

from __future__ import annotations

import contextlib
import json

import pytest

from doubles.servers.page_client import fetch, in_thread, page, until
from doubles.servers.service import HeldRecognition
from iern.runtime.service.limits import Limits
from iern.runtime.service.page_photos import PAGE_LIMITS, PagePhotos
from repository import PHOTOS

PHOTO = (PHOTOS / "astronaut.jpg").read_bytes()
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JPEG = {"Content-Type": "image/jpeg"}


@contextlib.contextmanager
def page_that_reads(capsys, recognition, token=None, **limits):
    """The address of a page with these limits."""
    with page(capsys, token=token, photos=PagePhotos(recognition, Limits(**limits))) as (_, url):
        yield url


def test_a_photo_is_answered_as_the_library_answers_and_its_size_is_stated(capsys, recognition, library):
    with page_that_reads(capsys, recognition) as url:
        assert json.loads(fetch(f"{url}state").text)["photos"] is True
        record = json.loads(fetch(f"{url}photo", "POST", data=PHOTO, headers=JPEG).text)
    (expected,) = library(PHOTOS / "astronaut.jpg")
    (face,) = record["faces"]
    assert (record["width"], record["height"]) == (512, 512)
    assert face["expression"] == expected.expression
    assert face["probability"] == pytest.approx(expected.probability, abs=1e-5)
    assert face["box"] == pytest.approx(list(expected.box), abs=0.1)


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"no picture", JPEG, 415),
        (PHOTO[:100], JPEG, 400),
        (PHOTO[:9000], {"Content-Type": "text/plain"}, 415),  # what a form of another site can send
        (PHOTO, JPEG | {"Content-Encoding": "gzip"}, 415),
        (PHOTO + bytes(200_000), JPEG, 413),
        (PHOTO, JPEG | {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
    ids=["no picture", "cut off", "a form's type", "compressed", "too large", "another site"],
)
def test_what_is_no_picture_too_large_or_another_sites_is_refused_with_one_line(
    capsys, recognition, data, headers, status
):
    with page_that_reads(capsys, recognition, megabytes=0.2) as url:
        reply = fetch(f"{url}photo", "POST", data=data, headers=headers)
        form = fetch(f"{url}photo", "POST", data="image=photo", headers=FORM)
    assert reply.status == status
    assert reply.text.count("\n") <= 1
    assert form.status == 415


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(capsys, recognition):
    with page_that_reads(capsys, HeldRecognition(recognition), megapixels=0.2) as url:
        reply = fetch(f"{url}photo", "POST", data=PHOTO, headers=JPEG)
    assert (reply.status, "512x512" in reply.text) == (413, True)


def test_more_photos_a_second_than_the_rate_are_refused_with_the_seconds_to_wait(capsys, recognition):
    with page_that_reads(capsys, recognition, rate=0.1) as url:
        replies = [fetch(f"{url}photo", "POST", data=b"no picture", headers=JPEG) for _ in range(2)]
    assert [reply.status for reply in replies] == [415, 429]
    assert replies[1].headers["Retry-After"] == "10"


def test_photos_wait_in_a_short_line_and_the_page_continues_meanwhile(capsys, recognition):
    held = HeldRecognition(recognition)
    statuses: list[int] = []

    def send(_) -> None:
        statuses.append(fetch(f"{url}photo", "POST", data=PHOTO, headers=JPEG).status)

    photos = PagePhotos(held, Limits(waiting=2))
    with page(capsys, photos=photos) as (_, url), in_thread(send), in_thread(send):
        try:
            assert until(lambda: photos._admission.requests == 2)
            assert fetch(f"{url}photo", "POST", data=PHOTO, headers=JPEG).status == 503
            assert fetch(f"{url}state").status == 200
        finally:
            held.may_run.set()
    assert statuses == [200, 200]
    assert 0 < PAGE_LIMITS.waiting < Limits().waiting
    assert PAGE_LIMITS.rate > 0


def test_the_token_protects_the_reading_of_photos(capsys, recognition):
    with page_that_reads(capsys, recognition, token="plain-token") as url:
        assert fetch(f"{url}photo", "POST", data=PHOTO, headers=JPEG).status == 401
        given = JPEG | {"Authorization": "Bearer plain-token"}
        assert fetch(f"{url}photo", "POST", data=PHOTO, headers=given).status == 200
