"""Verdicts on cells and on schemes."""

from dataclasses import replace

import pytest

from tests.factories import identification_summary, make_result
from unveil.models.core.cell_result import CellResult, Controls
from unveil.models.core.verdicts import AttackOutcome, cell_verdict, scheme_verdict, with_verdict

IDENTIFIED = identification_summary(0.4)
UNIDENTIFIED = identification_summary(0.002, above_chance=False)
FAILED = Controls(positive="failed", negative="passed")


def result(ssim, identification, **fields) -> CellResult:
    return with_verdict(make_result(ssim=ssim, identification=identification, **fields))


@pytest.mark.parametrize(
    ("scored", "verdict"),
    [
        (result(0.95, IDENTIFIED), "broken"),
        (result(0.2, IDENTIFIED, key_agreement={"exact": True}), "broken"),
        (result(0.2, IDENTIFIED), "leaks"),
        (result(0.02, UNIDENTIFIED), "no leak found"),
        (result(0.02, UNIDENTIFIED, controls=FAILED), "inconclusive"),
        (result(None, None, effective_bits=256), "no leak found"),
        (result(None, None, effective_bits=32), "broken"),
    ],
)
def test_the_verdict_on_a_cell(scored, verdict):
    assert scored.verdict == cell_verdict(scored) == verdict


def outcomes(*results, status="succeeded"):
    return [AttackOutcome(name, status, scored) for name, scored in results]


def test_the_worst_attack_decides_the_verdict_on_the_scheme():
    verdict = scheme_verdict(
        outcomes(
            ("none", result(0.01, UNIDENTIFIED)),
            ("fr", result(0.3, IDENTIFIED)),
            ("key-recovery", result(1.0, IDENTIFIED, key_agreement={"exact": True}, numbers={"ciphertexts": 64})),
        )
    )
    assert verdict.to_json() == {
        "verdict": "broken",
        "because": "key-recovery found the exact key from 64 ciphertexts",
        "worst_attack": "key-recovery",
    }


def test_no_leak_found_needs_every_attack_to_have_finished():
    finished = outcomes(("none", result(0.01, UNIDENTIFIED)))
    assert scheme_verdict(finished).verdict == "no leak found"
    failed = scheme_verdict(finished + outcomes(("itn", None), status="failed"))
    assert failed.verdict == "inconclusive"
    assert "itn" in failed.because
    running = scheme_verdict(finished + outcomes(("itn", None), status="running"))
    assert "running" in running.because


def test_a_failed_control_is_never_secure():
    scored = [result(0.01, UNIDENTIFIED), result(0.01, UNIDENTIFIED, controls=FAILED)]
    verdict = scheme_verdict(outcomes(("none", scored[0]), ("itn", scored[1])))
    assert verdict.verdict == "inconclusive"
    assert verdict.because == "the positive control of itn failed"


def test_of_two_leaks_the_one_that_shows_more_is_named():
    more = replace(IDENTIFIED, top1=0.7)
    verdict = scheme_verdict(outcomes(("fr", result(0.05, IDENTIFIED)), ("none", result(0.01, more))))
    assert verdict.worst_attack == "none"
    assert verdict.because == "the unattacked ciphertexts let 70% of images be picked out of 500 (chance 0.2%)"


def test_a_cell_without_scores_is_named_as_everywhere():
    verdict = scheme_verdict(outcomes(("none", result(None, None))))
    assert verdict.because == "the unattacked ciphertexts could not be scored"
