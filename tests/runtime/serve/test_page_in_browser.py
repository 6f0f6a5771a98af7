"""The page in a real browser, over the real loop on the bundled clip.

`SCREENSHOT=docs/serve.png pytest tests/runtime/serve/test_page_in_browser.py` takes the picture for the docs.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
import time

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("selenium", reason="pip install selenium")
os.environ["SE_AVOID_STATS"] = "true"  # otherwise its manager sends usage data

from aiohttp import web
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from doubles.servers.page_client import FakeControls, behind_proxy, in_thread, numbered_result, page, running, until
from iern.runtime.app.frame_analyzer import FrameAnalyzer
from iern.runtime.app.loop import run_loop
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.latency import LoopStats

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="apt-get install chromium chromium-driver",
    ),
]

FRAMES_A_SECOND = 12
INKED = """
    const {width, height} = arguments[0];
    const pen = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
    pen.drawImage(arguments[0], 0, 0);
    const pixels = pen.getImageData(0, 0, width, height).data;
    const columns = new Set();
    for (let i = 0; i < pixels.length; i += 4) {
        const colour = pixels.slice(i, i + 3);
        if (Math.max(...colour) - Math.min(...colour) > 60) columns.add(i / 4 % width);
    }
    return columns.size;
"""
"""Counts the columns of a chart that have colour: lines have, the grid and its numbers are grey."""


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1300,803")  # the browser's own bars take 143
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def looping_on_the_clip(sink):
    """Run the loop on the bundled clip, over and over, at a camera's pace."""

    def run(over: threading.Event) -> None:
        def keep_pace(_):
            if over.wait(1 / FRAMES_A_SECOND):
                source.stop()

        with open_session(MODEL) as session:
            analyzer = FrameAnalyzer(FaceDetector(), session)
            while not over.is_set():
                with open_source(str(DEMO_CLIP)) as source:
                    run_loop(source, analyzer, [sink, keep_pace], LoopStats())

    return in_thread(run)


def showing(sink):
    """Send made-up results at a camera's pace."""

    def run(over: threading.Event) -> None:
        index = 0
        while not over.wait(1 / FRAMES_A_SECOND):
            sink(numbered_result(index))
            index += 1

    return in_thread(run)


def element(browser, name: str):
    return browser.find_element(By.ID, name)


def picture(browser) -> str:
    return browser.execute_script("return document.getElementById('picture').toDataURL('image/png')")


def inked(browser, selector: str) -> int:
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return sum(browser.execute_script(INKED, canvas) for canvas in found)


def console_messages(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def test_the_picture_moves_the_charts_fill_and_the_console_is_silent(browser, capsys):
    with page(capsys) as (sink, url), looping_on_the_clip(sink):
        browser.get(url)
        pictures = set()
        assert until(lambda: pictures.add(picture(browser)) or len(pictures) >= 6)
        charts = ("#faces canvas", "#disagreement", "#latency")
        assert until(lambda: all(inked(browser, chart) for chart in charts))
        before = [inked(browser, chart) for chart in charts]
        assert until(
            lambda: all(inked(browser, chart) > early + 20 for chart, early in zip(charts, before, strict=True))
        )
        assert "frames per second" in element(browser, "figures").text
        assert "dropped" in element(browser, "figures").text
        assert "happiness" in element(browser, "legend").text
        assert element(browser, "problem").text == ""
        assert not element(browser, "controls").is_displayed()
        if "SCREENSHOT" in os.environ:
            assert until(lambda: "2 faces" in element(browser, "figures").text)
            time.sleep(4)
            assert browser.save_screenshot(os.environ["SCREENSHOT"])
        assert console_messages(browser) == []


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
    controls = FakeControls(log)
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
        given = browser.execute_async_script("fetch('log').then((r) => r.text()).then(arguments[0])")
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
        assert until(lambda: "frames per second" in element(browser, "figures").text)
    assert until(lambda: "trying again" in element(browser, "problem").text)
    address = url.removeprefix("http://").strip("/")
    with page(capsys, address) as (sink, _), showing(sink):
        assert until(lambda: element(browser, "problem").text == "")
        pictures = set()
        assert until(lambda: pictures.add(picture(browser)) or len(pictures) >= 3)
