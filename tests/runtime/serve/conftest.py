"""One Chromium for all tests of the page. Without it these tests are skipped."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """The browser of all tests."""
    pytest.importorskip("selenium", reason="pip install selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("apt-get install chromium chromium-driver")
    from doubles.servers.browser import chromium_window

    with chromium_window() as driver:
        yield driver


@pytest.fixture
def browser(chromium, tmp_path):
    """The browser on an empty page. It saves what it downloads into the folder `saved`."""
    from doubles.servers.browser import start_anew

    start_anew(chromium, tmp_path / "saved")
    return chromium
