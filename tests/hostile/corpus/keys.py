"""Key material and JSON that is not what it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.hostile.corpus.kind import Kind, json_body

_PERMUTATION, _REVERSED = list(range(96)), [0] * 96


def _refused(name: str, status: int, code: str, text: Callable[[], str | bytes], path: str = "/keys") -> Kind:
    return Kind(name, path, status, code, lambda: json_body(text()))


def _tanaka(**material: Any) -> Callable[[], str]:
    return lambda: json.dumps(
        {"scheme": "tanaka", "material": {"permutation": _PERMUTATION, "reversed": _REVERSED, **material}}
    )


def _pixelwise(**material: Any) -> Callable[[], str]:
    maps = {"width": 2, "height": 2, "reversed": base64.b64encode(bytes(12)).decode(),
            "orders": base64.b64encode(bytes(4)).decode()}  # fmt: skip
    return lambda: json.dumps({"scheme": "pixelwise", "material": {**maps, **material}})


KINDS = [
    _refused("a permutation that is none", 422, "invalid_request", _tanaka(permutation=[0] * 96)),
    _refused("a permutation of a million", 413, "too_large", _tanaka(permutation=list(range(10**6)))),
    _refused("a permutation of floats", 422, "invalid_request", _tanaka(permutation=[float(i) for i in range(96)])),
    _refused("reversals that are lists", 422, "invalid_request", _tanaka(reversed=[[]] * 96)),
    _refused("maps for a billion pixels in four bytes", 422, "invalid_request", _pixelwise(width=65535, height=65535)),
    _refused("maps of no size", 422, "invalid_request", _pixelwise(width=0, height=0)),
    _refused("maps with a negative side", 422, "invalid_request", _pixelwise(width=-2, height=-2)),
    _refused("maps that are no base64", 422, "invalid_request", _pixelwise(reversed="%%%")),
    _refused("orders out of range", 422, "invalid_request", _pixelwise(orders="CQkJCQ==")),
    _refused("JSON nested a hundred thousand deep", 400, "bad_request", lambda: "[" * 100_000),
    _refused("JSON of ten million empty objects", 413, "too_large", lambda: "[" + "{}," * 10_000_000),
    _refused("a number of five thousand digits", 400, "bad_request", lambda: '{"scheme":' + "9" * 5000 + "}"),
    _refused("half a character", 422, "invalid_request", lambda: b'{"scheme":"\\ud800"}'),
    Kind("JSON in UTF-16", "/keys", 201, None, lambda: json_body('{"scheme":"tanaka"}'.encode("utf-16")), {"keys": 1}),
    _refused("somebody else's account", 422, "invalid_request", lambda: '{"scheme":"tanaka","account_id":"acct_1"}'),
    _refused("a form that says it is JSON", 400, "bad_request", lambda: b"scheme=tanaka"),
    _refused("an evaluation of a billion samples", 422, "invalid_request", lambda: json.dumps(
        {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample", "samples": 10**9}),
        "/evaluations"),
    _refused("an evaluation of a million cells", 422, "invalid_request", lambda: json.dumps(
        {"schemes": [{"name": "tanaka"}] * 1000, "attacks": [{"name": "none"}] * 1000, "dataset": "sample"}),
        "/evaluations"),
    _refused("a dataset that is a path", 422, "unknown_dataset", lambda: json.dumps(
        {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "../../etc"}), "/evaluations"),
    _refused("a dataset that is an address", 422, "unknown_dataset", lambda: json.dumps(
        {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "http://169.254.169.254/"}),
        "/evaluations"),
]  # fmt: skip
