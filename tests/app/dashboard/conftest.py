"""One browser, signed in, and one finished evaluation for all tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from app.client import Client, Evaluation
from app.local import LocalStack

DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="session")
def evaluation(stack: LocalStack) -> Evaluation:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 3}
        attacks = ["none", "fr", {"name": "key-recovery", "ciphertexts": 4, "curve": False}]
        made = client.evaluations.create(schemes=["tanaka", "etc"], attacks=attacks, name="<b>bold</b>", **order)
        return made.wait(timeout=150)


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if DRIVER is None and not os.environ.get("UNVEIL_REQUIRE_BROWSER"):
        pytest.skip("no Chromium with its driver here")
    options = ChromeOptions()
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chrome')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chrome: Chrome, stack: LocalStack) -> Iterator[Chrome]:
    """Signed in, on a desktop; a page that breaks the policy on content, or whose script fails, fails its test."""
    chrome.get(f"{stack.url}/sign-in")
    if chrome.get_cookie("unveil_session") is None:
        chrome.get(stack.sign_in_link())
    look(chrome)
    yield chrome
    complaints = [entry["message"] for entry in chrome.get_log("browser") if entry["level"] != "INFO"]
    assert complaints == []


def look(chrome: Chrome, *, phone: bool = False, dark: bool = False) -> None:
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": phone})
    scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
