"""The images of a cell in a real browser: sorted, compared pixel by pixel, and in their line-up."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack
from unveil.app.report.evaluation import Cell
from unveil.models.metrics.ssim import SSIM_MODES, ssim

_VIEWPORTS = """return [...document.querySelectorAll('#panes img')].map((each) => {
  const { a, e, f } = new DOMMatrix(getComputedStyle(each).transform);
  return [a, e / each.clientWidth, f / each.clientWidth];
})"""
_MAP_MEAN = """
const [a, b, width, height, mode, done] = arguments;
import("/static/maps.js").then(({ mean, ssimMap }) => done(mean(ssimMap(a, b, width, height, mode).values)));
"""
_LARGEST_DIFFERENCE = """
const canvas = document.querySelector("#panes canvas");
const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return Math.max(...data.filter((_, position) => position % 4 < 3));
"""


def cell_of(evaluation: Evaluation, attack: str, scheme: str = "tanaka") -> Cell:
    return next(each for each in evaluation.cells if (each.attack["name"], each.scheme["name"]) == (attack, scheme))


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def heading(browser: Chrome) -> str:
    return str(browser.execute_script("return document.querySelector('h1')?.textContent ?? ''"))


def wait_for_image(browser: Chrome, index: int) -> None:
    WebDriverWait(browser, 20).until(lambda page: heading(page) == f"Image {index}")
    WebDriverWait(browser, 20).until(lambda page: page.execute_script("return document.readyState") == "complete")


def wait_for_map(browser: Chrome) -> Any:
    return WebDriverWait(browser, 20).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, "#panes canvas[data-painted]")
    )[0]


def test_images_are_sorted_and_walked_through_by_keyboard(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    page = f"{stack.url}/dashboard/evaluations/{evaluation.id}/cells/{cell_of(evaluation, 'fr').id}"
    browser.get(page)
    browser.find_element(By.LINK_TEXT, "Lowest SSIM first").click()
    WebDriverWait(browser, 20).until(lambda _: "order=worst" in browser.current_url)
    strips = browser.find_elements(By.CSS_SELECTOR, ".strips > li")
    assert len(strips) == 12, "a page of the 32 images"
    scores = [float(re.search(r"SSIM (-?[\d.]+)", strip.text)[1]) for strip in strips]
    assert scores == sorted(scores)
    first, second = (int(strip.get_attribute("id").removeprefix("image-")) for strip in strips[:2])
    browser.find_element(By.LINK_TEXT, "Last").click()
    WebDriverWait(browser, 20).until(lambda _: "page=3" in browser.current_url)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".strips > li")) == 8

    browser.get(f"{page}?order=worst")
    browser.find_element(By.CSS_SELECTOR, ".strips .triple").send_keys(Keys.ENTER)
    wait_for_image(browser, first)
    pictures = browser.find_elements(By.CSS_SELECTOR, "#panes img")
    assert len(pictures) == 3
    assert pictures[0].value_of_css_property("image-rendering") == "pixelated"
    assert pictures[0].size["width"] > 250
    press(browser, Keys.ARROW_RIGHT)
    wait_for_image(browser, second)
    press(browser, "k")
    wait_for_image(browser, first)
    browser.get(page)
    browser.find_element(By.CSS_SELECTOR, ".go input[name=image]").send_keys(str(second), Keys.ENTER)
    wait_for_image(browser, second)
    assert "Leaking first, then highest SSIM" in browser.find_element(By.CSS_SELECTOR, ".facts").text


def test_all_panes_share_zoom_and_position_and_the_next_image_keeps_them(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    cell = cell_of(evaluation, "key-recovery")
    base = f"{stack.url}/dashboard/evaluations/{evaluation.id}/cells/{cell.id}/images"
    browser.get(f"{base}/1?order=number")
    browser.execute_script("sessionStorage.clear()")
    browser.get(f"{base}/1?order=number")
    browser.find_element(By.ID, "panes").send_keys("+", Keys.ARROW_LEFT)
    moved = [pytest.approx([2, 0.1, 0], abs=0.01)]  # zoom, and the offset by a tenth of the pane
    assert browser.execute_script(_VIEWPORTS) == moved * 3

    browser.find_element(By.CSS_SELECTOR, "[data-view=slider]").click()
    for side, picture in (("left", "reconstructed"), ("right", "protected")):
        Select(browser.find_element(By.ID, side)).select_by_value(picture)
    shown = browser.find_elements(By.CSS_SELECTOR, "#panes img")
    assert [each.get_attribute("src").rpartition("/")[2] for each in shown] == ["reconstructed.png", "protected.png"]
    assert browser.find_element(By.CSS_SELECTOR, "#split input").is_displayed()
    browser.find_element(By.CSS_SELECTOR, "[data-view=difference]").click()
    wait_for_map(browser)
    assert browser.execute_script(_LARGEST_DIFFERENCE) == 0, "key recovery gives the original back"

    browser.find_element(By.LINK_TEXT, "Next image").click()
    wait_for_image(browser, 2)
    wait_for_map(browser)
    assert browser.find_element(By.CSS_SELECTOR, "[data-view=difference]").get_attribute("aria-pressed") == "true"
    assert browser.execute_script(_VIEWPORTS) == moved * 2
    browser.find_element(By.ID, "zoom-fit").click()
    assert browser.find_element(By.ID, "zoom-level").text == "1×"
    browser.execute_script("sessionStorage.clear()")


@pytest.mark.parametrize("mode", SSIM_MODES)
def test_the_mean_of_the_map_is_the_ssim_in_every_mode(browser: Chrome, stack: LocalStack, mode: str) -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 256, (1, 15, 19, 3), np.uint8)
    other = (plain // 2 + rng.integers(0, 128, plain.shape, np.uint8)).astype(np.uint8)
    pixels = [
        np.dstack([image[0], np.full(image.shape[1:3], 255, np.uint8)]).ravel().tolist() for image in (plain, other)
    ]
    browser.get(f"{stack.url}/dashboard/keys")
    assert browser.execute_async_script(_MAP_MEAN, *pixels, 19, 15, mode) == pytest.approx(ssim(plain, other, mode)[0])


def test_the_map_of_an_image_has_its_reported_ssim_as_mean(
    browser: Chrome, stack: LocalStack, evaluation: Evaluation
) -> None:
    cell = cell_of(evaluation, "fr")
    with Client(stack.url, stack.token) as client:
        lines = client.evaluations.get(evaluation.id).fetch(cell.links["scores"]).decode().splitlines()
    index = 3
    browser.get(f"{stack.url}/dashboard/evaluations/{evaluation.id}/cells/{cell.id}/images/{index}")
    browser.find_element(By.CSS_SELECTOR, "[data-view=ssim]").click()
    mean = float(wait_for_map(browser).get_attribute("data-mean"))
    assert mean == pytest.approx(float(lines[1 + index].split(",")[1]))
    assert f"its mean is {mean:.3f}" in browser.find_element(By.ID, "panes").text


def test_a_line_up_frames_the_true_original(browser: Chrome, stack: LocalStack, evaluation: Evaluation) -> None:
    cell = cell_of(evaluation, "key-recovery")
    browser.get(f"{stack.url}/dashboard/evaluations/{evaluation.id}/cells/{cell.id}/images/4")
    (true,) = browser.find_elements(By.CSS_SELECTOR, ".line-up .true")
    assert "1, true original" in true.text
    assert "image 4, distance 0.000" in true.text
    places = browser.find_elements(By.CSS_SELECTOR, ".line-up li")
    assert len(places) == 6, "the reconstruction and five originals"
    widths = "return [...document.querySelectorAll('.line-up img')].map((each) => each.naturalWidth)"
    WebDriverWait(browser, 20).until(lambda page: page.execute_script(widths) == [96] * 6)
