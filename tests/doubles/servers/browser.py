"""Chromium for tests of pages: one browser that looks like a phone or a desktop, and what a test asks it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["SE_AVOID_STATS"] = "true"  # otherwise selenium's manager sends usage data

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from doubles.servers.page_client import until

DESKTOP, PHONE = (1280, 800), (390, 844)
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


@contextlib.contextmanager
def chromium_window() -> Iterator[Any]:
    """A new Chromium without a window, as selenium's driver."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


def start_anew(browser, downloads: Path) -> None:
    """An empty page on a desktop with light colours, and nothing in the console. Downloads go to that folder."""
    browser.get("about:blank")
    browser.get_log("browser")
    saved = {"behavior": "allow", "downloadPath": str(downloads)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", saved)
    look_like(browser, DESKTOP)


def look_like(browser, size: tuple[int, int], scheme: str = "light", motion: str = "no-preference") -> None:
    """Make the browser a phone or a desktop whose user prefers these colours, and reduced motion or not."""
    phone = size == PHONE
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def element(browser, name: str):
    return browser.find_element(By.ID, name)


def picture(browser) -> str:
    return browser.execute_script("return document.getElementById('picture').toDataURL('image/png')")


def inked(browser, selector: str) -> int:
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return sum(browser.execute_script(INKED, canvas) for canvas in found)


def text_of(browser, name: str) -> str:
    """The text of an element, also of one that is not displayed."""
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def press(browser, keys: str) -> None:
    """Press a key, wherever the focus is. A modifier comes first."""
    actions = ActionChains(browser)
    for modifier in keys[:-1]:
        actions.key_down(modifier)
    actions.send_keys(keys[-1])
    for modifier in keys[:-1]:
        actions.key_up(modifier)
    actions.perform()


def only_file(folder: Path, pattern: str) -> list[Path]:
    """The files that a finished download left in the folder."""
    assert until(lambda: list(folder.glob(pattern)) and not list(folder.glob("*.crdownload")))
    return list(folder.glob(pattern))


def console_messages(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]
