"""What the pages weigh, how soon they can be used, and what axe-core finds on them: in a headless Chromium, on a
running stack that has an evaluation or two: `python -m benchmarks.pages --state .state/up`.

Weight: all that the page loads, uncompressed, without images. Interactive: from asking for the page until its scripts
have run, the middle of five loads without a cache. Exit status 0: within 200 kB and a second, no serious violation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import chromium, console_errors, emulate_device, sign_in
from tests.pages import DOCUMENTS, PAGES, filter_serious, page_metrics, page_paths, violations
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation

_LOADS = 5
_MAX_WEIGHT_KB, _MAX_INTERACTIVE_S = 200.0, 1.0


@dataclass(frozen=True)
class PageMeasurement:
    name: str
    weight_kb: float
    images_kb: float
    interactive_s: float
    violations: list[str]  # by axe, on a desktop and a phone, light and dark
    complaints: list[str]  # of the console

    @property
    def passed(self) -> bool:
        light = self.weight_kb <= _MAX_WEIGHT_KB and self.interactive_s <= _MAX_INTERACTIVE_S
        return light and not filter_serious(self.violations) and not self.complaints


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages")
    parser.add_argument("--state", type=Path, default=Path(".state/up"), help="folder of a running `unveil local`")
    args = parser.parse_args()
    url, token = ((args.state / name).read_text().strip() for name in ("address", "token"))
    console, load = Console(soft_wrap=True), os.getloadavg()[0]
    with Client(url, token) as client, tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as chrome:
        paths = {"sign-in": "/sign-in", **page_paths({**PAGES, **DOCUMENTS}, *_two_evaluations(client))}
        chrome.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        measurements = [_measure(chrome, "sign-in", url + paths.pop("sign-in"))]
        sign_in(chrome, url, token)
        measurements += [_measure(chrome, name, url + path) for name, path in paths.items()]
        protected = sorted(_time_playground(chrome, url))
    console.print(_table(measurements))
    for line in (f"{row.name}: {each}" for row in measurements for each in (*row.violations, *row.complaints)):
        console.print(line)
    console.print(f"playground: a picture under every scheme after {protected[0]:.2f} to {protected[-1]:.2f} s")
    console.print(f"load at the start {load:.1f}, at the end {os.getloadavg()[0]:.1f}")
    return 0 if all(row.passed for row in measurements) else 1


def _two_evaluations(client: Client) -> list[Evaluation]:
    """The newest two that are done; of what is missing, small ones are made."""
    ids = [each["id"] for each in client.evaluations.list() if each["status"] == "succeeded"][:2]
    evaluations = [client.evaluations.get(id) for id in ids]
    for seed in range(len(evaluations), 2):
        order: dict[str, Any] = {"dataset": "sample", "profile": "smoke", "keys": 1, "seed": seed}
        evaluation = client.evaluations.create(schemes=["tanaka", "pixelwise"], attacks=["none", "fr"], **order)
        evaluations.append(evaluation.wait(timeout=600))
    return evaluations


def _measure(chrome: Chrome, name: str, address: str) -> PageMeasurement:
    emulate_device(chrome)
    loads = []
    for _ in range(_LOADS):
        chrome.get(address)
        WebDriverWait(chrome, 30).until(lambda page: page.execute_script("return document.readyState") == "complete")
        loads.append(page_metrics(chrome))
    console_messages = console_errors(chrome)
    page_violations = [each for view in _views(chrome) for each in violations(view)]
    return PageMeasurement(
        name,
        max(load["weight"] for load in loads),
        max(load["images"] for load in loads),
        statistics.median(load["interactive"] for load in loads),
        list(dict.fromkeys(page_violations)),
        [] if name == "no such page" else console_messages,  # the console tells its 404
    )


def _views(chrome: Chrome) -> Iterator[Chrome]:
    for phone in (False, True):
        for dark in (False, True):
            emulate_device(chrome, phone=phone, dark=dark)
            yield chrome


def _time_playground(chrome: Chrome, url: str) -> Iterator[float]:
    """Seconds that the playground says, for each of its photographs; the first one warms it up and counts not."""
    emulate_device(chrome)
    chrome.get(f"{url}/dashboard/playground")
    status_element = chrome.find_element(By.ID, "status")
    for button in chrome.find_elements(By.CSS_SELECTOR, "[data-photograph]"):
        button.click()
        WebDriverWait(chrome, 120).until(lambda _: " schemes in " in status_element.text)
        words = status_element.text.split()
        if button.get_attribute("data-photograph") != "astronaut":
            yield float(words[words.index("in") + 1])
        chrome.execute_script("arguments[0].textContent = ''", status_element)


def _table(rows: list[PageMeasurement]) -> Table:
    table = Table("page", "weight", "images", "interactive", "axe: serious", "axe: others", "console")
    for row in rows:
        serious_violations = filter_serious(row.violations)
        table.add_row(
            row.name, f"{row.weight_kb:.0f} kB", f"{row.images_kb:.0f} kB", f"{1000 * row.interactive_s:.0f} ms",
            str(len(serious_violations)), str(len(row.violations) - len(serious_violations)), str(len(row.complaints)),
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
