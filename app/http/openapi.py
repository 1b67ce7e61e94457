"""Completes FastAPI's OpenAPI document, so that generated clients and validators can use it.

Adds the media type of problems, the scopes of each operation, links between operations, an example for every request
body, and a schema for every file.
"""

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
        "get_image": {**_CELL_LINK, "index": "0"},
        "get_sample": {**_CELL_LINK, "index": "0", "picture": "protected"},
        "get_gallery_image": {**_CELL_LINK, "number": "0"},
    },
    ("cancel_evaluation", "202"): {"delete_evaluation": _EVALUATION_LINK, "get_evaluation": _EVALUATION_LINK},
    **{
        (listing, "200"): {listing: {"cursor": "$response.body#/next"}}
        for listing in ("list_keys", "list_accounts", "list_datasets", "list_evaluations")
    },
}
_TAGS = {
    "encryption": "Protect images and undo it.",
    "keys": "Draw, import, train, export and destroy protection keys.",
    "datasets": "Built-in datasets, the operator's folders, and uploads.",
    "evaluations": "Run attacks on schemes; read progress, results and reports.",
    "board": "Schemes compared across evaluations of one dataset.",
    "catalog": "The schemes and attacks that the service knows.",
    "accounts": "Accounts and their tokens, for administrators.",
    "webhooks": "URLs that the service informs of finished evaluations, with signed requests.",
    "jobs": "Running and waiting jobs of all accounts, for administrators.",
    "operation": "Health and metrics.",
}
# Relative to the document itself, so that it holds behind a proxy with a root path.
_SERVERS = [{"url": ".", "description": "This service"}]
_BINARY = {"type": "string", "format": "binary"}
_EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
_PROBLEM_SCHEMA_REF = {"$ref": "#/components/schemas/ProblemOut"}


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """Builds the document on the first call."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            routes=app.routes,
            servers=_SERVERS,
            tags=[{"name": name, "description": description} for name, description in _TAGS.items()],
        )
        schemas = document["components"]["schemas"]
        for name, schema in schemas.items():
            if name.startswith("Body_"):
                _complete_form(schema)
        scopes = _scopes_by_operation(app)
        for path in document["paths"].values():
            for operation in path.values():
                if operation["operationId"] in scopes:
                    operation["security"] = [{"HTTPBearer": scopes[operation["operationId"]]}]
                else:
                    operation.pop("security", None)  # anonymous clients may use it
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    content.setdefault("example", _make_example(content["schema"], schemas))
                for status, response in operation.get("responses", {}).items():
                    _set_problem_media_type(response)
                    _set_schemas(response)
                    links = _LINKS.get((operation["operationId"], status), {})
                    for target, parameters in links.items():
                        response.setdefault("links", {})[target] = {"operationId": target, "parameters": parameters}
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


def _set_schemas(response: dict[str, Any]) -> None:
    """FastAPI leaves the schema of files out, and describes event streams in a way of OpenAPI 3.2."""
    for media_type, content in response.get("content", {}).items():
        if not content.get("schema"):
            content.clear()
            if media_type == "application/json":
                content["schema"] = {"type": "object"}
            elif media_type == "text/event-stream":
                content["schema"] = _EVENT
            else:
                content["schema"] = {"type": "string"} if media_type.startswith("text/") else _BINARY


def _make_example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The example of a body, or one made of the examples of its required fields."""
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if "examples" in schema:
        return schema["examples"][0]
    return {name: schema["properties"][name].get("examples", [name])[0] for name in schema.get("required", [])}


def _complete_form(form: dict[str, Any]) -> None:
    """An optional form field may be left out, but a form cannot send null. Generators know files by their format."""
    for name, field in form["properties"].items():
        variants = [kind for kind in field.get("anyOf", []) if kind != {"type": "null"}]
        if len(variants) == 1:
            rest = {key: value for key, value in field.items() if key != "anyOf"}
            form["properties"][name] = {**variants[0], **rest}
        if form["properties"][name].pop("contentMediaType", None) == "application/octet-stream":
            form["properties"][name] |= _BINARY
