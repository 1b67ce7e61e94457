"""Every route of the service, taken from its route table, with the ids of things that somebody owns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount

Ids = Mapping[str, str]  # by kind of thing: key, dataset, evaluation, cell, webhook

# What each parameter of an address names. A route with one that is not here makes the walk fail: say what it is.
_RESOURCE_BY_PARAMETER = {
    ("keys", "id"): "key", ("datasets", "id"): "dataset", ("evaluations", "id"): "evaluation",
    ("evaluations", "evaluation_id"): "evaluation", ("evaluations", "cell_id"): "cell",
    ("webhooks", "id"): "webhook",
}  # fmt: skip
_VALUE_BY_PARAMETER = {
    ("evaluations", "format"): "json", ("evaluations", "index"): "0", ("evaluations", "picture"): "protected",
    ("evaluations", "number"): "0", ("shared", "number"): "0",
    ("schemes", "name"): "tanaka", ("attacks", "name"): "fr", ("static", "name"): "unveil.css",
    ("accounts", "account"): "owner", ("playground", "name"): "cat", ("{path:path}", "path"): "nowhere",
    ("board.{format}", "format"): "csv", ("evaluations", "share_id"): "share_0197f3c2a5d17a3b8c4d5e6f708192a3",
    ("shared", "secret"): "nobody", ("shared", "format"): "json", ("shared", "index"): "0",
    ("shared", "picture"): "protected", ("shared", "cell_id"): "cell_0197f3c2a5d17a3b8c4d5e6f708192a3",
}  # fmt: skip
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
# Bodies without which a route does not look for what its address names.
_BODY_BY_ROUTE: Mapping[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/evaluations/{evaluation_id}"): {"json": {"name": "mine"}},
    ("POST", "/evaluations/{evaluation_id}/shares"): {"json": {}},
}
UNKNOWN: Ids = {
    kind: f"{kind}_0197f3c2a5d17a3b8c4d5e6f708192a3" for kind in ("key", "evaluation", "cell", "webhook")
} | {"dataset": "ds_0197f3c2a5d17a3b8c4d5e6f708192a3"}


@dataclass(frozen=True)
class Endpoint:
    """One method of one address."""

    method: str
    path: str

    @property
    def is_owned(self) -> bool:
        return any((self._collection, name) in _RESOURCE_BY_PARAMETER for name in self._parameter_names)

    def address(self, ids: Ids) -> str:
        return _PARAMETER.sub(lambda found: self._value(found[1], ids), self.path)

    @property
    def body(self) -> dict[str, Any]:
        """Arguments of `request`."""
        return _BODY_BY_ROUTE.get((self.method, self.path), {})

    @property
    def _parameter_names(self) -> list[str]:
        return _PARAMETER.findall(self.path)

    @property
    def _collection(self) -> str:
        return self.path.removeprefix("/dashboard").split("/")[1]

    def _value(self, name: str, ids: Ids) -> str:
        parameter = self._collection, name
        if parameter in _RESOURCE_BY_PARAMETER:
            return ids[_RESOURCE_BY_PARAMETER[parameter]]
        if parameter in _VALUE_BY_PARAMETER:
            return _VALUE_BY_PARAMETER[parameter]
        raise KeyError(f"{self.method} {self.path}: add {name!r} to _RESOURCE_BY_PARAMETER or _VALUE_BY_PARAMETER")


def list_endpoints(app: FastAPI) -> list[Endpoint]:
    return [
        Endpoint(method, route.path)  # type: ignore[attr-defined]
        for route in _flatten_routes(app.routes)
        if not isinstance(route, Mount)  # static files, the same for everybody
        for method in sorted(route.methods - {"HEAD"})  # type: ignore[attr-defined]
    ]


def _flatten_routes(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _flatten_routes(included.routes)


def create_resources(http: httpx.Client, archive: bytes, no_receiver: str) -> dict[str, str]:
    """Make one thing of each kind; the cells of the evaluation are not run here."""
    key = http.post("/keys", json={"scheme": "tanaka"}).raise_for_status().json()
    files = {"archive": ("a.zip", archive, "application/zip")}
    dataset = http.post("/datasets", data={"name": "walk", "size": "24"}, files=files).raise_for_status().json()
    order = {
        "schemes": [{"name": "tanaka", "key_id": key["id"]}], "attacks": [{"name": "none"}],
        "dataset": dataset["id"], "profile": "smoke", "samples": 1, "keys": 1,
    }  # fmt: skip
    evaluation = http.post("/evaluations", json=order).raise_for_status().json()
    webhook = http.post("/webhooks", json={"url": no_receiver}).raise_for_status().json()
    return {
        "key": key["id"], "dataset": dataset["id"], "webhook": webhook["id"],
        "evaluation": evaluation["id"], "cell": evaluation["cells"][0]["id"],
    }  # fmt: skip


def requests_with_ids_in_bodies(ids: Ids, picture: bytes, plain_archive: bytes) -> dict[str, dict[str, Any]]:
    """Requests whose bodies name things: (name: arguments of `request`)."""
    image = {"images": ("a.png", picture, "image/png")}
    audit = {"attacks": [{"name": "none"}], "profile": "smoke", "keys": 1}
    tanaka = {"name": "tanaka"}
    orders: dict[str, dict[str, Any]] = {
        "key": {"schemes": [{**tanaka, "key_id": ids["key"]}], "dataset": "sample"},
        "dataset": {"schemes": [tanaka], "dataset": ids["dataset"]},
        "public dataset": {"schemes": [tanaka], "dataset": "sample", "public_dataset": ids["dataset"]},
        "protected images": {"schemes": [{"name": "external", "dataset": ids["dataset"]}]},
    }
    return {
        "encrypt": {"method": "POST", "url": "/encrypt", "data": {"key_id": ids["key"]}, "files": image},
        "decrypt": {"method": "POST", "url": "/decrypt", "data": {"key_id": ids["key"]}, "files": image},
        "train": {
            "method": "POST", "url": "/keys",
            "json": {"scheme": "tn-model", "params": {"profile": "smoke", "dataset": ids["dataset"]}},
        },
        **{
            f"{what}, {name}": {"method": "POST", "url": url, "json": {**audit, **order}}
            for name, order in orders.items()
            for what, url in (("evaluate", "/evaluations"), ("estimate", "/evaluations/estimate"))
        },
        "compare": {"method": "GET", "url": f"/dashboard/compare?ids={ids['evaluation']},ev_other"},
    }  # fmt: skip
