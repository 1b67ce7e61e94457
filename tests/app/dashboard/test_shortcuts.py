"""Keyboard shortcuts, copy buttons, the search and the navigation, in a real browser."""

from __future__ import annotations

from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from tests.browser import wait_until
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

_RECORD_LABELS_SCRIPT = """
const button = document.querySelector(".facts .copy");
window.labels = [];
new MutationObserver(() => window.labels.push(button.textContent)).observe(button, {childList: true});
"""


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def wait_for_path(browser: Chrome, path: str) -> None:
    wait_until(browser, lambda page: page.execute_script("return location.pathname") == path)


def test_letters_lead_through_the_dashboard_and_can_be_switched_off(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation
) -> None:
    browser.get(f"{stack.url}/dashboard/keys")
    press(browser, "g", "e")
    wait_for_path(browser, "/")
    wait_until(browser, lambda page: page.find_elements(By.ID, "search"))
    press(browser, "/")
    press(browser, "bold", Keys.ENTER)
    wait_until(browser, lambda page: "q=bold" in page.current_url)
    entries = browser.find_elements(By.CSS_SELECTOR, ".list .name")
    assert {entry.text for entry in entries} == {evaluation.name}, "the search, whose letters are no shortcuts"
    places = [entry.get_attribute("href") for entry in entries]  # other tests may have repeated the evaluation
    down = 1 + places.index(f"{stack.url}/dashboard/evaluations/{evaluation.id}")
    press(browser, *["j"] * down, Keys.ENTER)
    wait_for_path(browser, f"/dashboard/evaluations/{evaluation.id}")
    current = browser.find_element(By.CSS_SELECTOR, ".pages [aria-current]")
    assert current.text == "Evaluations", "the page below it belongs to its entry"

    press(browser, "?")
    dialog = browser.find_element(By.ID, "shortcuts")
    assert dialog.is_displayed()
    dialog.find_element(By.ID, "shortcuts-on").click()
    press(browser, Keys.ESCAPE)
    press(browser, "n")
    assert browser.current_url.endswith(evaluation.id)
    browser.execute_script("localStorage.clear()")


def test_an_entry_of_the_navigation_keeps_its_place_when_it_becomes_current(stack: LocalStack, browser: Chrome) -> None:
    places = "return [...document.querySelectorAll('.pages a')].map((entry) => entry.getBoundingClientRect().left)"
    found = []
    for path in ("/dashboard/keys", "/dashboard/evaluations/new"):  # a short page, and one with a scrollbar
        browser.get(stack.url + path)
        found.append(browser.execute_script(places))
    assert found[0] == found[1]


def test_an_id_is_copied(stack: LocalStack, browser: Chrome, evaluation: Evaluation) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/{evaluation.id}")
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": stack.url}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    browser.execute_script(_RECORD_LABELS_SCRIPT)  # the button says so for two seconds only
    browser.find_element(By.CSS_SELECTOR, ".facts .copy").click()
    wait_until(browser, lambda page: page.execute_script("return window.labels.length"))
    assert browser.execute_script("return window.labels[0]") == "Copied"
    assert browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])") == evaluation.id
