import pytest

from unveil.models.core.verdicts import cell_verdict, scheme_verdict

IDENTIFIED = {"top1": 0.4, "chance": 0.002, "gallery": 500, "above_chance": True}
NOT_IDENTIFIED = {**IDENTIFIED, "top1": 0.002, "above_chance": False}
PASSED, FAILED = {"positive": "passed", "negative": "passed"}, {"positive": "failed", "negative": "passed"}


def result(ssim, identification, controls=PASSED, **more):
    figures = {"ssim": {"mean": ssim}, "identification": identification, "controls": controls, **more}
    return {**figures, "verdict": cell_verdict(figures)}


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        (result(0.95, IDENTIFIED), "broken"),
        (result(0.2, IDENTIFIED, key_agreement={"exact": True}), "broken"),
        (result(0.2, IDENTIFIED), "leaks"),
        (result(0.02, NOT_IDENTIFIED), "no leak found"),
        (result(0.02, NOT_IDENTIFIED, FAILED), "inconclusive"),
        ({"verdict": cell_verdict({"effective_bits": 256})}, "no leak found"),
        ({"verdict": cell_verdict({"effective_bits": 32})}, "broken"),
    ],
)
def test_the_verdict_on_a_cell(figures, verdict):
    assert figures["verdict"] == verdict


def cells(*results, status="succeeded"):
    return [{"attack": {"name": name}, "status": status, "result": r} for name, r in results]


def test_the_worst_attack_speaks_for_the_scheme():
    verdict = scheme_verdict(
        cells(
            ("none", result(0.01, NOT_IDENTIFIED)),
            ("fr", result(0.3, IDENTIFIED)),
            ("key-recovery", result(1.0, IDENTIFIED, key_agreement={"exact": True}, numbers={"ciphertexts": 64})),
        )
    )
    assert verdict == {
        "verdict": "broken",
        "because": "key-recovery found the exact key from 64 ciphertexts",
        "worst_attack": "key-recovery",
    }


def test_no_leak_found_needs_every_attack_to_have_finished():
    quiet = cells(("none", result(0.01, NOT_IDENTIFIED)))
    assert scheme_verdict(quiet)["verdict"] == "no leak found"
    failed = scheme_verdict(quiet + cells(("itn", None), status="failed"))
    assert failed["verdict"] == "inconclusive"
    assert "itn" in failed["because"]
    running = scheme_verdict(quiet + cells(("itn", None), status="running"))
    assert "running" in running["because"]


def test_a_failed_control_is_never_secure():
    verdict = scheme_verdict(
        cells(("none", result(0.01, NOT_IDENTIFIED)), ("itn", result(0.01, NOT_IDENTIFIED, FAILED)))
    )
    assert verdict["verdict"] == "inconclusive"
    assert verdict["because"] == "the positive control of itn failed"


def test_of_two_leaks_the_one_that_shows_more_is_named():
    identification = {**IDENTIFIED, "top1": 0.7}
    verdict = scheme_verdict(cells(("fr", result(0.05, IDENTIFIED)), ("none", result(0.01, identification))))
    assert verdict["worst_attack"] == "none"
    assert verdict["because"] == "the unattacked ciphertexts let 70% of images be picked out of 500 (chance 0.2%)"


def test_what_could_not_be_scored_is_called_as_everywhere():
    nothing = {"ssim": None, "identification": None}
    verdict = scheme_verdict(cells(("none", {**nothing, "verdict": cell_verdict(nothing)})))
    assert verdict["because"] == "the unattacked ciphertexts could not be scored"
