"""Pages for who cannot see well, cannot point, or holds a phone; and for a slow line."""

from __future__ import annotations

import re

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from tests.browser import console_errors, emulate_device, wait_until
from tests.pages import DOCUMENTS, PAGES, page_metrics, page_paths, violations
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

# Of an evaluation whose name, and that of its upload, are one word each, as long as names may be.
LONG = {
    "evaluation of an upload": "/dashboard/evaluations/{other}",
    "report of an upload": "/evaluations/{other}/report.html",
}

_FOCUS_SCRIPT = """
const element = document.activeElement;
if (element === document.body) return null;
const seen = element.closest(".drop") || element;
const place = seen.getBoundingClientRect();
return {
  outlined: getComputedStyle(seen).outlineStyle !== "none",
  inside: place.bottom > 0 && place.top < innerHeight && place.right > 0 && place.left < innerWidth,
  html: element.outerHTML.slice(0, 200),
};
"""

# Names of lines that are wider than their own cells.
_OVERFLOW_SCRIPT = """
return [...document.querySelectorAll("tbody th")]
  .filter((name) => name.scrollWidth > name.clientWidth)
  .map((name) => name.textContent.slice(0, 200));
"""


@pytest.mark.parametrize("name", [*PAGES, *DOCUMENTS, *LONG])
def test_a_page_is_light_fits_a_phone_and_has_nothing_that_axe_objects_to(
    name: str, browser: Chrome, stack: LocalStack, evaluation: Evaluation, other_evaluation: Evaluation
) -> None:
    path = page_paths({**PAGES, **DOCUMENTS, **LONG}, evaluation, other_evaluation)[name]
    browser.get(stack.url + path)
    if name == "no such page":
        assert all("404" in line for line in console_errors(browser))
    check_page(browser)


@pytest.fixture(scope="module")
def shared_pages(stack: LocalStack, evaluation: Evaluation) -> dict[str, str]:
    """The addresses behind share links with and without images, and one behind a link that has ended."""
    (cell, *_) = page_paths({"cell": "{cell}"}, evaluation, evaluation).values()
    pages = {"ended link": f"{stack.url}/shared/{'x' * 43}"}
    with Client(stack.url, stack.token) as client:
        for name, images in (("", True), (" without images", False)):
            link = client.evaluations.get(evaluation.id).share(images=images)["url"]
            pages[f"evaluation{name}"] = link
            pages[f"cell{name}"] = f"{link}/cells/{cell}"
            pages[f"report{name}"] = f"{link}/report.html"
    return pages


@pytest.mark.parametrize(
    "name",
    ["evaluation", "evaluation without images", "cell", "cell without images", "report", "report without images",
     "ended link"],
)  # fmt: skip
def test_a_page_behind_a_share_link_is_light_fits_a_phone_and_has_nothing_that_axe_objects_to(
    name: str, browser: Chrome, shared_pages: dict[str, str]
) -> None:
    browser.delete_all_cookies()  # a reader has no account
    browser.get(shared_pages[name])
    if name == "ended link":
        assert all("404" in line for line in console_errors(browser))
    check_page(browser)
    shown = browser.find_elements(By.CSS_SELECTOR, "[src*='/samples/'], use[href^='#image']")
    assert bool(shown) is (name in ("evaluation", "cell", "report"))


def check_page(browser: Chrome) -> None:
    """On a desktop, and on a phone in the dark: `python -m benchmarks.pages` has all four views."""
    assert page_metrics(browser)["weight"] < 200
    for view in ({}, {"phone": True, "dark": True}):
        emulate_device(browser, **view)
        assert violations(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script(_OVERFLOW_SCRIPT) == [], "a scheme's name over what stands beside it"


def test_the_sign_in_has_nothing_that_axe_objects_to(browser: Chrome, stack: LocalStack) -> None:
    browser.get(f"{stack.url}/sign-in")
    assert violations(browser) == []


@pytest.mark.timeout(600)
def test_from_the_sign_in_to_a_report_by_keyboard_alone(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    browser.delete_all_cookies()
    browser.get(f"{stack.url}/dashboard/playground")
    press(browser, stack.token, Keys.ENTER)  # the field has the focus
    wait_until(browser, lambda page: page.find_elements(By.ID, "file"))

    tab_to(browser, "[data-photograph=cat]")
    press(browser, Keys.ENTER)
    said = browser.find_element(By.ID, "status")
    # Each preview makes the page longer, which can move what has the focus out of the window.
    wait_until(browser, lambda _: "The attacks have finished" in said.text)
    tab_to(browser, "[data-is=decrypt]")
    press(browser, Keys.ENTER)
    undone = browser.find_element(By.CSS_SELECTOR, "[data-is=decrypt-status]")
    wait_until(browser, lambda _: "identical to your image in every pixel" in undone.text)

    tab_to(browser, ".pages a[href='/']")
    press(browser, Keys.ENTER)
    wait_until(browser, lambda page: page.find_elements(By.ID, "list"))
    tab_to(browser, f"a[href$={evaluation.id}]")
    press(browser, Keys.ENTER)
    wait_until(browser, lambda page: page.find_elements(By.ID, "actions"))
    tab_to(browser, "#actions [href*=from]")
    press(browser, Keys.ENTER)
    wait_until(browser, lambda page: re.match(r"\d+ cells", page.find_element(By.ID, "preview").text))
    tab_to(browser, "#start")
    press(browser, Keys.ENTER)
    wait_until(browser, lambda page: page.find_elements(By.ID, "standing"))
    assert "smoke" in browser.find_element(By.CSS_SELECTOR, ".facts").text
    wait_until(browser, lambda page: "succeeded" in page.find_element(By.ID, "standing").text)
    tab_to(browser, "#actions a")
    press(browser, Keys.ENTER)
    wait_until(browser, lambda page: page.current_url.endswith("report.html"))
    assert "What an attacker recovers" in browser.find_element(By.ID, "verdicts").text


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(browser: Chrome, wanted: str, most: int = 120) -> None:
    """Press Tab until the focus is there, around the page if need be; every stop must be seen to have the focus."""
    for _ in range(most):
        if browser.execute_script("return document.activeElement.matches(arguments[0])", wanted):
            return
        press(browser, Keys.TAB)
        stop = browser.execute_script(_FOCUS_SCRIPT)
        assert stop is None or (stop["outlined"] and stop["inside"]), stop
    raise AssertionError(f"{most} times Tab do not lead to {wanted}")
