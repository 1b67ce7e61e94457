"""The playground, in a real browser and by its calls."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.browser import wait_until
from unveil.app.local.stack import LocalStack


@pytest.fixture
def api_client(stack: LocalStack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=300) as made:
        yield made


def make_png(width: int = 64, height: int = 48) -> bytes:
    """An image with edges and colours."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 4 % 256, columns * 3 % 256, (rows + columns) % 200], -1).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def test_an_image_is_shown_under_every_scheme_and_attacks_reconstruct_it(
    browser: Chrome, stack: LocalStack, tmp_path: Path
) -> None:
    (tmp_path / "mine.png").write_bytes(make_png(320, 240))
    browser.get(f"{stack.url}/dashboard/playground")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "mine.png"))
    said = browser.find_element(By.ID, "status")
    wait_until(browser, lambda _: "Protected under" in said.text)
    cards = browser.find_elements(By.CSS_SELECTOR, ".shot[data-scheme]")
    assert len(cards) >= 6
    assert f"Protected under {len(cards)} of {len(cards)} schemes" in said.text
    for card in cards:
        assert card.find_element(By.CSS_SELECTOR, "[data-is=key]").text.startswith("key_")
        assert card.find_element(By.LINK_TEXT, "Download").get_attribute("download").endswith(".png")

    card = next(card for card in cards if card.get_attribute("data-scheme") == "tanaka")
    card.find_element(By.CSS_SELECTOR, "[data-is=decrypt]").click()
    undone = card.find_element(By.CSS_SELECTOR, "[data-is=decrypt-status]")
    wait_until(browser, lambda _: undone.text)
    assert undone.text == "Decrypted: identical to your image in every pixel."

    wait_until(browser, lambda _: "have finished" in said.text)
    previews = browser.find_elements(By.CSS_SELECTOR, "[data-preview]")
    without_scores = {
        preview.get_attribute("data-preview"): preview.text for preview in previews if "SSIM" not in preview.text
    }
    assert without_scores.keys() == {"jigsaw"}, "the image has more blocks than a puzzle may have"
    assert "at most 400 blocks" in without_scores["jigsaw"]
    same_key = browser.find_element(By.CSS_SELECTOR, "[data-preview=key-recovery]")
    # The key is drawn at random; tests/worker/encryption/test_playground.py says how well a given one is recovered.
    assert "key found" in same_key.text


def test_a_file_that_is_not_an_image_is_reported(browser: Chrome, stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    browser.get(f"{stack.url}/dashboard/playground")
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "text.png"))
    said = browser.find_element(By.ID, "status")
    wait_until(browser, lambda _: "cannot read this file" in said.text)


def create_key(api_client: httpx.Client, scheme: str, **params: str) -> str:
    key: str = api_client.post("/keys", json={"scheme": scheme, "params": params}).json()["id"]
    return key


def preview_attack(api_client: httpx.Client, key: str, attack: str, image: bytes) -> httpx.Response:
    files = {"images": ("mine.png", image, "image/png")}
    return api_client.post("/dashboard/playground/preview", files=files, data={"key_id": key, "attack": attack})


def test_a_preview_returns_scores_and_two_images(api_client: httpx.Client) -> None:
    seen = preview_attack(api_client, create_key(api_client, "pixelwise"), "fr", make_png()).json()
    assert -1 < seen["ssim"] < 1
    assert seen["set"] == 17
    assert len(seen["images"]) == 2


@pytest.mark.parametrize(
    ("scheme", "attack", "size", "pointer"),
    [
        ("pixelwise", "itn", (64, 48), "/attack"),  # trains a network: not here
        ("pixelwise", "brute-force", (64, 48), "/attack"),
        ("ele", "key-recovery", (64, 48), "/attack"),  # cannot be run on it
        ("pixelwise", "fr", (300, 48), "/images/0"),
        ("pixelwise", "fr", (64, 8), "/images/0"),
    ],
)
def test_an_image_or_attack_without_a_preview_is_refused(
    api_client: httpx.Client, scheme: str, attack: str, size: tuple[int, int], pointer: str
) -> None:
    answer = preview_attack(api_client, create_key(api_client, scheme), attack, make_png(*size))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_a_file_that_is_no_png_is_refused_before_a_worker_sees_it(api_client: httpx.Client) -> None:
    answer = preview_attack(api_client, create_key(api_client, "pixelwise"), "fr", b"\x89PNG\r\n\x1a\nnothing")
    assert answer.status_code == 422


def test_anothers_key_is_not_there(api_client: httpx.Client) -> None:
    answer = preview_attack(api_client, "key_" + 32 * "0", "fr", make_png())
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_key")


def test_sample_images_are_served_to_accounts_that_may_encrypt(api_client: httpx.Client, stack: LocalStack) -> None:
    for path in ("photographs/cat.png", "set.png?width=64&height=48"):
        answer = api_client.get(f"/dashboard/playground/{path}")
        assert answer.headers["Content-Type"] == "image/png"
        assert httpx.get(f"{stack.url}/dashboard/playground/{path}").status_code == 401
    assert api_client.get("/dashboard/playground/photographs/dog.png").status_code == 404
    assert api_client.get("/dashboard/playground/set.png?width=6400&height=48").status_code == 422
