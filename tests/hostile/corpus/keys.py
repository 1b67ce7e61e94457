"""Key material and JSON that is not what it says."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from tests.hostile.corpus.kind import HostileCase, json_body

_PERMUTATION, _REVERSED = list(range(96)), [0] * 96


def _rejected(name: str, status: int, code: str, text: Callable[[], str | bytes], path: str = "/keys") -> HostileCase:
    return HostileCase(name, path, status, code, lambda: json_body(text()))


def _tanaka(**material: Any) -> Callable[[], str]:
    return lambda: json.dumps(
        {"scheme": "tanaka", "material": {"permutation": _PERMUTATION, "reversed": _REVERSED, **material}}
    )


def _pixelwise(**material: Any) -> Callable[[], str]:
    maps = {"width": 2, "height": 2, "reversed": base64.b64encode(bytes(12)).decode(),
            "orders": base64.b64encode(bytes(4)).decode()}  # fmt: skip
    return lambda: json.dumps({"scheme": "pixelwise", "material": {**maps, **material}})


KINDS = [
    _rejected("a permutation that is none", 422, "invalid_request", _tanaka(permutation=[0] * 96)),
    _rejected("a permutation of a million", 413, "too_large", _tanaka(permutation=list(range(10**6)))),
    _rejected("a permutation of floats", 422, "invalid_request", _tanaka(permutation=[float(i) for i in range(96)])),
    _rejected("reversals that are lists", 422, "invalid_request", _tanaka(reversed=[[]] * 96)),
    _rejected("maps for a billion pixels in four bytes", 422, "invalid_request", _pixelwise(width=65535, height=65535)),
    _rejected("maps of no size", 422, "invalid_request", _pixelwise(width=0, height=0)),
    _rejected("maps with a negative side", 422, "invalid_request", _pixelwise(width=-2, height=-2)),
    _rejected("maps that are no base64", 422, "invalid_request", _pixelwise(reversed="%%%")),
    _rejected("orders out of range", 422, "invalid_request", _pixelwise(orders="CQkJCQ==")),
    _rejected("JSON nested a hundred thousand deep", 400, "bad_request", lambda: "[" * 100_000),
    _rejected("JSON of ten million empty objects", 413, "too_large", lambda: "[" + "{}," * 10_000_000),
    _rejected("a number of five thousand digits", 400, "bad_request", lambda: '{"scheme":' + "9" * 5000 + "}"),
    _rejected("half a character", 422, "invalid_request", lambda: b'{"scheme":"\\ud800"}'),
    HostileCase(
        "JSON in UTF-16", "/keys", 201, None, lambda: json_body('{"scheme":"tanaka"}'.encode("utf-16")), {"keys": 1}
    ),
    _rejected("somebody else's account", 422, "invalid_request", lambda: '{"scheme":"tanaka","account_id":"acct_1"}'),
    _rejected("a form that says it is JSON", 400, "bad_request", lambda: b"scheme=tanaka"),
    _rejected(
        "an evaluation of a billion samples",
        422,
        "invalid_request",
        lambda: json.dumps(
            {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "sample", "samples": 10**9}
        ),
        "/evaluations",
    ),
    _rejected(
        "an evaluation of a million cells",
        422,
        "invalid_request",
        lambda: json.dumps(
            {"schemes": [{"name": "tanaka"}] * 1000, "attacks": [{"name": "none"}] * 1000, "dataset": "sample"}
        ),
        "/evaluations",
    ),
    _rejected(
        "a dataset that is a path",
        422,
        "unknown_dataset",
        lambda: json.dumps({"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "../../etc"}),
        "/evaluations",
    ),
    _rejected(
        "a dataset that is an address",
        422,
        "unknown_dataset",
        lambda: json.dumps(
            {"schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "dataset": "http://169.254.169.254/"}
        ),
        "/evaluations",
    ),
]
