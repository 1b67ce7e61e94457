"""The form of a new evaluation in a real browser."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.sample_images import archive, classes
from unveil.app.client import Client
from unveil.app.local.stack import LocalStack

# A person who lets a file go above the field; what the page says from then on is kept.
_DROP_SCRIPT = """
const [data, name] = arguments;
const carried = new DataTransfer();
carried.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name));
const said = document.getElementById("uploaded");
window.told = [];
new MutationObserver(() => window.told.push(said.textContent)).observe(said, {childList: true});
const how = {dataTransfer: carried, bubbles: true, cancelable: true};
document.getElementById("drop").dispatchEvent(new DragEvent("drop", how));
"""


def choose(browser: Chrome, value: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f"input[value='{value}']").click()


def test_the_form_says_what_an_order_makes_and_starts_it(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("6 cells"))
    choose(browser, '{"name": "ele"}')
    choose(browser, "key-recovery")
    choose(browser, "smoke")
    WebDriverWait(browser, 10).until(lambda _: "does not apply: needs a scheme" in preview.text)
    # none and fr on both, key recovery on one; and on both the other three that the profile requires
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("11 cells"))
    assert "ciphertext-only" in preview.text
    assert "on one worker" in preview.text
    WebDriverWait(browser, 10).until(lambda page: '"profile": "smoke"' in _read_preview(page)[0])
    shown = _read_preview(browser)
    assert shown[0] in shown[1], "curl sends the same JSON"
    compile(shown[2], "shown", "exec")

    browser.find_element(By.ID, "start").click()
    WebDriverWait(browser, 10).until(lambda page: re.search(r"/evaluations/ev_", page.current_url))
    id = browser.current_url.rpartition("/")[2]
    with Client(stack.url, stack.token) as client:
        ordered = client.evaluations.get(id)
        assert {cell.scheme["name"] for cell in ordered.cells} == {"tanaka", "ele"}
        ordered.cancel()


def test_a_preview_that_changes_leaves_the_focus_where_it_was(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("6 cells"))
    choose(browser, '{"name": "etc"}')
    browser.execute_script("document.getElementById('as-curl').focus()")
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("12 cells"))
    assert browser.switch_to.active_element.get_attribute("id") == "as-curl"


def test_what_cannot_be_ordered_is_said_before_it_is_sent(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("6 cells"))
    choose(browser, "none")
    choose(browser, "fr")
    WebDriverWait(browser, 10).until(lambda _: "at least one scheme and one attack" in preview.text)
    assert not browser.find_element(By.ID, "start").is_enabled()


def test_an_upload_is_named_and_what_it_lacks_is_called_as_on_the_form(
    stack: LocalStack, browser: Chrome, tmp_path: Path
) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    with Client(stack.url, stack.token) as client:
        id = client.datasets.upload(tmp_path / "set.zip", "our scheme", kind="protected")["id"]
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    WebDriverWait(browser, 10).until(lambda _: preview.text.startswith("6 cells"))
    choose(browser, f'{{"dataset": "{id}", "name": "external"}}')
    choose(browser, "gan")
    WebDriverWait(browser, 10).until(lambda _: f"Uploaded images (our scheme, {id})" in preview.text)
    label = browser.find_element(By.CSS_SELECTOR, "label[for=public_dataset]").text
    lacks = f"unpaired plain images are needed: name them in “{label}”"
    WebDriverWait(browser, 10).until(lambda _: lacks in preview.text)
    with Client(stack.url, stack.token) as client:
        client.datasets.delete(id)


def test_a_dropped_zip_is_sent_with_progress_and_chosen(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    browser.execute_script(
        _DROP_SCRIPT, base64.b64encode(archive(classes(40, width=64, height=64))).decode(), "dropped.zip"
    )
    said = browser.find_element(By.ID, "uploaded")
    WebDriverWait(browser, 30).until(lambda _: "64 images to train on" in said.text)
    told = browser.execute_script("return window.told")
    assert any("sent" in words.lower() for words in told), "how much of it is there, before the answer"
    chosen = Select(browser.find_element(By.ID, "dataset")).first_selected_option
    assert chosen.text == "dropped"
    WebDriverWait(browser, 10).until(lambda page: chosen.get_attribute("value") in _read_preview_json(page))
    with Client(stack.url, stack.token) as client:
        client.datasets.delete(chosen.get_attribute("value"))


def _read_preview(browser: Chrome) -> list[str]:
    """The order as the page shows it: as JSON, as curl, as Python. In one step, for the preview may be replaced."""
    texts = "return [...document.querySelectorAll('#preview pre code')].map((code) => code.textContent)"
    return list(browser.execute_script(texts))


def _read_preview_json(browser: Chrome) -> str:
    return _read_preview(browser)[0]
