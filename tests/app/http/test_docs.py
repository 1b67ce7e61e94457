"""/docs is Swagger UI: it works in a real browser, under a strict content security policy and without a CDN."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import DRIVER, chromium, console_errors, emulate_device
from unveil.app.client.client import Client
from unveil.app.client.errors import Conflict
from unveil.app.local.stack import LocalStack


@pytest.mark.skipif(
    DRIVER is None and not os.environ.get("UNVEIL_REQUIRE_BROWSER"), reason="no Chromium with its driver here"
)
def test_the_example_evaluation_is_created_from_the_page(stack: LocalStack, tmp_path: Path) -> None:
    with chromium(tmp_path) as chrome:
        wait = WebDriverWait(chrome, 60)

        def find(selector: str) -> WebElement:
            return wait.until(lambda page: page.find_element(By.CSS_SELECTOR, selector))

        def click(selector: str) -> None:
            element = find(selector)
            chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()

        emulate_device(chrome)
        chrome.get(f"{stack.url}/docs")
        click("button.authorize")
        find(".auth-container input").send_keys(stack.token)
        click(".auth-btn-wrapper .authorize")
        click(".btn-done")
        operation = "#operations-evaluations-create_evaluation"
        click(f"{operation} .opblock-summary-control")
        click(f"{operation} .try-out__btn")
        click(f"{operation} .execute")
        status = f"{operation} .live-responses-table .response .response-col_status"
        assert find(status).text == "202"
        text = find(f"{operation} .live-responses-table").text
        assert console_errors(chrome) == [], "a script failed, or the policy blocked something"
    with Client(stack.url, stack.token) as client:
        evaluation = client.evaluations.get(re.findall(r"ev_[0-9a-f]{32}", text)[0])
        assert evaluation.name == "audit 1"
        with suppress(Conflict):  # it may have ended already
            evaluation.cancel()


@pytest.mark.anyio
async def test_page_and_assets_come_from_the_service_alone(service) -> None:
    async with service.client() as anonymous:
        page = await anonymous.get("/docs")
        assert page.status_code == 200
        policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert re.findall(r"<script[^>]*>(.+?)</script>", page.text) == [], "an inline script"
        addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(addresses) == 4
        for address in addresses:
            assert not address.startswith(("http:", "https:", "//"))
            assert (await anonymous.get(address)).status_code == 200, address
        assert (await anonymous.get("/docs/assets/../docs.py")).status_code == 404
        assert (await anonymous.get("/docs/assets/%2e%2e/docs.py")).status_code == 404
