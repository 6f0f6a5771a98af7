"""The switches and the slider of the page: what they change in the picture, and what they refuse."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")

from doubles.made_up_results import grey_result
from doubles.servers.page_client import FakeControls, fetch, numbered_result, page, watch_page
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.faces.face import Face
from iern.runtime.outputs.blur import HOLD_SECONDS
from iern.runtime.serve.controls import LONGEST_HALF_LIFE
from iern.runtime.serve.view import PictureView
from repository import PHOTOS


def with_picture(image: np.ndarray, faces: list[Face], seconds: float = 0.0):
    result = grey_result(0)
    return dataclasses.replace(result, frame=dataclasses.replace(result.frame, image=image, time=seconds), faces=faces)


def test_the_detector_finds_no_face_in_a_blurred_view_also_where_it_missed_the_face_in_this_frame():
    image, detector, view = cv2.imread(str(PHOTOS / "astronaut.jpg")), FaceDetector(), PictureView()
    faces = [Face(found, {"happy": 1.0}, 0.0) for found in detector(image)]
    seen, missed = with_picture(image, faces), with_picture(image, [], 0.9 * HOLD_SECONDS)
    view.overlay = False
    view.hold(seen)  # before the switch
    view.hold(missed)
    assert detector(view.render(missed))
    view.blur = True
    assert detector(view.render(missed)) == []
    view.overlay = True
    assert detector(view.render(seen)) == []


def test_without_the_overlay_the_view_is_the_frame_itself_and_with_it_the_shared_drawing():
    result, view = numbered_result(3), PictureView()
    assert view.render(result) is result.annotated
    view.overlay = False
    assert np.array_equal(view.render(result), np.full((120, 160, 3), 3))


def test_a_switch_changes_the_picture_of_a_source_that_is_silent(capsys):
    view = PictureView()

    class Controls(FakeControls):
        def set_overlay(self, on: bool) -> None:
            view.overlay = on

    with page(capsys, controls=Controls(), render=view.render) as (sink, url):
        sink(numbered_result(100))
        pictures = []

        def enough(got: list) -> bool:
            pictures[:] = [picture for _, picture in got]
            if len(got) == 1:
                assert fetch_in_thread(f"{url}overlay", {"on": False}) == 204
            return len(got) == 2

        watch_page(url, lambda _: None, [numbered_result(9)], enough)  # the test sends no new frame
    drawn, plain = pictures
    assert np.ptp(drawn) > 100
    assert np.ptp(plain) < 5


def fetch_in_thread(url: str, body: dict) -> int:
    """The status of a POST, from inside another event loop."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: fetch(url, "POST", json=body).status).result()


def test_the_switches_and_the_slider_reach_the_loop(capsys):
    controls = FakeControls()
    with page(capsys, controls=controls) as (_, url):
        for address, body in (
            ("blur", {"on": True}),
            ("overlay", {"on": False}),
            ("half_life", {"seconds": LONGEST_HALF_LIFE}),
        ):
            assert fetch(url + address, "POST", json=body).status == 204
        state = json.loads(fetch(f"{url}state").text)["controls"]
    assert (state["blur"], state["overlay"], state["half_life"]) == (True, False, LONGEST_HALF_LIFE)
    assert (controls.blur, controls.overlay, controls.half_life) == (True, False, LONGEST_HALF_LIFE)


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("blur", '{"on": 1}'),
        ("blur", '{"off": true}'),
        ("overlay", '{"on": "true"}'),
        ("half_life", '{"seconds": -0.1}'),
        ("half_life", '{"seconds": 10.1}'),
        ("half_life", '{"seconds": NaN}'),
        ("half_life", '{"seconds": Infinity}'),
        ("half_life", '{"seconds": true}'),
        ("half_life", '{"seconds": "1"}'),
        ("half_life", "1"),
    ],
)
def test_anything_but_the_expected_value_is_refused(capsys, address, body):
    controls = FakeControls()
    before = vars(controls).copy()
    with page(capsys, controls=controls) as (_, url):
        reply = fetch(url + address, "POST", data=body, headers={"Content-Type": "application/json"})
        form = fetch(url + address, "POST", data=body, headers={"Content-Type": "text/plain"})
    assert (reply.status, form.status) == (400, 415)
    assert reply.text.startswith("expected ")
    assert vars(controls) == before


def test_the_page_cannot_undo_the_blur_that_the_operator_chose(capsys):
    controls = FakeControls(blur_fixed=True)
    with page(capsys, controls=controls) as (_, url):
        reply = fetch(f"{url}blur", "POST", json={"on": False})
        assert (reply.status, "--blur-faces" in reply.text) == (409, True)
    assert controls.blur
