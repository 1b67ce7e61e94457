from dataclasses import dataclass
from typing import Literal

import pytest

from unveil.models.core.settings_schema import ParameterError, json_schema, parse, setting


@dataclass(frozen=True)
class Example:
    epochs: int = setting(20, "Passes over the data", minimum=1, maximum=300)
    rate: float = setting(0.1, "Learning rate", minimum=0.0)
    mode: Literal["a", "b"] = setting("a", "Which")
    flag: bool = setting(False, "Whether")
    limit: int | None = setting(None, "At most")
    block: int = setting(4, "Side", minimum=4, maximum=4)


def test_missing_settings_take_their_defaults():
    assert parse(Example, {"epochs": 5, "rate": 1}) == Example(epochs=5, rate=1.0)
    assert parse(Example, {"limit": None}).limit is None


@pytest.mark.parametrize(
    ("values", "pointer", "detail"),
    [
        ({"epochs": 0}, "/epochs", "at least 1"),
        ({"epochs": 301}, "/epochs", "at most 300"),
        ({"epochs": 1.5}, "/epochs", "integer"),
        ({"block": 3}, "/block", "must be 4; got 3"),
        ({"block": 8}, "/block", "must be 4; got 8"),
        ({"epochs": True}, "/epochs", "integer"),
        ({"rate": float("nan")}, "/rate", "finite"),
        ({"rate": float("inf")}, "/rate", "finite"),
        ({"rate": 10**400}, "/rate", "finite"),
        ({"mode": "c"}, "/mode", "one of a, b"),
        ({"mode": ["a"]}, "/mode", "one of a, b"),
        ({"flag": 1}, "/flag", "boolean"),
        ({"limit": "x"}, "/limit", "integer or null"),
        ({"epoch": 1}, "/epoch", "unknown parameter"),
    ],
)
def test_an_invalid_value_is_named_by_its_pointer(values, pointer, detail):
    with pytest.raises(ParameterError) as caught:
        parse(Example, values)
    ((at, what),) = caught.value.errors
    assert at == pointer
    assert detail in what


@pytest.mark.parametrize("values", [{"epochs": 10**400}, {"mode": "c" * 10**6}, {"limit": ["x"] * 10**5}])
def test_an_error_quotes_the_beginning_of_a_long_value(values):
    with pytest.raises(ParameterError) as caught:
        parse(Example, values)
    assert 60 < len(str(caught.value)) < 150
    assert str(caught.value).endswith("...")


def test_the_schema_holds_types_limits_and_defaults():
    schema = json_schema(Example)
    assert schema["properties"]["epochs"] == {
        "type": "integer", "description": "Passes over the data", "minimum": 1, "maximum": 300, "default": 20,
    }  # fmt: skip
    assert schema["properties"]["mode"]["enum"] == ["a", "b"]
    assert schema["properties"]["limit"]["type"] == ["integer", "null"]
    assert schema["additionalProperties"] is False
