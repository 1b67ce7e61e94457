"""Verdicts for build servers."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.factories import make_cell_view, make_result, make_view
from unveil.app.cli import gate
from unveil.app.db.job_states import Status
from unveil.app.report.build_summary import junit_xml, markdown_summary
from unveil.app.report.evaluation import EvaluationVerdict, JobError
from unveil.app.report.table import EvaluationTable

TANAKA = {"name": "tanaka", "variant": "paper", "block": 4}
EVIL = "a|b\x00<&\n"


def table() -> EvaluationTable:
    failed = JobError(code="attack_failed", detail=EVIL)
    return EvaluationTable(
        make_view(
            [
                make_cell_view(TANAKA, {"name": "none"}, make_result(0.1, verdict="leaks")),
                make_cell_view(TANAKA, {"name": "key-recovery"}, make_result(1.0, verdict="broken")),
                make_cell_view(TANAKA, {"name": "fr"}, error=failed),
                make_cell_view(TANAKA, {"name": "gan"}, status=Status.NOT_APPLICABLE, reason="needs more images"),
            ],
            [EvaluationVerdict(scheme=TANAKA, verdict="broken", because="it found the key", worst_attack=None)],
            name=EVIL,
        )
    )


def test_findings_at_or_above_the_limit_fail_and_others_pass():
    suites = ElementTree.fromstring(junit_xml(table(), lambda verdict: gate.is_met("broken", verdict)))
    (suite,) = suites
    outcomes = {case.get("name").partition(" ")[0]: [child.tag for child in case] for case in suite}
    assert outcomes == {
        "verdict": ["failure"], "none": [], "key-recovery": ["failure"], "fr": ["error"], "gan": ["skipped"],
    }  # fmt: skip
    counts = {name: suites.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "2", "errors": "1", "skipped": "1"}
    assert suite.findall("testcase/failure")[1].get("message") == "mean SSIM 1.000"
    assert suite.find("testcase/error").get("message") == "a|b?<&\n"


def test_without_a_limit_nothing_fails():
    suites = ElementTree.fromstring(junit_xml(table(), lambda verdict: gate.is_met(None, verdict)))
    assert suites.get("failures") == "0"


def test_the_summary_is_one_row_a_scheme_and_shows_names_as_text():
    lines = markdown_summary(table(), lambda verdict: gate.is_met("leaks", verdict)).splitlines()
    assert lines[0].startswith("### a\\|b")
    assert lines[2] == "**1 scheme: 1 broken.**"
    assert lines[-1].startswith("| Tanaka's scheme | broken | failed | It found the key")
