"""The OpenAPI document: FastAPI's own, with problems under their true media type, the scopes that a route asks for, and
links from what was made to what can be done with it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from unveil.app.http.authentication import scopes_of
from unveil.app.http.problems import MEDIA_TYPE
from unveil.app.security.principal import Scope

_KEY = {"id": "$response.body#/id"}
_EVALUATION = {"evaluation_id": "$response.body#/id"}
_CELL = {**_EVALUATION, "cell_id": "$response.body#/cells/0/id"}
_LINKS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("encrypt", "200"): {
        "show_key": {"id": "$response.body#/images/0/key_id"}, "destroy_key": {"id": "$response.body#/images/0/key_id"}
    },
    ("create_key", "201"): {"show_key": _KEY, "export_key": _KEY, "destroy_key": _KEY},
    ("create_key", "202"): {"show_key": _KEY, "cancel_training": _KEY},
    ("upload_dataset", "201"): {"show_dataset": _KEY, "delete_dataset": _KEY},
    ("create_account", "201"): {"revoke_account": {"account": "$response.body#/id"}},
    ("order_evaluation", "202"): {
        "show_evaluation": _EVALUATION, "cancel_evaluation": _EVALUATION, "show_report": _EVALUATION,
        "show_curves": _CELL, "show_scores": _CELL, "show_sample": {**_CELL, "index": 0, "picture": "protected"},
    },
    ("cancel_evaluation", "202"): {"delete_evaluation": _EVALUATION, "show_evaluation": _EVALUATION},
    **{
        (listing, "200"): {listing: {"cursor": "$response.body#/next"}}
        for listing in ("list_keys", "list_accounts", "list_datasets", "list_evaluations")
    },
}  # fmt: skip
_REFERENCE = {"$ref": "#/components/schemas/ProblemOut"}


def describe(app: FastAPI) -> dict[str, Any]:
    """Made once, on first use."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        scopes = _scopes(app)
        for path in document["paths"].values():
            for operation in path.values():
                if operation["operationId"] in scopes:
                    operation["security"] = [{"HTTPBearer": scopes[operation["operationId"]]}]
                for status, response in operation.get("responses", {}).items():
                    _as_problem(status, response)
                    links = _LINKS.get((operation["operationId"], status), {})
                    for target, parameters in links.items():
                        response.setdefault("links", {})[target] = {"operationId": target, "parameters": parameters}
        for name, schema in document["components"]["schemas"].items():
            if name.startswith("Body_"):
                _without_null(schema)
        app.openapi_schema = document
    return app.openapi_schema


def _scopes(app: FastAPI) -> dict[str, list[Scope]]:
    """By operation id, which here is the name of the route."""
    routes = [context for context in iter_route_contexts(app.routes) if hasattr(context, "dependant")]
    return {str(route.name): scopes for route in routes if (scopes := scopes_of(route.dependant))}


def _as_problem(status: str, response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if not status.isdigit() or content.get("application/json", {}).get("schema") != _REFERENCE:
        return
    response["content"] = {MEDIA_TYPE: {"schema": _REFERENCE}}


def _without_null(form: dict[str, Any]) -> None:
    """A field of a form may be left out; null is nothing that it can hold."""
    for name, field in form["properties"].items():
        kinds = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
        if len(kinds) == 1:
            rest = {key: value for key, value in field.items() if key != "anyOf"}
            form["properties"][name] = {**kinds[0], **rest}
