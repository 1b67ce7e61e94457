"""Completes FastAPI's OpenAPI document: the media type of problems, the scopes of each operation, and links between
operations."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from unveil.app.http.authentication import required_scopes
from unveil.app.http.problems import MEDIA_TYPE
from unveil.app.security.principal import Scope

_KEY_LINK = {"id": "$response.body#/id"}
_EVALUATION_LINK = {"evaluation_id": "$response.body#/id"}
_CELL_LINK = {**_EVALUATION_LINK, "cell_id": "$response.body#/cells/0/id"}
_LINKS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("encrypt", "200"): {
        "get_key": {"id": "$response.body#/images/0/key_id"},
        "destroy_key": {"id": "$response.body#/images/0/key_id"},
    },
    ("create_key", "201"): {"get_key": _KEY_LINK, "export_key": _KEY_LINK, "destroy_key": _KEY_LINK},
    ("create_key", "202"): {"get_key": _KEY_LINK, "cancel_training": _KEY_LINK},
    ("upload_dataset", "201"): {"get_dataset": _KEY_LINK, "delete_dataset": _KEY_LINK},
    ("create_account", "201"): {"revoke_account": {"account": "$response.body#/id"}},
    ("create_evaluation", "202"): {
        "get_evaluation": _EVALUATION_LINK,
        "cancel_evaluation": _EVALUATION_LINK,
        "get_report": _EVALUATION_LINK,
        "get_curves": _CELL_LINK,
        "get_scores": _CELL_LINK,
        "get_sample": {**_CELL_LINK, "index": 0, "picture": "protected"},
    },
    ("cancel_evaluation", "202"): {"delete_evaluation": _EVALUATION_LINK, "get_evaluation": _EVALUATION_LINK},
    **{
        (listing, "200"): {listing: {"cursor": "$response.body#/next"}}
        for listing in ("list_keys", "list_accounts", "list_datasets", "list_evaluations")
    },
}
_PROBLEM_SCHEMA_REF = {"$ref": "#/components/schemas/ProblemOut"}


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """Builds the document on the first call."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        scopes = _scopes_by_operation(app)
        for path in document["paths"].values():
            for operation in path.values():
                if operation["operationId"] in scopes:
                    operation["security"] = [{"HTTPBearer": scopes[operation["operationId"]]}]
                for status, response in operation.get("responses", {}).items():
                    _set_problem_media_type(response)
                    links = _LINKS.get((operation["operationId"], status), {})
                    for target, parameters in links.items():
                        response.setdefault("links", {})[target] = {"operationId": target, "parameters": parameters}
        for name, schema in document["components"]["schemas"].items():
            if name.startswith("Body_"):
                _drop_null_variants(schema)
        app.openapi_schema = document
    return app.openapi_schema


def _scopes_by_operation(app: FastAPI) -> dict[str, list[Scope]]:
    """The operation id is the name of the route."""
    routes = [context for context in iter_route_contexts(app.routes) if hasattr(context, "dependant")]
    return {str(route.name): scopes for route in routes if (scopes := required_scopes(route.dependant))}


def _set_problem_media_type(response: dict[str, Any]) -> None:
    """FastAPI documents problems under the media type of the route's successful response."""
    if any(content.get("schema") == _PROBLEM_SCHEMA_REF for content in response.get("content", {}).values()):
        response["content"] = {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA_REF}}


def _drop_null_variants(form: dict[str, Any]) -> None:
    """An optional form field may be left out, but a form cannot send null."""
    for name, field in form["properties"].items():
        variants = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
        if len(variants) == 1:
            rest = {key: value for key, value in field.items() if key != "anyOf"}
            form["properties"][name] = {**variants[0], **rest}
