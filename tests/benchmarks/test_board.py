"""The order in which the measured board runs."""

from __future__ import annotations

from benchmarks.board import plan_orders
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo

SAMPLE = DatasetInfo("sample", 400, 100, 96, 96)
OPTIONS = {"dataset": "sample", "profile": "smoke", "seed": 3, "samples": 0, "utility": False}


def test_every_whole_scheme_meets_every_attack_the_cheapest_first():
    orders = plan_orders(SAMPLE, OPTIONS, [])
    assert [order.core_seconds for order in orders] == sorted(order.core_seconds for order in orders)
    schemes = [order.scheme for order in orders]
    ciphers = [scheme for scheme in catalog.known_ciphers() if "/" not in scheme.name and scheme.missing_part is None]
    assert all(catalog.flatten_settings(scheme) in schemes for scheme in ciphers)
    assert len(schemes) == len(ciphers) + 2
    assert {"name": "tn-gan"} in schemes
    assert {"name": "tn-model"} in schemes
    tanaka = next(order for order in orders if order.scheme["name"] == "tanaka")
    attacks = {attack["name"] for attack in tanaka.attacks}
    assert {"none", "fr", "key-recovery", "known-plaintext", "itn", "gan", "linkage"} <= attacks
    assert tanaka.request["seed"] == 3
    assert len({order.name for order in orders}) == len(orders), "an evaluation is found again by its name"


def test_named_schemes_alone_are_ordered():
    assert {order.scheme["name"] for order in plan_orders(SAMPLE, OPTIONS, ["tanaka", "ele"])} == {"tanaka", "ele"}
