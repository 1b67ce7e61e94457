"""A real Chromium without a window: for the tests, for measuring the pages, and for pictures of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DRIVER = shutil.which("chromedriver")
DESKTOP, PHONE = (1280, 900), (390, 844)
_WAIT_S = 240.0  # for a machine under load; a wait ends as soon as its condition holds


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """`folder` holds its profile, and what it downloads."""
    options = ChromeOptions()
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(switch)
    options.add_argument(f"--user-data-dir={folder}")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def emulate_device(
    chrome: Chrome, *, phone: bool = False, dark: bool = False, window_height: int | None = None
) -> None:
    """What the person has before them: a desktop or a phone, light or dark; `high`: pixels of the window.

    Without motion: a colour that is still on its way from one look to the next is no colour of the page.
    """
    width, height = PHONE if phone else DESKTOP
    size = {"width": width, "height": window_height or height}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "deviceScaleFactor": 1, "mobile": phone})
    media_features = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in media_features.items()]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def console_errors(chrome: Chrome) -> list[str]:
    """What its console holds since it was last asked: broken policies, failed scripts and requests."""
    return [entry["message"] for entry in chrome.get_log("browser") if entry["level"] != "INFO"]


def wait_until(chrome: Chrome, condition: Callable[[Chrome], object]) -> None:
    """Wait for the page; a part of it that is being replaced counts as not there yet."""
    WebDriverWait(chrome, _WAIT_S, 0.1, ignored_exceptions=[StaleElementReferenceException]).until(condition)


def follow(chrome: Chrome, link: WebElement) -> None:
    """Click, and wait for the page that it leads to."""
    address = str(link.get_attribute("href"))
    link.click()
    wait_until(chrome, lambda page: page.current_url == address)


def sign_in(chrome: Chrome, url: str, token: str) -> None:
    """As a person does it who has the token."""
    chrome.get(f"{url}/sign-in")
    chrome.find_element(By.ID, "token").send_keys(token, Keys.ENTER)
    wait_until(chrome, lambda page: "/sign-in" not in page.current_url)
