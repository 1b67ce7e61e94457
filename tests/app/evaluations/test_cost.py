"""The estimate of what an evaluation costs, against costs measured in docs/results.md."""

from __future__ import annotations

from typing import Any

import pytest

from unveil.app.evaluations.cost import estimate_cost
from unveil.app.evaluations.planning import PlannedCell, PlannedKey
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo

PAPER = {None: DatasetInfo("stl10", 5000, 500, 96, 96)}


def planned(scheme: str, attack: str, reason: str | None = None, **settings: Any) -> PlannedCell:
    name, scheme_settings = catalog.parse_spec("scheme", scheme)
    entry = catalog.flatten_settings(catalog.make_scheme(name, scheme_settings))
    made = catalog.make_attack(attack, settings, "paper")
    return PlannedCell(entry, catalog.flatten_settings(made), made.threat_model.name, reason)


def minutes(*cells: PlannedCell) -> float:
    return sum(estimate_cost(cells, [], PAPER, "paper", 3, None).cells) / 60


@pytest.mark.parametrize(
    ("scheme", "attack", "measured"),  # minutes of one training, on one core
    [
        ("pixelwise", "itn", 9), ("tanaka", "itn", 29), ("tn-gan", "itn", 69 * 60), ("pixelwise", "itn-strong", 11),
        ("tn-gan", "itn-strong", 300), ("pixelwise", "gan", 69), ("tanaka", "gan", 23), ("tn-gan", "gan", 12 * 60),
    ],
)  # fmt: skip
def test_a_cell_of_the_papers_settings_is_estimated_within_a_factor_of_three(scheme, attack, measured):
    assert measured < minutes(planned(scheme, attack)) < 9 * measured  # of three trainings: two are controls


def test_cells_that_share_controls_are_charged_for_them_once():
    first, second = planned("tanaka", "itn"), planned("tanaka:icce2018", "itn")
    assert minutes(first, second) == pytest.approx(minutes(first) * 4 / 3, rel=0.05)


def test_a_pair_that_does_not_apply_costs_nothing_and_one_that_trains_nothing_costs_little():
    assert minutes(planned("tanaka", "itn", "does not apply")) == 0
    assert 0 < minutes(planned("tanaka", "fr")) < 3


@pytest.mark.parametrize(
    ("scheme", "attack", "targets", "measured"),  # core seconds of the attack on so many targets
    [("etc", "jigsaw", 5, 1.0), ("instahide", "instahide", 100, 23.1), ("partialface", "channel-inversion", 60, 2.2)],
)
def test_slow_attacks_without_training_are_estimated_by_their_targets(scheme, attack, targets, measured):
    images = {None: DatasetInfo("natural96", 200, targets, 96, 96)}
    (estimate,) = estimate_cost([planned(scheme, attack)], [], images, "paper", 1, None).cells
    assert measured / 3 < estimate < 3 * measured


def test_targets_beyond_the_most_that_an_attack_takes_cost_nothing():
    few, many = (
        estimate_cost([planned("etc", "jigsaw")], [], {None: DatasetInfo("x", 9, n, 96, 96)}, "paper", 1, None)
        for n in (30, 500)
    )
    assert few == many


@pytest.mark.parametrize(("name", "measured"), [("tn-model", 157 + 43 * 60), ("tn-gan", 94 * 60)])
def test_the_training_of_a_key_is_estimated_within_a_factor_of_three(name, measured):
    key = PlannedKey("key_1", catalog.make_scheme(name, {}))
    estimate = estimate_cost([], [key], PAPER, "paper", 1, None)
    assert measured / 3 < estimate.core_seconds / 60 < measured * 3
