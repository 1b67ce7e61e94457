"""The form of a new evaluation in a real browser; keys and data sets by their forms."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import httpx
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from app.client import Client
from app.local import LocalStack


def choose(browser: Chrome, value: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f"input[value='{value}']").click()


def test_the_form_says_what_an_order_makes_and_starts_it(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: "2 cells" in preview.text)
    choose(browser, '{"name": "etc"}')
    choose(browser, "key-recovery")
    choose(browser, "smoke")
    WebDriverWait(browser, 10).until(lambda _: "5 cells" in preview.text)  # none, fr on both; key recovery on one
    assert "does not apply: knows the structure" in preview.text
    assert "ciphertext-only" in preview.text
    assert "on one worker" in preview.text
    shown = [code.get_attribute("textContent") for code in preview.find_elements(By.CSS_SELECTOR, "pre code")]
    assert '"profile": "smoke"' in shown[0]
    assert shown[0] in shown[1], "curl sends the same JSON"
    compile(shown[2], "shown", "exec")

    browser.find_element(By.ID, "start").click()
    WebDriverWait(browser, 10).until(lambda page: re.search(r"/evaluations/ev_", page.current_url))
    id = browser.current_url.rpartition("/")[2]
    with Client(stack.url, stack.token) as client:
        ordered = client.evaluations.get(id)
        assert {cell.scheme["name"] for cell in ordered.cells} == {"tanaka", "etc"}
        ordered.cancel()


def test_what_cannot_be_ordered_is_said_before_it_is_sent(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: "2 cells" in preview.text)
    choose(browser, "none")
    choose(browser, "fr")
    WebDriverWait(browser, 10).until(lambda _: "at least one scheme and one attack" in preview.text)
    assert not browser.find_element(By.ID, "start").is_enabled()


def test_an_uploaded_zip_is_a_data_set_that_can_be_deleted(stack: LocalStack, browser: Chrome, tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for i in range(10):
            picture = io.BytesIO()
            Image.new("RGB", (96, 96), (20 * i, 90, 40)).save(picture, "PNG")
            archive.writestr(f"colours/{i}.png", picture.getvalue())
    (tmp_path / "my colours.zip").write_bytes(held.getvalue())
    browser.get(f"{stack.url}/dashboard/datasets")
    browser.find_element(By.ID, "archive").send_keys(str(tmp_path / "my colours.zip"))
    WebDriverWait(browser, 30).until(lambda page: page.find_elements(By.XPATH, "//h2[text()='my colours']"))
    browser.find_element(By.XPATH, "//summary[text()='Delete …']").click()
    browser.find_element(By.XPATH, "//button[text()='Delete this data set']").click()
    assert not browser.find_elements(By.XPATH, "//h2[text()='my colours']")


def test_a_key_is_drawn_listed_and_destroyed_by_forms(stack: LocalStack) -> None:
    with httpx.Client(base_url=stack.url, headers={"Origin": stack.url}) as visitor:
        visitor.post("/sign-in", data={"token": stack.token})
        made = visitor.post("/dashboard/keys", data={"entry": "0"})
        id = made.headers["Location"].rpartition("#")[2]
        assert id in visitor.get("/dashboard/keys").text
        assert visitor.post("/dashboard/keys", data={"entry": "999"}).status_code == 422
        foreign = visitor.post(f"/dashboard/keys/{id}/destroy", headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403
        assert visitor.post(f"/dashboard/keys/{id}/destroy").status_code == 303
        assert id not in visitor.get("/dashboard/keys").text
        assert visitor.post(f"/dashboard/keys/{id}/destroy").status_code == 410
