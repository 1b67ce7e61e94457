"""Writes docs/reference and the types of the client from the code: `python -m docs.generate`. A test compares them."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from pydantic import TypeAdapter

from docs import capabilities
from unveil.app import cli
from unveil.app.board import site
from unveil.app.client import types as client_types
from unveil.app.client.client import Client
from unveil.app.client.evaluation import Evaluation
from unveil.app.client.images import Image, Images
from unveil.app.client.key import Key
from unveil.app.client.operations import Collection
from unveil.app.errors.problem import Problem
from unveil.app.main import create_app
from unveil.app.report.board import Card
from unveil.app.report.evaluation import Cell
from unveil.app.settings import Settings, variable_name
from unveil.models import catalog

FOLDER = Path(__file__).parent / "reference"
CARD_SCHEMA = Path(site.__file__).with_name(site.CARD_SCHEMA)
CLIENT_TYPES = Path(client_types.__file__)


def build_pages() -> dict[Path, str]:
    """Every page of the reference and where it belongs."""
    page_builders: dict[str, Callable[[], Iterator[str]]] = {
        "api": _api, "settings": _settings, "errors": _errors, "schemes": _schemes, "attacks": _attacks,
        "capabilities": _capabilities, "command-line": _command_line, "python-client": _python_client,
    }  # fmt: skip
    note = "<!-- Generated from the code by `make docs`: do not edit. -->"
    pages = {FOLDER / f"{name}.md": "\n".join([note, "", *page()]) + "\n" for name, page in page_builders.items()}
    return {
        **pages,
        CLIENT_TYPES: "\n".join(_client_types()) + "\n",
        CARD_SCHEMA: json.dumps(TypeAdapter(Card).json_schema(), indent=2) + "\n",
    }


# --- HTTP -------------------------------------------------------------------------------------------------------


@cache
def _openapi() -> dict[str, Any]:
    return create_app(Settings.model_construct()).openapi()


def _api() -> Iterator[str]:
    document = _openapi()
    schemas = document["components"]["schemas"]
    yield from _page_header(
        "HTTP API",
        "Send `Authorization: Bearer TOKEN`. Every 4xx and 5xx response is a [problem document](errors.md). `/docs` is "
        "the interactive version of this page; `/openapi.json` is the OpenAPI document.",
    )
    lines_by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            lines = lines_by_tag.setdefault(operation["tags"][0], [])
            lines += _operation(f"{method.upper()} {path}", operation, schemas)
    for tag, lines in lines_by_tag.items():
        yield from (f"## {tag.capitalize()}", "", *lines)
    yield from ("## Objects", "")
    for name, schema in schemas.items():
        if not name.startswith(("Body_", "Page_")):
            yield from _object(name, schema)


def _operation(title: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### `{title}`", "", _one_line(operation.get("description", "")), "")
    scopes = [scope for scheme in operation.get("security", []) for names in scheme.values() for scope in names]
    if scopes:
        yield from (f"Scope: {', '.join(f'`{scope}`' for scope in scopes)}.", "")
    fields = [
        (f"`{parameter['name']}`", parameter["in"], _type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        if kind == "application/json":
            yield from (f"Body: {_type(schema)}", "")
            continue
        form_schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        required = form_schema.get("required", [])
        fields += [
            (f"`{name}`", "form, required" if name in required else "form", _type(field), field.get("description", ""))
            for name, field in form_schema["properties"].items()
        ]
    if fields:
        yield from _table(("parameter", "in", "type", "meaning"), fields)
    answers = [
        (status, "; ".join(_answer(kind, content) for kind, content in answer.get("content", {}).items()))
        for status, answer in sorted(operation["responses"].items())
        if status < "4"
    ]
    problems = [status for status in sorted(operation["responses"]) if status >= "4"]
    answer_texts = [f"{status} {what}".strip() for status, what in answers]
    problem_text = f" Problems: {', '.join(problems)}." if problems else ""
    yield from (f"Responses: {'; '.join(answer_texts)}.{problem_text}", "")


def _answer(kind: str, content: Mapping[str, Any]) -> str:
    return _type(content["schema"]) if kind == "application/json" and content.get("schema") else f"`{kind}`"


def _object(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {name}", "")
    if schema.get("description"):
        yield from (_one_line(schema["description"]), "")
    if "properties" not in schema:
        yield from (_type(schema), "")
        return
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _type(kind), "" if field in required else _default(kind), kind.get("description", ""))
        for field, kind in schema["properties"].items()
    ]
    yield from _table(("field", "type", "default", "meaning"), rows)
    for example in schema.get("examples", []):
        yield from ("```json", json.dumps(example), "```", "")


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return _reference(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if choices := schema.get("enum", [schema[key] for key in ("const",) if key in schema]):
        return " or ".join(f"`{value}`" for value in choices)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("format") == "binary" or "contentMediaType" in schema:
        return str(schema.get("contentMediaType", "file"))
    return _scalar(schema)


def _reference(name: str) -> str:
    if name.startswith("Page_"):
        item = name.removeprefix("Page_").strip("_")
        return f"page of [{item}](#{item.lower()}): `items`, `next`"
    return f"[{name}](#{name.lower()})"


def _scalar(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "any")
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs if key in schema]
    return " ".join([kinds if isinstance(kinds, str) else " or ".join(kinds), *limits])


def _default(schema: Mapping[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "none"


# --- the client's types of JSON answers -------------------------------------------------------------------------

_CLIENT_TYPE_BY_SCHEMA = {
    "DatasetOut": "Dataset", "PaperResults": "PaperResults", "SchemeVariant": "SchemeVariant", "SchemeOut": "Scheme",
    "AttackOut": "Attack", "EvaluationSummary": "EvaluationSummary", "CostQuotaOut": "CostQuota",
    "EvaluationEstimate": "EvaluationEstimate", "AccountOut": "Account", "ShareOut": "Share",
    "WebhookOut": "Webhook", "DeliveryOut": "WebhookDelivery",
    **{name: name for name in ("JsonWebKey", "ShareCreated", "WebhookCreated", "AccountCreated", "ComponentHealth")},
    "ReadinessOut": "Readiness",
}  # fmt: skip
_PYTHON_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def _client_types() -> Iterator[str]:
    schemas = _openapi()["components"]["schemas"]
    yield '"""JSON responses that the client returns unchanged. Generated by `make docs`: do not edit."""'
    yield from ("", "from __future__ import annotations", "", "from typing import Any, Literal, TypedDict")
    for schema, name in _CLIENT_TYPE_BY_SCHEMA.items():
        yield from ("", "", f"class {name}(TypedDict):")
        yield from (f"    {field}: {_python_type(kind)}" for field, kind in schemas[schema]["properties"].items())


def _python_type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        other = "str" if "enum" in _openapi()["components"]["schemas"][name] else "dict[str, Any]"
        return _CLIENT_TYPE_BY_SCHEMA.get(name, other)
    if "anyOf" in schema:
        return " | ".join(_python_type(kind) for kind in schema["anyOf"])
    if choices := schema.get("enum", [schema[key] for key in ("const",) if key in schema]):
        return f"Literal[{', '.join(json.dumps(choice) for choice in choices)}]"
    if schema.get("type") == "array":
        return f"list[{_python_type(schema['items'])}]"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"dict[str, {_python_type(values) if isinstance(values, dict) and values else 'Any'}]"
    return _PYTHON_TYPES.get(schema.get("type", ""), "Any")


def _errors() -> Iterator[str]:
    yield from _page_header(
        "Problem codes",
        "Every 4xx and 5xx response is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, "
        "`code`, `errors` (a JSON pointer and a message for each invalid field or file) and `request_id`, which also "
        "appears in the log of the service. The last column names the exception of the [Python client]"
        "(python-client.md) in `unveil.app.client.errors`, with its base class. A code with status 404 has status 422 "
        "if the request names the object in its body.",
    )
    rows = [
        (f"`{code}`", kind.status, kind.title, _one_line(kind.__doc__ or ""), _exception(kind))
        for code, kind in sorted(Problem.by_code.items())
    ]
    yield from _table(("code", "status", "title", "what to do", "exception"), rows)


def _exception(kind: type[Problem]) -> str:
    base = kind.__mro__[1]
    return f"`{kind.__name__}`" + ("" if base is Problem else f" (`{base.__name__}`)")


# --- settings ---------------------------------------------------------------------------------------------------


def _settings() -> Iterator[str]:
    yield from _page_header(
        "Settings",
        "The service and the workers read these environment variables. [Operating](../operating.md) lists the most "
        "important ones.",
    )
    rows = [
        (f"`{variable_name(name)}`", f"`{_format_default(field.default)}`", field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    yield from _table(("variable", "default", "meaning"), rows)


def _format_default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"{value} ({value // 2**20} MiB)"
    return str(value)


# --- science ----------------------------------------------------------------------------------------------------


def _schemes() -> Iterator[str]:
    yield from _page_header(
        "Schemes",
        "Key spaces are for one image of 96x96 pixels; a search never costs more than the 256 bits of a stored secret. "
        "SSIM and verdicts are the paper's, for each of its attacks. A new scheme is one file: "
        "[extending](../extending.md).",
    )
    for scheme in map(catalog.describe_scheme, catalog.schemes()):
        yield from (
            f"## {scheme['name']}",
            "",
            f"**{scheme['title']}** ({scheme['source']})",
            "",
            scheme["summary"],
            "",
        )
        yield from (f"- attacks that apply: {_names(scheme['attacks'])}",)
        if scheme["missing_part"]:
            yield f"- missing: {scheme['missing_part']}; every result says so, and the board has no row of the scheme"
        if scheme["size_multiple"] > 1:
            yield f"- image sides are padded to multiples of {scheme['size_multiple']}"
        if scheme["trains"]:
            yield "- its key is trained: by `POST /keys`, or by an evaluation for its own cells"
        yield ""
        yield from _parameters(scheme["parameters"])
        rows = [
            (_flat(variant["params"]), _bits(variant["key_space_bits"]),
             "each image" if variant["key_per_image"] else "all images", *_paper(variant["paper"]))
            for variant in scheme["variants"]
        ]  # fmt: skip
        yield from _table(("variant", "keys", "one key for", "paper's SSIM", "paper's verdict"), rows)


def _attacks() -> Iterator[str]:
    yield from _page_header(
        "Attacks",
        "A profile (`smoke`, `quick`, `paper`) fills in the settings that a request leaves out; `paper` keeps the "
        "defaults. [Threat models](../explanation/threat-models.md) lists what each attacker holds.",
    )
    for attack in map(catalog.describe_attack, catalog.registered_attacks()):
        yield from (
            f"## {attack['name']}",
            "",
            f"**{attack['title']}** ({attack['source']})",
            "",
            attack["summary"],
            "",
        )
        yield f"- threat model: {attack['threat_model']}"
        yield f"- trains a network: {'yes' if attack['learned'] else 'no'}"
        unknown = ["ciphertexts of unknown schemes"] * attack["takes_unknown_schemes"]
        yield f"- applies to: {', '.join([_names([name]) for name in attack['applies_to']] + unknown)}"
        yield from (f"- does not apply to `{scheme}`: {reason}" for scheme, reason in attack["not_applicable"].items())
        yield from (
            f"- profile `{profile}`: {_flat(settings)}" for profile, settings in attack["profiles"].items() if settings
        )
        yield ""
        yield from _parameters(attack["parameters"])


def _capabilities() -> Iterator[str]:
    yield from _page_header(
        "Capabilities",
        "What the classes of a [plug-in](../how-to/write-a-plugin.md) declare. All names are in `unveil.plugins`.",
    )
    for table in capabilities.tables():
        yield from (f"## {table.heading}", "", table.text, "")
        yield from _table(table.columns, table.rows)


def _summary(described: Mapping[str, Any]) -> list[str]:
    return [] if described["summary"] == described["title"] else [described["summary"], ""]


def _parameters(schema: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (f"`{name}`", _type(setting), _default(setting), setting.get("description", "") + _stronger(setting))
        for name, setting in schema["properties"].items()
    ]
    yield from _table(("setting", "type", "default", "meaning"), rows) if rows else ("No settings.", "")


def _stronger(setting: Mapping[str, Any]) -> str:
    """The stronger direction of an attack's setting; empty if the attack declares none."""
    strength = setting.get("x-stronger")
    if strength in (None, "neutral"):
        return ""
    return f" (stronger: {strength})" if isinstance(strength, str) else f" (from weakest: {', '.join(strength)})"


