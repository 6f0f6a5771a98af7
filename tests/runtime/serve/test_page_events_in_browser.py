"""What the page does in a real browser with made-up results: faces come and go, loops end, others must not reach it."""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("selenium", reason="pip install selenium")

from aiohttp import web
from selenium.webdriver.support.ui import Select

from doubles.servers.browser import console_messages, element, picture, text_of
from doubles.servers.page_client import FakeControls, behind_proxy, in_thread, numbered_result, page, running, until
from iern.runtime.serve.controls import RunFile

pytestmark = pytest.mark.slow

FRAMES_A_SECOND = 12
OBSERVE = """
    window.lists = [];
    window.announcements = [];
    const watch = (name, note) => new MutationObserver(note)
        .observe(document.getElementById(name), {childList: true, characterData: true, subtree: true});
    watch("faces", () => lists.push([...document.querySelectorAll("#faces h3")].map((h) => h.textContent).join()));
    watch("announcement", () => announcements.push(performance.now()));
"""
"""Notes each state of the list of faces, and the milliseconds of each announcement for a screen reader."""


def showing(sink):
    """Send made-up results at a camera's pace."""

    def run(over: threading.Event) -> None:
        index = 0
        while not over.wait(1 / FRAMES_A_SECOND):
            sink(numbered_result(index))
            index += 1

    return in_thread(run)


def test_a_face_that_has_gone_leaves_the_list_and_a_reader_hears_changes_only(browser, capsys):
    def result(index: int, *tracks: int):
        one = numbered_result(index)
        (face,) = one.faces
        return dataclasses.replace(one, faces=[dataclasses.replace(face, track=track) for track in tracks])

    def titles() -> list[str]:
        return browser.execute_script(
            "return [...document.querySelectorAll('#faces h3')].map((one) => one.textContent)"
        )

    tracks: list[int] = [4, 7]

    def feed(over: threading.Event) -> None:
        index = 0
        while not over.wait(1 / FRAMES_A_SECOND):
            sink(result(index, *tracks))
            index += 1

    with page(capsys) as (sink, url), in_thread(feed):
        browser.get(url)
        assert until(lambda: titles() == ["Face 4", "Face 7"])
        browser.execute_script(OBSERVE)
        tracks.remove(4)
        assert until(lambda: titles() == ["Face 7"])
        assert "Face 7,Face 4, gone" in browser.execute_script("return lists"), "those in the picture come first"
        assert until(lambda: text_of(browser, "announcement").startswith("Face 7: "))
        tracks.clear()
        assert until(lambda: titles() == [])
        assert element(browser, "nobody").is_displayed()
        assert until(lambda: text_of(browser, "announcement") == "No face")
        heard = browser.execute_script("return announcements")
    assert len(heard) >= 2
    assert min(later - earlier for earlier, later in itertools.pairwise(heard)) > 4900, "at most one in 5 seconds"


def test_the_chart_of_the_disagreement_is_shown_only_for_faces_that_have_one(browser, capsys):
    result = numbered_result(0)
    (face,) = result.faces
    with page(capsys) as (sink, url):
        browser.get(url)
        assert not element(browser, "dependence").is_displayed()
        for disagreement in (0.25, None, 0.0):
            sink(dataclasses.replace(result, faces=[dataclasses.replace(face, disagreement=disagreement)]))
            shown = disagreement is not None
            assert until(lambda shown=shown: element(browser, "dependence").is_displayed() == shown)
        assert console_messages(browser) == []


def test_the_buttons_work_behind_a_proxy_under_a_path_and_with_a_token(browser, capsys, tmp_path):
    log = tmp_path / "answers.jsonl"
    log.write_text('{"frame": 0}\n', encoding="utf-8")
    controls = FakeControls(RunFile(log, "records", growing=True))
    with (
        page(capsys, "0.0.0.0:0", controls=controls) as (sink, url),
        behind_proxy(url, "/cameras/hall/") as outside,
        showing(sink),
    ):
        browser.get(outside)
        assert browser.current_url.endswith("/cameras/hall/"), "the token is still in the address"
        pictures = set()
        assert until(lambda: pictures.add(picture(browser)) or len(pictures) >= 6)
        assert until(lambda: element(browser, "record").is_displayed())
        element(browser, "record").click()
        assert until(lambda: controls.recording)
        assert until(lambda: element(browser, "record").text == "Stop recording")
        element(browser, "record").click()
        assert until(lambda: not controls.recording)
        Select(element(browser, "source")).select_by_visible_text("hall")
        assert until(lambda: controls.source == "hall")
        given = browser.execute_async_script("fetch('files/0').then((r) => r.text()).then(arguments[0])")
        assert given == '{"frame": 0}\n'
        assert console_messages(browser) == []
        controls.full = True
        element(browser, "record").click()
        assert until(lambda: "the disk is full" in element(browser, "problem").text)


def test_a_page_of_another_site_can_neither_press_a_button_nor_read(browser, capsys):
    attack = """
        const [url, done] = arguments, json = {"Content-Type": "application/json"}, body = '{"on": true}';
        const tries = [
            fetch(url + "recording", {method: "POST", headers: json, body}),
            fetch(url + "recording", {method: "POST", mode: "no-cors", body}),
            fetch(url + "state"),
            fetch(url + "stream"),
        ];
        Promise.allSettled(tries).then((all) => done(all.map((one) => one.value ? one.value.type : "failed")));
    """

    async def foreign_page(_):
        return web.Response(text="<title>evil</title>", content_type="text/html")

    app, controls = web.Application(), FakeControls()
    app.router.add_get("/", foreign_page)
    with page(capsys, controls=controls) as (sink, url), running(app) as other_site:
        sink(numbered_result(0))
        browser.get(other_site)
        outcome = browser.execute_async_script(attack, url)
        assert outcome == ["failed"] * 4
        browser.get(url)
        assert until(lambda: element(browser, "record").text == "Record")
    assert not controls.recording


def test_the_page_reports_that_the_loop_has_ended_and_continues_with_the_next_one(browser, capsys):
    with page(capsys) as (sink, url), showing(sink):
        browser.get(url)
        assert until(lambda: re.search(r"[1-9]", element(browser, "fps").text))
    assert until(lambda: "trying again" in element(browser, "problem").text)
    address = url.removeprefix("http://").strip("/")
    with page(capsys, address) as (sink, _), showing(sink):
        assert until(lambda: element(browser, "problem").text == "")
        pictures = set()
        assert until(lambda: pictures.add(picture(browser)) or len(pictures) >= 3)
