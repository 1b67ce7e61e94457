"""Pages of evaluations in a real browser: one that fills in by itself, a comparison, a report."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.app.dashboard.contrast import CuttableProxy
from tests.browser import follow, wait_until
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

# Of every image that the report shows: its width in pixels, 0 if it cannot be decoded.
_IMAGE_WIDTHS_SCRIPT = """
const done = arguments[arguments.length - 1];
const ids = [...document.querySelectorAll("use")].map((use) => use.getAttribute("href"));
const sources = ids.map((id) => document.querySelector(`${id} image`).href.baseVal);
const probes = sources.map((src) => Object.assign(new Image(), { src }));
Promise.allSettled(probes.map((probe) => probe.decode())).then(() => done(probes.map((probe) => probe.naturalWidth)));
"""


def wait_for_text(browser: Chrome, standing: str) -> None:
    """Until the page says so by itself."""
    wait_until(browser, lambda page: standing in page.find_element(By.ID, "standing").text)


def start_endless_training(client: Client, name: str) -> Evaluation:
    """No machine is fast enough to finish it before its page is open."""
    order: dict[str, Any] = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 0}
    return client.evaluations.create(
        schemes=["pixelwise"], attacks=[{"name": "itn", "epochs": 400}], name=name, **order
    )


def click_cancel(browser: Chrome) -> bool:
    """The button may be replaced at any moment while its evaluation runs: then this is called again."""
    browser.find_element(By.ID, "cancel").click()
    return True


def test_a_running_evaluation_fills_in_by_itself(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1}
        evaluation = client.evaluations.create(schemes=["ele"], attacks=["none", "fr"], name="seen live", **order)
    browser.get(f"{stack.url}/")
    follow(browser, browser.find_element(By.LINK_TEXT, "seen live"))
    assert browser.current_url.endswith(evaluation.id)
    browser.execute_script("window.mark = 'never loaded again'")
    wait_for_text(browser, "succeeded")
    assert browser.execute_script("return window.mark") == "never loaded again"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".heat td strong")) == 5, (
        "also of the attacks that the profile requires"
    )
    assert browser.find_elements(By.LINK_TEXT, "Report"), "the report is offered"
    assert not browser.find_elements(By.ID, "cancel"), "there is nothing left to cancel"


def test_a_lost_connection_is_reported_and_resumed(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        evaluation = start_endless_training(client, "cut off")
        with CuttableProxy(stack.url) as line:
            browser.get(f"{line.url}/dashboard/evaluations/{evaluation.id}")
            note = browser.find_element(By.ID, "connection")
            assert not note.is_displayed()
            line.cut()
            wait_until(browser, lambda _: note.is_displayed())
            evaluation.cancel()
            evaluation.wait(timeout=120)
            line.restore()
            wait_for_text(browser, "cancelled")
            wait_until(browser, lambda _: not note.is_displayed())
            events = browser.execute_script(
                "return performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('/events'))"
            )
            seconds = browser.execute_script("return performance.now() / 1000")
            assert len(events) <= 3 + math.log2(seconds), "no storm of requests while nobody answers: pauses double"
            browser.get("about:blank")  # or the line's end would cut the page off once more, after the log was read
    browser.get_log("browser")  # the cut itself is in it


def test_losses_are_seen_to_fall_and_a_cancel_ends_it(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        evaluation = start_endless_training(client, "too long")
    browser.get(f"{stack.url}/dashboard/evaluations/{evaluation.id}")
    wait_until(browser, lambda page: page.find_elements(By.CSS_SELECTOR, "#losses svg polyline"))
    wait_until(browser, lambda page: "epoch" in page.find_element(By.ID, "running").text)
    wait_until(browser, click_cancel)
    wait_for_text(browser, "cancelled")


def test_two_evaluations_are_compared_from_the_overview(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation, other_evaluation: Evaluation
) -> None:
    browser.get(f"{stack.url}/")
    compare = browser.find_element(By.ID, "compare-chosen")
    assert not compare.is_enabled()
    for id in (evaluation.id, other_evaluation.id):
        browser.find_element(By.CSS_SELECTOR, f"input[value={id}]").click()
    compare.click()
    wait_until(browser, lambda page: page.title.startswith("Compare"))
    differing = {row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "table:first-of-type tbody tr")}
    assert "seed" in differing
    assert "dataset" not in differing
    assert "key-recovery:" not in differing, "of an attack that only one has, nothing differs"
    assert "not requested" in browser.find_element(By.ID, "main").text, "key-recovery was ordered once"


def test_a_report_is_one_file_that_asks_for_nothing_and_prints(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation, tmp_path: Path
) -> None:
    with Client(stack.url, stack.token) as client:
        (tmp_path / "report.html").write_bytes(client.evaluations.get(evaluation.id).report())
    browser.get((tmp_path / "report.html").as_uri())
    assert "Do not rely on it" in browser.find_element(By.ID, "verdicts").text
    asked = browser.execute_script("return performance.getEntriesByType('resource').map((part) => part.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    widths = browser.execute_async_script(_IMAGE_WIDTHS_SCRIPT)
    assert widths
    assert all(widths)
    paper = {"paperWidth": 8.27, "paperHeight": 11.69}
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
