"""GET /docs: the OpenAPI document as one page of plain HTML. No script, nothing from elsewhere, so the strictest
content policy holds and it works without the Internet; tools read /openapi.json."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; background: light-dark(#fff, #101418); color: light-dark(#16202b, #e4e9ef); }
:root { font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
a { color: light-dark(#0a5a9c, #7cbcf5); }
summary { cursor: pointer; padding: .4rem 0; } summary code { font-weight: 600; }
.method { display: inline-block; min-width: 4.5rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .2rem .6rem; }
th { font-weight: 600; min-width: 6rem; } pre { overflow-x: auto; padding: .6rem; border: 1px solid; }
details { border-bottom: 1px solid #8884; } details details { border: 0; }
"""


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """The reference for people."""
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(_page(request.app.openapi()), headers=headers)


def _page(document: dict[str, Any]) -> str:
    rooms: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            room = (operation.get("tags") or ["other"])[0]
            rooms.setdefault(room, []).append(_operation(method.upper(), path, operation))
    info = document["info"]
    body = "".join(f"<h2>{escape(room)}</h2>{''.join(entries)}" for room, entries in rooms.items())
    schemas = "".join(
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])} {escape(info['version'])}</title><style>{_STYLE}</style>"
        f'<main><p><a href="/">Dashboard</a></p>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('summary', ''))}</p>"
        f'<p>Send <code>Authorization: Bearer TOKEN</code>. For tools: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{body}<h2>schemas</h2>{schemas}</main></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        _row(parameter["name"], f"{parameter['in']}. {parameter.get('description', '')}")
        for parameter in operation.get("parameters", [])
    )
    bodies = "".join(
        _row(kind, _named(content.get("schema", {})), raw=True) + _example(content)
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    answers = "".join(
        _row(
            status,
            escape(answer["description"])
            + "".join(
                f"<br>{escape(kind)} {_named(content.get('schema', {}))}"
                for kind, content in answer.get("content", {}).items()
            ),
            raw=True,
        )
        for status, answer in sorted(operation["responses"].items())
    )
    sections = (("Parameters", parameters), ("Body", bodies), ("Answers", answers))
    tables = "".join(f"<h4>{title}</h4><table>{rows}</table>" for title, rows in sections if rows)
    return (
        f'<details><summary><span class="method">{method}</span><code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}{_scopes(operation)}</p>{tables}</details>"
    )


def _scopes(operation: dict[str, Any]) -> str:
    scopes = [scope for way in operation.get("security", []) for names in way.values() for scope in names]
    return f" Needs the scope {', '.join(f'<code>{escape(scope)}</code>' for scope in scopes)}." if scopes else ""


def _row(name: str, text: str, *, raw: bool = False) -> str:
    return f"<tr><th>{escape(str(name))}<td>{text if raw else escape(text)}"


def _example(content: dict[str, Any]) -> str:
    return f"<tr><th>example<td>{_json(content['example'])}" if "example" in content else ""


def _named(schema: dict[str, Any]) -> str:
    """A link to a named schema, else the schema itself."""
    name = schema.get("$ref", "").rpartition("/")[2]
    if name:
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    return _json(schema) if schema.get("properties") else escape(str(schema.get("type", "")))


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