def _paper(paper: Mapping[str, Any] | None) -> tuple[str, str]:
    if paper is None:
        return "", ""
    ssim = ", ".join(f"{attack} {value:.4f}" for attack, value in paper["ssim"].items())
    robust = ", ".join(
        f"{attack} {'robust' if is_robust else 'not robust'}" for attack, is_robust in paper["robust"].items()
    )
    return ssim, robust


def _bits(bits: float | None) -> str:
    return "not counted" if bits is None else f"2^{bits:,.3f}".rstrip("0").rstrip(".")


# --- command line and client ------------------------------------------------------------------------------------


def _command_line() -> Iterator[str]:
    yield from _page_header(
        "Command line",
        "Exit codes: 0 success, 1 failure, 2 usage error, 3 the service cannot be reached, 4 a verdict met "
        "`--fail-on`. Results go to stdout, progress and errors to stderr. `unveil --install-completion` sets up "
        "completion in your shell, "
        "`unveil --version` prints the version.",
    )
    for name, command in _commands(typer.main.get_command(cli.app)):
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        usage = " ".join([name, *(_argument(argument) for argument in arguments), "[OPTIONS]"])
        yield from (f"## `unveil {usage}`", "", _one_line(command.help or ""), "")
        rows = [
            (
                ", ".join(f"`{option}`" for option in parameter.opts),
                _format_option_default(parameter),
                parameter.help or "",
            )
            for parameter in command.params
            if parameter.name not in ("url", "token", "state", "as_json")
        ]
        if rows:
            yield from _table(("option", "default", "meaning"), rows)
        common = [
            f"`--{name.removeprefix('as_')}`" for name in ("url", "token", "state", "as_json") if _has(command, name)
        ]
        if common:
            yield from (f"Also: {', '.join(common)}.", "")
    yield from ("## Common options", "")
    table: dict[str, str] = {}
    for _, command in _commands(typer.main.get_command(cli.app)):
        table |= {
            parameter.opts[0]: parameter.help or ""
            for parameter in command.params
            if parameter.name in ("url", "token", "state", "as_json") and not parameter.default
        }
    yield from _table(("option", "meaning"), [(f"`{option}`", meaning) for option, meaning in table.items()])


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _has(command: Any, name: str) -> bool:
    return any(parameter.name == name for parameter in command.params)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper()
    return str(name if parameter.required else f"[{name}]")


