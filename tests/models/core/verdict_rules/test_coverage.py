import pytest

from tests.models.evaluation.verdict_cases import cell
from unveil.models.core.verdict_rules.coverage import RequiredAttack, coverage, weaker_settings


def attack(value, strength):
    return RequiredAttack("itn", "known-plaintext", {"setting": value}, {"setting": strength} if strength else {})


@pytest.mark.parametrize(
    ("wanted", "strength", "given", "weak"),
    [
        (10, "higher", 10, False),
        (10, "higher", 20, False),
        (10, "higher", 9, True),
        (0.5, "lower", 0.4, False),
        (0.5, "lower", 0.6, True),
        (0, "neutral", 1, False),
        (10, None, 20, True),
        (10, None, 10, False),
        ("expected", ("likeliest", "expected"), "likeliest", True),
        ("likeliest", ("likeliest", "expected"), "expected", False),
        ("expected", ("likeliest", "expected"), "unknown", True),
        (None, "higher", 5, True),
        (True, "higher", False, True),
    ],
)
def test_a_setting_counts_as_weaker_unless_its_declared_direction_differs(wanted, strength, given, weak):
    assert bool(weaker_settings(attack(wanted, strength), {"setting": given})) == weak


def test_a_weaker_setting_names_both_values():
    assert weaker_settings(attack(None, None), {"setting": True}) == [
        "setting=true, the profile has null (the setting declares no stronger direction)"
    ]
    assert weaker_settings(attack(0.1, "lower"), {"setting": 1.5}) == ["setting=1.5, the profile has 0.1"]


def test_one_cell_at_the_profiles_strength_is_enough():
    weak, strong = (cell("itn", settings={"setting": n}) for n in (1, 10))
    found = coverage([attack(10, "higher")], [weak, strong])
    assert found.tried
    assert not found.not_tried
    assert not found.weakened


def test_attacks_beyond_the_profile_are_listed_as_tried():
    found = coverage([], [cell("vendor/attack")])
    assert [(note.attack, note.reason) for note in found.tried] == [("vendor/attack", "beyond the profile")]
