"""The dashboard in a real browser: signing in, a page that fills in by itself, phone and dark mode."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from app.client import Client
from app.local import LocalStack

DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    DRIVER is None and not os.environ.get("UNVEIL_REQUIRE_BROWSER"), reason="no Chromium with its driver here"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    options = ChromeOptions()
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={tmp_path}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


def test_the_page_of_a_running_evaluation_fills_in_by_itself(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1}
        evaluation = client.evaluations.create(schemes=["tanaka"], attacks=["none", "fr"], name="seen live", **order)
    browser.get(stack.sign_in_link())
    assert browser.current_url == f"{stack.url}/"
    browser.find_element(By.PARTIAL_LINK_TEXT, "seen live").click()
    assert browser.current_url.endswith(evaluation.id)
    browser.execute_script("window.mark = 'never loaded again'")
    WebDriverWait(browser, 150).until(lambda page: "succeeded" in page.find_element(By.ID, "live").text)
    assert browser.execute_script("return window.mark") == "never loaded again"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".heat td strong")) == 2
    assert browser.find_elements(By.LINK_TEXT, "html"), "the report is offered"
    pictures = browser.find_elements(By.CSS_SELECTOR, ".strips img")
    assert len(pictures) == 6

    browser.set_window_size(500, 900)  # Chromium's narrowest window
    wide = browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
    assert not wide, "on a phone only the table scrolls"

    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"

    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert complaints == [], "nothing breaks the policy on content"
