"""/schemes and /attacks: everything that can be ordered, from the files that define it."""

from __future__ import annotations

import math

import httpx
import pytest

from unveil.app.local.stack import LocalStack
from unveil.models import catalog


@pytest.fixture
def get(stack: LocalStack):
    def get(path: str, **params) -> httpx.Response:
        return httpx.get(stack.url + path, params=params, headers={"Authorization": f"Bearer {stack.token}"})

    return get


def test_every_scheme_and_attack_is_listed(get) -> None:
    assert [item["name"] for item in get("/schemes").json()["items"]] == list(catalog.schemes())
    assert [item["name"] for item in get("/attacks").json()["items"]] == list(catalog.registered_attacks())


def test_the_key_space_follows_the_asked_size(get) -> None:
    whole = get("/schemes/pixelwise").json()["variants"][0]
    small = get("/schemes/pixelwise", width=10, height=10).json()["variants"][0]
    assert whole["key_space_bits"] == pytest.approx(math.log2(48) * 96 * 96)
    assert small["key_space_bits"] == pytest.approx(math.log2(48) * 100)
    assert whole["effective_bits"] == 256


def test_the_catalog_lists_the_papers_numbers_and_the_threat_model(get) -> None:
    same = get("/schemes/pixelwise").json()["variants"][0]
    assert same["paper"]["ssim"] == {"fr": 0.4646, "itn": 0.1715, "gan": 0.2688}
    fr = get("/attacks/fr").json()
    assert fr["threat_model"] == "ciphertext-only"
    assert fr["parameters"]["properties"]["L"]["maximum"] == 8


@pytest.mark.parametrize("path", ["/schemes/rot13", "/attacks/magic"])
def test_the_error_for_an_unknown_name_lists_the_known_names(get, path: str) -> None:
    answer = get(path)
    assert answer.status_code == 404
    assert "choose from " in answer.json()["detail"]


@pytest.mark.parametrize("side", [0, -1, 100000, "wide"])
def test_a_size_that_is_none_is_refused(get, side) -> None:
    answer = get("/schemes", width=side)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].endswith("/width")
