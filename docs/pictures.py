"""Takes the screenshots in docs/pictures from a running stack: `make up`, then `python -m docs.pictures`.

Creates the evaluations that it shows, on the dataset `sample` and the playground's example images. Needs Chromium.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import chromium, emulate_device, sign_in
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation

OUTPUT_FOLDER = Path(__file__).parent / "pictures"
_QUALITY = 90  # of WebP: a palette of 256 colours would posterise photographs and change the colours of the heat map
_MARGIN_PIXELS = 12
_LOADED = "return [...document.images].every((image) => !image.src || image.closest('[hidden]') || image.naturalWidth)"
_BETWEEN = """
const [first, last] = [...arguments].map((selector) => document.querySelector(selector).getBoundingClientRect());
return [first.top + scrollY, last.bottom + scrollY];
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.pictures")
    parser.add_argument("--state", type=Path, default=Path(".state/up"), help="folder of a running `unveil local`")
    args = parser.parse_args()
    url, token = ((args.state / name).read_text().strip() for name in ("address", "token"))
    OUTPUT_FOLDER.mkdir(exist_ok=True)
    with Client(url, token) as client, tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as chrome:
        evaluation = _create_evaluation(client)
        chrome.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})  # applies from the next page on
        sign_in(chrome, url, token)
        take_screenshot = partial(_take_screenshot, chrome)
        _run_playground(chrome, f"{url}/dashboard/playground")
        take_screenshot("playground", "#protected", ".previews:nth-of-type(4)")
        page = f"{url}/dashboard/evaluations/{evaluation.id}"
        chrome.get(page)
        take_screenshot("evaluation", ".crumbs", ".scale")
        cell = next(each for each in evaluation.cells if each.attack["name"] == "fr")
        chrome.get(f"{page}/cells/{cell.id}")
        take_screenshot("cell", ".crumbs", ".charts")
        chrome.get(f"{url}/evaluations/{evaluation.id}/report.html")
        take_screenshot("report", "header", "#verdicts")
        chrome.get(f"{url}/dashboard/evaluations/new")
        WebDriverWait(chrome, 60).until(lambda page: "on one worker" in page.find_element(By.ID, "preview").text)
        take_screenshot("new-evaluation", "h1", "[aria-labelledby=holds-1]")


def _create_evaluation(client: Client) -> Evaluation:
    """Creates the evaluation, or returns that of an earlier run on this stack."""
    attacks: list[str | dict[str, Any]] = ["none", "fr", {"name": "key-recovery", "ciphertexts": 16}, "known-plaintext"]
    pixelwise = [{"name": "pixelwise", "key_mode": mode} for mode in ("same", "different")]
    settings: dict[str, Any] = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 6, "name": "first audit"}
    evaluation = client.evaluations.create(
        schemes=[*pixelwise, "tanaka", "etc"], attacks=attacks, idempotency_key="docs-pictures", **settings
    )
    return evaluation.wait(timeout=3600, progress=True)


def _run_playground(chrome: Chrome, address: str) -> None:
    emulate_device(chrome)
    chrome.get(address)
    chrome.find_element(By.CSS_SELECTOR, "[data-photograph=cat]").click()
    status_element = chrome.find_element(By.ID, "status")
    WebDriverWait(chrome, 1800).until(lambda _: "have finished" in status_element.text)
    assert not chrome.find_elements(By.XPATH, "//button[text()='Try again']"), (
        "a preview timed out: raise UNVEIL_ENCRYPT_TIMEOUT_S"
    )


def _take_screenshot(chrome: Chrome, name: str, first: str, last: str) -> None:
    """Save the page from the top of one element to the bottom of another, at full width."""
    emulate_device(chrome, window_height=6000)  # lazy images outside the window would not load
    WebDriverWait(chrome, 60).until(lambda page: page.execute_script(_LOADED))
    top, bottom = chrome.execute_script(_BETWEEN, first, last)
    clip = {
        "x": 0,
        "y": max(0, top - _MARGIN_PIXELS),
        "width": 1280,
        "height": bottom - top + 2 * _MARGIN_PIXELS,
        "scale": 1,
    }
    shot = chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    with Image.open(io.BytesIO(base64.b64decode(shot["data"]))) as image:
        image.convert("RGB").save(OUTPUT_FOLDER / f"{name}.webp", quality=_QUALITY, method=6)
    emulate_device(chrome)


if __name__ == "__main__":
    main()
