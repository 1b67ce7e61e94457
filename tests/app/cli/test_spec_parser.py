"""NAME[:SETTING]...: what a user types, and what becomes of it."""

from __future__ import annotations

import pytest

from unveil.app.cli import spec_parser
from unveil.app.cli.common import UsageError

CATALOG = [
    {
        "name": "pixelwise",
        "parameters": {"properties": {"key_mode": {"enum": ["same", "different"], "default": "same"}}},
    },
    {"name": "fr", "parameters": {"properties": {"b": {"type": "integer", "default": 0}}}},
    {"name": "none", "parameters": {"properties": {"images": {"type": ["integer", "null"]}}}},
]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("pixelwise", [{"name": "pixelwise"}]),
        ("pixelwise:different, fr:b=1", [{"name": "pixelwise", "key_mode": "different"}, {"name": "fr", "b": 1}]),
        ("external:dataset=ds_1", [{"name": "external", "dataset": "ds_1"}]),
        ("external:ds_1", [{"name": "external", "dataset": "ds_1"}]),
        ("pixelwise:key_1:same", [{"name": "pixelwise", "key_id": "key_1", "key_mode": "same"}]),
        ("fr:nibblewise=true", [{"name": "fr", "nibblewise": True}]),
        ("all", [{"name": "pixelwise"}, {"name": "fr"}, {"name": "none"}]),
    ],
)
def test_words_become_an_order(text: str, parsed: list) -> None:
    assert spec_parser.parse_specs(text, CATALOG) == parsed


@pytest.mark.parametrize("text", ["", " , ", "fr:1", "magic:loud"])
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        spec_parser.parse_specs(text, CATALOG)


def test_the_error_for_a_value_without_a_setting_lists_the_settings() -> None:
    with pytest.raises(UsageError, match=r"write one of pixelwise:SETTING=VALUE; settings: key_mode=same\|different$"):
        spec_parser.parse_specs("pixelwise:diferent", CATALOG)
    with pytest.raises(UsageError, match=r"settings: images=integer\|null$"):
        spec_parser.parse_specs("none:few", CATALOG)
