"""Keys and datasets: their pages in a real browser, and their forms."""

from __future__ import annotations

from pathlib import Path

import httpx
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from tests.browser import wait_until
from tests.sample_images import archive, classes
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack


def entry(name: str) -> str:
    """XPath of a dataset's entry in the list."""
    return f"//li[.//h2[text()='{name}']]"


def test_an_uploaded_zip_is_a_dataset_that_can_be_deleted(stack: LocalStack, browser: Chrome, tmp_path: Path) -> None:
    (tmp_path / "my colours.zip").write_bytes(archive(classes(5)))
    browser.get(f"{stack.url}/dashboard/datasets")
    browser.find_element(By.ID, "archive").send_keys(str(tmp_path / "my colours.zip"))
    wait_until(browser, lambda page: page.find_elements(By.XPATH, entry("my colours")))
    own = browser.find_element(By.XPATH, entry("my colours"))
    assert "not yet" in own.text, "no evaluation has used it"
    own.find_element(By.TAG_NAME, "summary").click()
    own.find_element(By.XPATH, ".//button[text()='Delete this dataset']").click()
    wait_until(browser, lambda page: not page.find_elements(By.XPATH, entry("my colours")))


def test_protected_images_are_uploaded_with_their_originals(stack: LocalStack, browser: Chrome, tmp_path: Path) -> None:
    for name in ("made elsewhere", "originals"):
        (tmp_path / f"{name}.zip").write_bytes(archive(classes(5)))
    browser.get(f"{stack.url}/dashboard/datasets")
    assert not browser.find_element(By.ID, "originals").is_displayed()
    Select(browser.find_element(By.ID, "kind")).select_by_value("protected")
    browser.find_element(By.ID, "originals").send_keys(str(tmp_path / "originals.zip"))
    browser.find_element(By.ID, "archive").send_keys(str(tmp_path / "made elsewhere.zip"))
    wait_until(browser, lambda page: page.find_elements(By.XPATH, entry("made elsewhere")))
    own = browser.find_element(By.XPATH, entry("made elsewhere"))
    assert "with originals" in own.text
    with Client(stack.url, stack.token) as client:
        client.datasets.delete(own.get_attribute("id"))


def test_a_dataset_shows_some_of_its_images_and_how_often_it_was_used(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation
) -> None:
    browser.get(f"{stack.url}/dashboard/datasets")
    sample = browser.find_element(By.ID, "sample")
    assert "Used in" in " ".join(sample.text.split())
    strip = sample.find_element(By.CSS_SELECTOR, "img.strip")
    wait_until(browser, lambda _: strip.get_property("naturalWidth") == 8 * 96)
    absent = browser.find_element(By.ID, "stl10")
    assert not absent.find_elements(By.TAG_NAME, "img"), "its images are not here"
    bearer = {"Authorization": f"Bearer {stack.token}"}
    for id, headers, status in (("stl10", bearer, 404), ("ds_0", bearer, 404), ("sample", {}, 401)):
        address = f"{stack.url}/dashboard/datasets/{id}/strip.png"
        assert httpx.get(address, headers=headers).status_code == status


def test_a_key_is_drawn_and_destroyed_after_a_second_thought(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/keys")
    Select(browser.find_element(By.ID, "entry")).select_by_visible_text("EtC")
    browser.find_element(By.XPATH, "//button[text()='Draw key']").click()
    wait_until(browser, lambda page: "#key_" in page.current_url)
    id = browser.current_url.rpartition("#")[2]
    key = browser.find_element(By.ID, id)
    assert "Used for 0 images" in " ".join(key.text.split())
    destroy = key.find_element(By.XPATH, ".//button[text()='Destroy this key']")
    assert not destroy.is_displayed()
    key.find_element(By.TAG_NAME, "summary").click()
    destroy.click()
    wait_until(browser, lambda page: page.current_url.endswith("/dashboard/keys"))
    assert not browser.find_elements(By.ID, id)


def test_forms_of_keys_refuse_what_is_not_theirs(stack: LocalStack) -> None:
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