def _format_option_default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or parameter.default is False or parameter.default == "":
        return ""
    return f"`{parameter.default}`"


def _python_client() -> Iterator[str]:
    yield from _page_header(
        "Python client",
        "`from unveil import Client, AsyncClient`. Both classes have the same methods and arguments. Those of "
        "`Client` block; those of `AsyncClient` are coroutines, and its lists are async iterators. [Problem "
        "codes](errors.md) lists the exceptions.",
    )
    yield from (inspect.cleandoc(Client.__doc__ or ""), "")
    with Client("http://127.0.0.1:8000") as client_instance:
        parts = [
            ("client", client_instance),
            *((f"client.{name}", part) for name, part in vars(client_instance).items() if name[0] != "_"),
        ]
    for name, part in parts:
        yield from _methods(name, type(part))
    for kind in (Evaluation, Cell, Key, Image, Images):
        yield from _methods(kind.__name__, kind)


def _methods(title: str, kind: type) -> Iterator[str]:
    yield from (f"## {title}", "")
    if kind.__doc__ and not issubclass(kind, Client | Collection):
        yield from (_one_line(kind.__doc__), "")
    members = dict(inspect.getmembers(kind)) | getattr(kind, "__dataclass_fields__", {})
    rows = []
    for name, member in sorted(members.items()):
        if name.startswith("_") or name in _HIDDEN_MEMBERS:
            continue
        if inspect.isfunction(member):
            rows.append((f"`{name}({_signature(member)})`", _one_line(member.__doc__ or "")))
        elif isinstance(member, property | dataclasses.Field):
            rows.append((f"`{name}`", _one_line(member.__doc__ or "") if isinstance(member, property) else ""))
    yield from _table(("member", "meaning"), rows)


_HIDDEN_MEMBERS = frozenset({"look", "path", "index", "count", "active"})


def _signature(function: Callable[..., Any]) -> str:
    """Names and defaults; types are in the code and in an editor."""
    parts: list[str] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts and not any(w.startswith("**") for w in parts):
            parts.append("*")
        name = f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        parts.append(name if parameter.default is parameter.empty else f"{name}={parameter.default!r}")
    return ", ".join(parts)


# --- Markdown ---------------------------------------------------------------------------------------------------


def _page_header(title: str, text: str) -> Iterator[str]:
    yield from (f"# {title}", "", text, "")


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    yield from (f"| {' | '.join(_one_line(str(cell)).replace('|', '&#124;') for cell in row)} |" for row in rows)
    yield ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _joined(values: Any) -> str:
    return "; ".join(map(str, sorted(set(values))))


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _flat(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items()) or "–"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    pages = build_pages()
    for path, text in pages.items():
        path.write_text(text)
    for stale in set(FOLDER.glob("*.md")) - set(pages):
        stale.unlink()


if __name__ == "__main__":
    main()
