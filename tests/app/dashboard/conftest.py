"""One browser, signed in, and one finished evaluation for all tests of pages."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.browser import DRIVER, chromium, console_errors, emulate_device, wait_until
from tests.sample_images import archive, classes
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.local.stack import LocalStack


@pytest.fixture(scope="session")
def evaluation(stack: LocalStack) -> Evaluation:
    with Client(stack.url, stack.token) as client:
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 3}
        attacks = ["none", "fr", {"name": "key-recovery", "ciphertexts": 4, "curve": False}]
        made = client.evaluations.create(schemes=["tanaka", "ele"], attacks=attacks, name="<b>bold</b>", **order)
        return made.wait(timeout=300)


@pytest.fixture(scope="session")
def other_evaluation(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """To compare it with, of an upload too; both names are one word, as long as names may be."""
    images = tmp_path_factory.mktemp("upload") / "set.zip"
    images.write_bytes(archive(classes(5)))
    with Client(stack.url, stack.token) as client:
        upload = client.datasets.upload(images, "z" * 200, kind="protected")["id"]
        order = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1, "seed": 7}
        schemes = ["tanaka", {"name": "external", "dataset": upload}]
        made = client.evaluations.create(schemes=schemes, attacks=["fr", "brute-force"], name="x" * 200, **order)
        return made.wait(timeout=300)


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if DRIVER is None and not os.environ.get("UNVEIL_REQUIRE_BROWSER"):
        pytest.skip("no Chromium with its driver here")
    with chromium(tmp_path_factory.mktemp("chrome")) as driver:
        yield driver


@pytest.fixture
def browser(chrome: Chrome, stack: LocalStack) -> Iterator[Chrome]:
    """Signed in, on a desktop; a page that breaks the policy on content, or whose script fails, fails its test."""
    chrome.get(f"{stack.url}/sign-in")
    if chrome.get_cookie("unveil_session") is None:
        chrome.get(stack.sign_in_link())
        chrome.find_element(By.CSS_SELECTOR, "button.primary").click()
        wait_until(chrome, lambda page: "/sign-in" not in page.current_url)
    emulate_device(chrome)
    yield chrome
    assert console_errors(chrome) == []
