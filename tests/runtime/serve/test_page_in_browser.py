"""The page in a real browser, over the real loop on the bundled clip.

`SCREENSHOT=docs/serve.png pytest tests/runtime/serve/test_page_in_browser.py` takes the pictures for the docs:
docs/serve.png, and docs/serve_phone.png on a phone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="pip install 'iern[serve]'")
pytest.importorskip("selenium", reason="pip install selenium")

import cv2
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import iern
from doubles.servers.browser import (
    DESKTOP,
    PHONE,
    console_messages,
    element,
    inked,
    look_like,
    only_file,
    picture,
    press,
    text_of,
)
from doubles.servers.page_client import fetch, in_thread, until
from iern.runtime.app.command_line import parse
from iern.runtime.app.frame_analyzer import FrameAnalyzer
from iern.runtime.app.loop import run_loop
from iern.runtime.app.page import loop_page
from iern.runtime.app.wiring import recorded
from iern.runtime.backends.onnx import open_session
from iern.runtime.bundled import DEMO_CLIP, MODEL
from iern.runtime.faces.detector import FaceDetector
from iern.runtime.outputs.records import json_lines
from iern.runtime.outputs.video.recording_switch import RecordingSwitch
from iern.runtime.recognizer import ExpressionRecognizer
from iern.runtime.sources.open_source import open_source
from iern.runtime.system.latency import LoopStats
from repository import PHOTOS

pytestmark = pytest.mark.slow

FRAMES_A_SECOND = 12


@contextlib.contextmanager
def loop_on_the_clip(capsys, folder):
    """The real loop on the bundled clip, over and over, at a camera's pace, with its page: yields the address."""
    options, log = parse(["--serve", "0", "--jsonl", str(folder / "answers.jsonl")]), folder / "answers.jsonl"
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(MODEL))
        analyzer = FrameAnalyzer(FaceDetector(), session)
        source = stack.enter_context(open_source(str(DEMO_CLIP)))
        records = stack.enter_context(json_lines(log))
        opened = functools.partial(recorded, source=source)
        recorder = stack.enter_context(RecordingSwitch(opened, folder))
        sink = stack.enter_context(loop_page(options, source, recorder, analyzer))
        url = re.search(r"http://\S+", capsys.readouterr().out)[0]

        def run(over: threading.Event) -> None:
            def keep_pace(_):
                if over.wait(1 / FRAMES_A_SECOND):
                    played.stop()

            while not over.is_set():
                with open_source(str(DEMO_CLIP)) as played:
                    sinks = [records, recorder, sink, keep_pace]
                    run_loop(played, analyzer, sinks, LoopStats(), on_each_iteration=[recorder.update])

        stack.enter_context(in_thread(run))
        yield url


def test_the_page_shows_the_loop_explains_itself_and_its_controls_work(browser, capsys, tmp_path):
    with loop_on_the_clip(capsys, tmp_path) as url:
        browser.get(url)
        pictures = set()
        assert until(lambda: pictures.add(picture(browser)) or len(pictures) >= 6)
        charts = ("#faces canvas", "#disagreement", "#latency")
        assert until(lambda: all(inked(browser, chart) for chart in charts))
        for figure in ("fps", "processing", "age", "dropped"):
            assert re.search(r"\d", element(browser, figure).text)
        assert until(lambda: element(browser, "problem").text == "")
        take_screenshots(browser)
        every_control_has_a_name_for_a_screen_reader(browser)
        by_keyboard_a_term_is_explained(browser)
        the_about_names_what_runs(browser)
        the_picture_is_saved_as_it_was_sent(browser, tmp_path / "saved")
        a_recording_is_downloaded(browser, tmp_path)
        a_photo_is_read(browser)
        the_switches_and_the_slider_change_the_loop(browser, url)
        no_layout_is_wider_than_its_screen(browser)
        assert console_messages(browser) == []


def take_screenshots(browser) -> None:
    """Write the pictures of the docs if they are asked for: the file SCREENSHOT, and the same with `_phone`."""
    if "SCREENSHOT" not in os.environ:
        return
    path = Path(os.environ["SCREENSHOT"])
    for size, name in ((DESKTOP, path.name), (PHONE, f"{path.stem}_phone{path.suffix}")):
        look_like(browser, size)
        assert until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#faces li")) == 2)
        time.sleep(4)
        assert browser.save_screenshot(str(path.with_name(name)))
    look_like(browser, DESKTOP)


def every_control_has_a_name_for_a_screen_reader(browser) -> None:
    """By Chromium's own accessibility tree, which screen readers get."""
    assert until(lambda: element(browser, "record").is_displayed())
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    found = [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes if "role" in node]
    roles = ("button", "switch", "slider", "link", "combobox", "image", "heading", "region")
    named = [(role, name) for role, name in found if role in roles]
    assert {"button", "switch", "slider", "link", "image", "heading", "region"} <= {role for role, _ in named}
    assert not [role for role, name in named if not name]
    assert {("switch", "Blur faces"), ("switch", "Drawings"), ("slider", "Smoothing")} <= set(named)


