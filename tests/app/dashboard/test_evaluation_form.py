"""The form of a new evaluation in a real browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.browser import console_errors, emulate_device, wait_until
from tests.sample_images import archive, classes
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack
from unveil.models import catalog

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


_CHOOSE_ONLY_SCRIPT = """
const wanted = arguments[0];
for (const box of document.querySelectorAll("input[name=scheme], input[name=attack]"))
  if (box.checked !== wanted.includes(box.value)) box.click();
"""
_TANAKA = '{"name": "tanaka", "variant": "paper"}'


def open_form(stack: LocalStack, browser: Chrome, *values: str) -> WebElement:
    """The form with these schemes and attacks alone chosen, when its preview has come."""
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    preview = browser.find_element(By.ID, "preview")
    wait_until(browser, lambda _: re.match(r"\d+ cells", preview.text))
    browser.execute_script(_CHOOSE_ONLY_SCRIPT, list(values))
    return preview


def choose(browser: Chrome, value: str) -> None:
    browser.find_element(By.CSS_SELECTOR, f"input[value='{value}']").click()


def test_the_form_previews_an_evaluation_and_starts_it(stack: LocalStack, browser: Chrome) -> None:
    preview = open_form(stack, browser, _TANAKA, "none", "fr")
    wait_until(browser, lambda _: preview.text.startswith("6 cells"))
    choose(browser, '{"name": "ele"}')
    choose(browser, "key-recovery")
    choose(browser, "smoke")
    wait_until(browser, lambda _: "does not apply: needs a scheme" in preview.get_property("textContent"))
    # none and fr on both, key recovery on one; and on both the other three that the profile requires
    wait_until(browser, lambda _: preview.text.startswith("11 cells"))
    assert "ciphertext-only" in preview.get_property("textContent")
    assert re.search(
        r"core hours on a CPU. The account has \S+ of \S+ core hours left", preview.get_property("textContent")
    )
    assert "on one worker" in preview.text
    wait_until(browser, lambda page: '"profile": "smoke"' in _read_preview_json(page))
    shown = _read_preview(browser)
    assert shown[0] in shown[1], "curl sends the same JSON"
    compile(shown[2], "shown", "exec")

    browser.find_element(By.ID, "start").click()
    wait_until(browser, lambda page: re.search(r"/evaluations/ev_", page.current_url))
    id = browser.current_url.rpartition("/")[2]
    with Client(stack.url, stack.token) as client:
        ordered = client.evaluations.get(id)
        assert {cell.scheme["name"] for cell in ordered.cells} == {"tanaka", "ele"}
        ordered.cancel()


def test_a_preview_that_changes_leaves_the_focus_where_it_was(stack: LocalStack, browser: Chrome) -> None:
    preview = open_form(stack, browser, _TANAKA, "none", "fr")
    wait_until(browser, lambda _: preview.text.startswith("6 cells"))
    choose(browser, '{"name": "etc"}')
    browser.execute_script("document.getElementById('as-curl').focus()")
    wait_until(browser, lambda _: preview.text.startswith("12 cells"))
    assert browser.switch_to.active_element.get_attribute("id") == "as-curl"


def test_an_invalid_request_is_reported_before_it_is_sent(stack: LocalStack, browser: Chrome) -> None:
    preview = open_form(stack, browser, _TANAKA)
    wait_until(browser, lambda _: "at least one scheme and one attack" in preview.text)
    assert not browser.find_element(By.ID, "start").is_enabled()

    choose(browser, "fr")
    choose(browser, "known-plaintext")
    pairs = browser.find_element(By.CSS_SELECTOR, "[data-for=known-plaintext] [name=pairs]")
    browser.execute_script("arguments[0].closest('details').open = true", pairs)
    pairs.send_keys("none")
    wait_until(browser, lambda _: pairs.get_attribute("aria-invalid"))
    message = browser.find_element(By.ID, pairs.get_attribute("aria-describedby"))
    assert message.text == "must be integer; got 'none'", "beside the field, without a JSON pointer"
    browser.find_element(By.LINK_TEXT, "known-plaintext, pairs").click()
    assert browser.switch_to.active_element == pairs
    pairs.clear()
    pairs.send_keys("2")
    wait_until(browser, lambda _: not pairs.get_attribute("aria-invalid"))
    assert all("422" in line for line in console_errors(browser))


def test_a_choice_from_a_list_updates_the_preview(stack: LocalStack, browser: Chrome) -> None:
    open_form(stack, browser, _TANAKA, "none")
    wait_until(browser, _read_preview)
    Select(browser.find_element(By.ID, "ssim_mode")).select_by_visible_text("gray7")
    wait_until(browser, lambda page: '"ssim_mode": "gray7"' in "".join(_read_preview(page)[:1]))


def test_presets_choose_schemes_and_attacks_and_a_change_makes_the_choice_custom(
    stack: LocalStack, browser: Chrome
) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    chosen = "return [...document.querySelectorAll('input[name=attack]:checked')].map((box) => box.value).sort()"
    preset = "return document.getElementById('evaluation-form').elements.preset.value"
    training = {name for name, attack in catalog.attacks().items() if attack.learning_based}
    assert browser.execute_script(preset) == "quick-audit"
    assert set(browser.execute_script(chosen)) == catalog.attacks().keys() - training
    choose(browser, "paper")
    assert browser.execute_script(chosen) == ["fr", "gan", "itn"]
    choose(browser, "full")
    assert set(browser.execute_script(chosen)) == catalog.attacks().keys()
    choose(browser, "gan")
    assert browser.execute_script(preset) == "custom"


def test_the_start_button_is_in_view_wherever_the_form_is_scrolled(stack: LocalStack, browser: Chrome) -> None:
    visible = """const place = document.getElementById("start").getBoundingClientRect();
    return place.top >= 0 && place.bottom <= innerHeight"""
    open_form(stack, browser, _TANAKA, "none", "fr")
    for view in ({}, {"phone": True}):
        emulate_device(browser, **view)
        for position in (0, 0.5, 1):
            browser.execute_script("scrollTo(0, arguments[0] * document.body.scrollHeight)", position)
            assert browser.execute_script(visible), (view, position)


def test_a_duplicate_begins_with_the_settings_of_its_evaluation(
    stack: LocalStack, browser: Chrome, evaluation: Evaluation
) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new?from={evaluation.id}")
    wait_until(browser, lambda page: '"profile": "smoke"' in _read_preview_json(page))
    shown = json.loads(_read_preview_json(browser))
    assert shown["name"] == evaluation.name
    assert {scheme["name"] for scheme in shown["schemes"]} == {"tanaka", "ele"}
    assert {"name": "key-recovery", "ciphertexts": 4, "curve": False} in shown["attacks"], "a box for the boolean"
    assert (shown["keys"], shown["samples"]) == (1, 3)


def test_an_upload_is_named_and_errors_use_the_labels_of_the_form(
    stack: LocalStack, browser: Chrome, tmp_path: Path
) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    with Client(stack.url, stack.token) as client:
        id = client.datasets.upload(tmp_path / "set.zip", "our scheme", kind="protected")["id"]
    preview = open_form(stack, browser, _TANAKA, "none", "fr")
    choose(browser, f'{{"dataset": "{id}", "name": "external"}}')
    choose(browser, "gan")
    wait_until(browser, lambda _: f"Uploaded images (our scheme, {id})" in preview.text)
    label = browser.find_element(By.CSS_SELECTOR, "label[for=public_dataset]").text
    lacks = f"unpaired plain images are needed: name them in “{label}”"
    wait_until(browser, lambda _: lacks in preview.get_property("textContent"))
    with Client(stack.url, stack.token) as client:
        client.datasets.delete(id)


def test_a_dropped_zip_is_sent_with_progress_and_chosen(stack: LocalStack, browser: Chrome) -> None:
    browser.get(f"{stack.url}/dashboard/evaluations/new")
    browser.execute_script(
        _DROP_SCRIPT, base64.b64encode(archive(classes(40, width=64, height=64))).decode(), "dropped.zip"
    )
    said = browser.find_element(By.ID, "uploaded")
    wait_until(browser, lambda _: "64 training images" in said.text)
    told = browser.execute_script("return window.told")
    assert any("sent" in words.lower() for words in told), "how much of it is there, before the answer"
    chosen = Select(browser.find_element(By.ID, "dataset")).first_selected_option
    assert chosen.text == "dropped"
    wait_until(browser, lambda page: chosen.get_attribute("value") in _read_preview_json(page))
    with Client(stack.url, stack.token) as client:
        client.datasets.delete(chosen.get_attribute("value"))


def _read_preview(browser: Chrome) -> list[str]:
    """The order as the page shows it: as JSON, as curl, as Python. In one step, for the preview may be replaced."""
    texts = "return [...document.querySelectorAll('#preview pre code')].map((code) => code.textContent)"
    return list(browser.execute_script(texts))


def _read_preview_json(browser: Chrome) -> str:
    """Empty before the first preview."""
    return "".join(_read_preview(browser)[:1])
