"""Ids as users write them: whole, by their beginning, by name, or `latest`."""

from __future__ import annotations

import pytest

from unveil.app.cli.common import UsageError
from unveil.app.cli.references import resolve

A, B, C = (f"ev_{digits}{n:026}" for n, digits in enumerate(("0199aa", "0199ab", "0200ff"), 1))
ITEMS = [(C, "night"), (B, "day"), (A, "day")]


@pytest.mark.parametrize(
    ("reference", "id"),
    [
        (B, B), ("latest", C), ("ev_0199aa", A), ("0199ab", B), ("…000002", B), ("000002", B), ("night", C),
        ("ev_" + "f" * 32, "ev_" + "f" * 32),  # not listed: the service says what it is
        ("nothing", "nothing"), ("", ""),
    ],
)  # fmt: skip
def test_a_reference_resolves_to_one_id_or_is_passed_on_unchanged(reference: str, id: str) -> None:
    assert resolve(reference, "evaluation", ITEMS) == id


@pytest.mark.parametrize("reference", ["day", "ev_0199", "0199a"])
def test_a_reference_to_several_lists_their_ids(reference: str) -> None:
    with pytest.raises(UsageError, match=f"matches 2 evaluations: {B}, {A}; give a longer prefix of the id"):
        resolve(reference, "evaluation", ITEMS)


def test_a_name_takes_precedence_over_a_prefix_of_an_id() -> None:
    assert resolve("ev_0199ab", "evaluation", [(B, "x"), (A, "ev_0199ab")]) == A


def test_latest_is_ambiguous_where_an_older_item_has_that_name() -> None:
    with pytest.raises(UsageError, match=f"'latest' matches 2 accounts: {C}, {A}"):
        resolve("latest", "account", [(C, "night"), (B, "day"), (A, "latest")])
    assert resolve("latest", "account", [(C, "latest"), (B, "day")]) == C


def test_latest_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no key yet"):
        resolve("latest", "key", [])
