"""Verdicts in words."""

from __future__ import annotations

from typing import Any

import pytest

from unveil.app.report.evaluation import EvaluationVerdict
from unveil.app.report.narrative import badge, break_headline, describe_evidence, describe_verdict, summarize
from unveil.models.core.verdict_rules.coverage import AttackNote
from unveil.models.core.verdict_rules.types import RULES_VERSION, CheapestBreak, Power, Severity


def verdict(word: Any, because: str = "", **fields: Any) -> EvaluationVerdict:
    values = {"rules_version": RULES_VERSION, "covers": ("ciphertext-only",), **fields}
    return EvaluationVerdict(scheme={"name": "tanaka"}, verdict=word, because=because, **values)


def test_one_line_counts_the_verdicts_and_names_the_cheapest_break():
    by_pairs = CheapestBreak("known-plaintext", None, 3, None, 0.2)
    by_ciphertexts = CheapestBreak("key-recovery", 2, None, None, 4.0)
    broken = [verdict("broken", cheapest_break=each) for each in (by_pairs, by_ciphertexts, by_pairs)]
    expected = "4 schemes: 3 broken, 1 leaks. Cheapest break: 2 protected images, 4.0 s."
    assert summarize([*broken, verdict("leaks")]) == expected
    assert summarize([verdict("no leak found")]) == "1 scheme: 1 no leak found."
    in_the_clear = verdict("broken", cheapest_break=CheapestBreak("none", None, None, None, 1.0))
    assert summarize([in_the_clear]) == "1 scheme: 1 broken. Cheapest break: No attack, 1.0 s."


@pytest.mark.parametrize(
    ("word", "severity", "expected"),
    [
        ("leaks", Severity("identification", 0.77, 0.73, 0.81, 500), "leaks, 77 %"),
        ("broken", Severity("key", 5 / 6, 0.4, 0.99, 6), "broken, 83 % of keys"),
        ("broken", Severity("key", 1.0, 0.5, 1.0, 6), "broken"),
        ("broken", Severity("ssim", 0.95, 0.94, 0.96, 500), "broken, SSIM 0.95"),
        ("inconclusive", Severity("identification", 0.01, 0.0, 0.02, 500), "inconclusive"),
        ("no leak found", None, "no leak found"),
    ],
)
def test_a_badge_carries_the_severity_of_a_finding(word, severity, expected):
    assert badge(verdict(word, severity=severity)) == expected


@pytest.mark.parametrize(
    ("cheapest", "expected"),
    [
        (("chosen-plaintext", None, None, 5, 0.003), "broken with 5 images of the attacker's choice in under 0.1 s"),
        (("key-recovery", 1, None, None, 4.0), "broken with 1 protected image in 4.0 s"),
        (("brute-force", None, None, None, None), "broken by brute force"),
        (("itn", None, None, None, 90.0), "broken by ITN-Attack in 90 s"),
    ],
)
def test_the_headline_of_a_break_is_a_sentence(cheapest, expected):
    assert break_headline(CheapestBreak(*cheapest)) == expected


def test_a_sentence_names_the_attack_by_its_title():
    found = verdict("leaks", "fr allows 44 % of images to be identified among 500", worst_attack="fr")
    assert describe_verdict(found).startswith("It does not hide the images: FR-Attack allows 44 %")
    both = verdict("leaks", "fr shows 2 of 60 images; fr allows 44 % of images to be identified", worst_attack="fr")
    assert describe_verdict(both).count("FR-Attack") == 2, "a later clause names it by its title as well"
    earlier = verdict("broken", "earlier rules, by fr", worst_attack="fr", rules_version=1)
    assert describe_verdict(earlier) == "Earlier rules, by fr."


def test_coverage_and_power_are_named_and_power_only_without_a_finding():
    note = AttackNote("itn", "known-plaintext", "not requested")
    power = Power(0.016, 0.002, 500, 497.4, 500)
    open_verdict = dict(describe_evidence(verdict("inconclusive", not_tried=(note,), power=power)))
    assert "Not tried" not in open_verdict, "the reason of the verdict names it"
    assert "a leak above 1.6 % of images would have been detected" in open_verdict["Power"]
    severity = Severity("linkage", 0.1, 0.05, 0.2, 500)
    others = (note, AttackNote("gan", "+public images", "not requested"))
    leak = dict(describe_evidence(verdict("leaks", power=power, severity=severity, not_tried=others)))
    assert leak["Not tried"] == "ITN-Attack, GAN-Attack (not requested)"
    assert leak["Severity"] == "10 % of images linked (95 % interval 5.0 % to 20 %, 500 images)"
    assert "Power" not in leak
    one_key = dict(describe_evidence(verdict("broken", severity=Severity("key", 1.0, 0.025, 1.0, 1))))
    assert one_key["Severity"].endswith("100 %, 1 key)")
    assert list(describe_evidence(verdict("leaks", rules_version=1))) == []


def test_the_example_of_the_api_is_a_verdict():
    (example,) = EvaluationVerdict.__pydantic_config__["json_schema_extra"]["examples"]
    assert EvaluationVerdict.from_json(example).to_json() == example
    assert EvaluationVerdict.from_json(example).unknown_fields == {}


def test_a_sentence_names_the_trained_part_that_a_scheme_lacks():
    found = EvaluationVerdict(
        scheme={"name": "minusface"}, verdict="leaks", because="none identifies 90 %", rules_version=RULES_VERSION
    )
    assert "The trained part of MinusFace is missing: the network whose" in describe_verdict(found)
    assert "missing" not in describe_verdict(verdict("leaks", because="none identifies 90 %"))
