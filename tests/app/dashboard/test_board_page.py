"""The board in a browser."""

from __future__ import annotations

from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.app.board.boards import make_board, make_row
from tests.browser import emulate_device, follow
from unveil.app.board.site import write_site
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack

_VISIBLE_SCHEMES = """
return [...document.querySelectorAll("table.board tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[1].firstChild.textContent);
"""


def test_a_board_is_sorted_filtered_and_leads_to_the_cells(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    browser.get(f"{stack.url}/dashboard/board?dataset=sample")
    rows = browser.execute_script(_VISIBLE_SCHEMES)
    assert "Tanaka's scheme" in rows
    assert rows.count("Tanaka's scheme") == 2, "measured, and the paper's row"

    heading = browser.find_element(By.XPATH, "//th/button[text()='Scheme']")
    heading.click()
    assert browser.execute_script(_VISIBLE_SCHEMES) == sorted(rows, key=str.lower)
    heading.click()
    assert browser.execute_script(_VISIBLE_SCHEMES) == sorted(rows, key=str.lower, reverse=True)
    assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"

    browser.find_element(By.CSS_SELECTOR, "#board-filter [name=paper]").click()
    browser.find_element(By.CSS_SELECTOR, "#board-filter [name=text]").send_keys("TANAKA")
    assert browser.execute_script(_VISIBLE_SCHEMES) == ["Tanaka's scheme"]
    verdict = Select(browser.find_element(By.CSS_SELECTOR, "#board-filter [name=verdict]"))
    verdict.select_by_visible_text("no leak found")
    assert browser.execute_script(_VISIBLE_SCHEMES) == []

    browser.get(f"{stack.url}/dashboard/board?dataset=sample&threat_model=ciphertext-only")
    follow(browser, browser.find_element(By.CSS_SELECTOR, "table.board tbody td a"))
    assert "/cells/cell_" in browser.current_url


def test_a_published_board_fits_a_phone(browser: Chrome, tmp_path: Path) -> None:
    headline = "broken with 4 pairs of original and protected images in under 0.1 s"
    write_site(make_board(make_row("a-scheme-with-a-long-name", "broken", headline=headline)), tmp_path)
    browser.get(f"file://{tmp_path}/index.html")
    emulate_device(browser, phone=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
