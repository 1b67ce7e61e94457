"""Pages of evaluations in a real browser: one that fills in by itself, a cell's pictures, a comparison."""

from __future__ import annotations

from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from app.client import Client, Evaluation
from app.local import LocalStack
from tests.app.dashboard.line import Line


def test_a_running_evaluation_fills_in_by_itself(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1}
        evaluation = client.evaluations.create(schemes=["ele"], attacks=["none", "fr"], name="seen live", **order)
    browser.get(f"{stack.url}/")
    browser.find_element(By.LINK_TEXT, "seen live").click()
    assert browser.current_url.endswith(evaluation.id)
    browser.execute_script("window.mark = 'never loaded again'")
    WebDriverWait(browser, 60).until(lambda page: "succeeded" in page.find_element(By.ID, "standing").text)
    assert browser.execute_script("return window.mark") == "never loaded again"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".heat td strong")) == 2
    assert browser.find_elements(By.LINK_TEXT, "Report"), "the report is offered"
    assert not browser.find_elements(By.ID, "cancel"), "there is nothing left to cancel"


def test_a_lost_connection_is_told_and_taken_up_again(stack: LocalStack, browser: Chrome) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 0}
        schemes = ["tanaka", "ele", "etc", {"name": "pixelwise", "key_mode": "different"}]
        evaluation = client.evaluations.create(schemes=schemes, attacks=["none", "fr"], name="cut off", **order)
        with Line(stack.url) as line:
            browser.get(f"{line.url}/dashboard/evaluations/{evaluation.id}")
            note = browser.find_element(By.ID, "connection")
            assert not note.is_displayed()
            line.cut()
            WebDriverWait(browser, 5).until(lambda _: note.is_displayed())
            evaluation.wait(timeout=60)
            line.mend()
            WebDriverWait(browser, 20).until(lambda page: "succeeded" in page.find_element(By.ID, "standing").text)
            WebDriverWait(browser, 5).until(lambda _: not note.is_displayed())
            events = browser.execute_script(
                "return performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('/events'))"
            )
            assert len(events) <= 6, "no storm of requests while nobody answers"
            browser.get("about:blank")  # or the line's end would cut the page off once more, after the log was read
    browser.get_log("browser")  # the cut itself is in it


def test_a_cell_shows_its_pictures_worst_or_best_first_and_enlarged(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    cell = next(cell for cell in evaluation.cells if cell.attack["name"] == "fr")
    browser.get(f"{stack.url}/dashboard/evaluations/{evaluation.id}/cells/{cell.id}")
    captions = [strip.text for strip in browser.find_elements(By.CSS_SELECTOR, ".strips > li > small")]
    browser.find_element(By.LINK_TEXT, "Worst first").click()
    again = [strip.text for strip in browser.find_elements(By.CSS_SELECTOR, ".strips > li > small")]
    assert len(captions) == 3
    assert again == captions[::-1]

    first = browser.find_element(By.CSS_SELECTOR, "[data-zoom]")
    first.send_keys(Keys.ENTER)
    pictures = browser.find_elements(By.CSS_SELECTOR, "#zoom-pictures img")
    assert len(pictures) == 3
    assert pictures[0].value_of_css_property("image-rendering") == "pixelated"
    assert pictures[0].size["width"] > 250
    caption = browser.find_element(By.ID, "zoom-caption")
    before = caption.text
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert caption.text != before
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not caption.is_displayed()
    assert len(browser.find_elements(By.CSS_SELECTOR, ".chart rect")) >= 1, "the histogram"


def test_two_evaluations_are_compared_from_the_overview(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation
) -> None:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 0, "seed": 7}
        other = client.evaluations.create(schemes=["tanaka"], attacks=["fr"], name="another seed", **order).wait(
            timeout=60
        )
    browser.get(f"{stack.url}/")
    compare = browser.find_element(By.ID, "compare-chosen")
    assert not compare.is_enabled()
    for id in (evaluation.id, other.id):
        browser.find_element(By.CSS_SELECTOR, f"input[value={id}]").click()
    compare.click()
    WebDriverWait(browser, 10).until(lambda page: page.title.startswith("Compare"))
    differing = {row.text.split()[0] for row in browser.find_elements(By.CSS_SELECTOR, "table:first-of-type tbody tr")}
    assert "seed" in differing
    assert "dataset" not in differing
    assert "not ordered" in browser.find_element(By.ID, "main").text, "key-recovery was ordered once"
