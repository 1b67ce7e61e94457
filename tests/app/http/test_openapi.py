"""The OpenAPI document that validators and generators read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from unveil.app.main import create_app
from unveil.app.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings.model_construct()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_it_names_its_server_and_describes_every_tag(document: dict[str, Any]) -> None:
    assert document["servers"]
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for _, operation in operations(document) for tag in operation.get("tags", [])} == described


def test_every_body_has_an_example_and_every_content_a_schema(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["example"], name
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                assert content["schema"], name


def test_generators_know_every_file_of_a_form(document: dict[str, Any]) -> None:
    binary = {"type": "string", "format": "binary"}
    form = document["components"]["schemas"]["Body_upload_dataset"]["properties"]
    assert all(form[name].items() >= binary.items() for name in ("archive", "originals"))
    for path in ("/encrypt", "/decrypt"):
        content = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
        assert content["schema"]["properties"]["images"]["items"] == binary
