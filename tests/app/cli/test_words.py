"""NAME[:SETTING]...: what a user types, and what becomes of it."""

from __future__ import annotations

import pytest

from app.cli import words
from app.cli.common import Misused

CATALOG = [
    {
        "name": "pixelwise",
        "parameters": {"properties": {"key_mode": {"enum": ["same", "different"], "default": "same"}}},
    },
    {"name": "fr", "parameters": {"properties": {"b": {"type": "integer", "default": 0}}}},
]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("pixelwise", [{"name": "pixelwise"}]),
        ("pixelwise:different, fr:b=1", [{"name": "pixelwise", "key_mode": "different"}, {"name": "fr", "b": 1}]),
        ("external:dataset=ds_1", [{"name": "external", "dataset": "ds_1"}]),
        ("fr:nibblewise=true", [{"name": "fr", "nibblewise": True}]),
        ("all", [{"name": "pixelwise"}, {"name": "fr"}]),
    ],
)
def test_words_become_an_order(text: str, parsed: list) -> None:
    assert words.parse(text, CATALOG) == parsed


@pytest.mark.parametrize("text", ["", " , ", "fr:1", "magic:loud"])
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(Misused):
        words.parse(text, CATALOG)


def test_labels_leave_defaults_unsaid_but_for_the_papers_rows() -> None:
    assert words.label({"name": "pixelwise", "key_mode": "same"}, CATALOG) == "pixelwise:same"
    assert words.label({"name": "fr", "b": 0}, CATALOG) == "fr"
    assert words.label({"name": "fr", "b": 1}, CATALOG) == "fr:b=1"