def by_keyboard_a_term_is_explained(browser) -> None:
    browser.execute_script("document.getElementById('picture').scrollIntoView()")
    browser.find_element(By.CSS_SELECTOR, "#figures .term").send_keys("")  # sets the focus
    press(browser, Keys.SHIFT + Keys.TAB)
    press(browser, Keys.TAB)
    tip = element(browser, "tip")
    assert tip.is_displayed()
    assert tip.text == text_of(browser, "term-fps")
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"
    described = browser.execute_script("return document.activeElement.getAttribute('aria-describedby')")
    assert described == "term-fps"
    press(browser, Keys.ESCAPE)
    assert not tip.is_displayed()
    ActionChains(browser).move_to_element(browser.find_element(By.CSS_SELECTOR, "#dependence .term")).perform()
    assert until(lambda: tip.text == text_of(browser, "term-disagreement"), 5)
    ActionChains(browser).move_to_element(element(browser, "picture")).perform()
    assert until(lambda: not tip.is_displayed(), 5)


def the_about_names_what_runs(browser) -> None:
    element(browser, "about-open").click()
    about = element(browser, "about").text
    assert f"IERN {iern.__version__}, model {MODEL.name} on cpu" in about
    with open_session(MODEL) as session:
        artifact = session.artifact
    assert f"({', '.join(artifact.strata)})" in about
    assert f"a new name needs {100 * artifact.threshold:.0f} %" in about
    press(browser, Keys.ESCAPE)
    assert not element(browser, "about").is_displayed()
    focused = browser.execute_script("return document.activeElement.id")
    assert focused == "about-open", "the keyboard is where it was"


def the_picture_is_saved_as_it_was_sent(browser, folder: Path) -> None:
    element(browser, "snapshot").click()
    (path,) = only_file(folder, "iern_*.jpg")
    saved = cv2.imread(str(path))
    assert saved.shape[:2] == tuple(browser.execute_script("const c = picture; return [c.height, c.width]"))
    assert saved.std() > 20


def a_recording_is_downloaded(browser, folder: Path) -> None:
    record = element(browser, "record")
    record.click()
    assert until(lambda: record.text == "Stop recording")
    assert until(lambda: [path for path in folder.glob("iern_*.webm") if path.stat().st_size])
    record.click()
    assert until(lambda: record.text == "Record")
    assert until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#file-list a")) == 2)
    log, video = browser.find_elements(By.CSS_SELECTOR, "#file-list a")
    assert log.text == "answers.jsonl"
    video.click()
    (got,) = only_file(folder / "saved", "*.webm")
    assert got.read_bytes() == (folder / video.text).read_bytes()


def a_photo_is_read(browser) -> None:
    path = PHOTOS / "astronaut.jpg"
    element(browser, "photo-file").send_keys(str(path))
    assert until(lambda: browser.find_elements(By.CSS_SELECTOR, "#photo-faces li"))
    with ExpressionRecognizer(MODEL, precision="fp32") as recognizer:
        (face,) = recognizer(path)
    (line,) = browser.find_elements(By.CSS_SELECTOR, "#photo-faces li")
    assert line.text.startswith(f"1. {face.expression} {100 * face.probability:.0f} %")
    drop = """
        const transfer = new DataTransfer();
        transfer.items.add(new File(["no picture"], "notes.txt", {type: "text/plain"}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    """
    browser.execute_script(drop)
    assert until(lambda: "Not read: image: found no picture" in element(browser, "photo-status").text)
    # The console repeats every refusal of a request. It must hold this one alone.
    assert ["photo" in message and "415" in message for message in console_messages(browser)] == [True]
    element(browser, "photo-clear").click()
    assert not element(browser, "photo-picture").is_displayed()


def the_switches_and_the_slider_change_the_loop(browser, url: str) -> None:
    def controls() -> dict:
        return json.loads(fetch(f"{url}state").text)["controls"]

    element(browser, "blur").click()
    assert until(lambda: controls()["blur"])
    element(browser, "overlay").send_keys(Keys.SPACE)
    assert until(lambda: not controls()["overlay"])
    before = controls()["half_life"]
    element(browser, "half-life").send_keys(Keys.ARROW_RIGHT)
    assert until(lambda: controls()["half_life"] == pytest.approx(before + 0.05))
    assert until(lambda: element(browser, "half-life-value").text == f"{before + 0.05:.2f} s")
    assert element(browser, "overlay").is_selected() is False


def no_layout_is_wider_than_its_screen(browser) -> None:
    for size in (PHONE, DESKTOP, (320, 568)):
        for scheme, dark in (("light", False), ("dark", True)):
            look_like(browser, size, scheme)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= size[0], size
            ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (int(re.findall(r"\d+", ground)[0]) < 128) is dark
    look_like(browser, DESKTOP)
