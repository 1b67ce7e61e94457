"""The order in which the measured board runs."""

from __future__ import annotations

from benchmarks.board import plan_orders
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo

SAMPLE = DatasetInfo("sample", 400, 100, 96, 96)
OPTIONS = {"dataset": "sample", "profile": "smoke", "seed": 3, "samples": 0, "utility": False}


def test_every_drawn_key_meets_every_attack_that_trains_nothing_the_cheapest_first():
    orders = plan_orders(SAMPLE, OPTIONS, [])
    assert [order.core_seconds for order in orders] == sorted(order.core_seconds for order in orders)
    ciphers = [catalog.flatten_settings(scheme) for scheme in catalog.known_ciphers() if "/" not in scheme.name]
    assert sorted(map(str, ciphers)) == sorted(str(order.scheme) for order in orders)
    assert not any(catalog.is_training_attack(attack["name"]) for order in orders for attack in order.attacks)
    tanaka = next(order for order in orders if order.scheme["name"] == "tanaka")
    assert {"none", "fr", "key-recovery", "known-plaintext"} <= {attack["name"] for attack in tanaka.attacks}
    assert tanaka.request["seed"] == 3
    assert len({order.name for order in orders}) == len(orders), "an evaluation is found again by its name"


def test_named_schemes_alone_are_ordered():
    assert {order.scheme["name"] for order in plan_orders(SAMPLE, OPTIONS, ["tanaka", "ele"])} == {"tanaka", "ele"}
