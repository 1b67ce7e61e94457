"""The short run of schemathesis; `make chaos` has the long one."""

from __future__ import annotations

from tests.hostile.conftest import Target
from tests.hostile.fuzz import fuzz


def test_no_case_makes_the_service_fail_or_break_its_word(target: Target) -> None:
    found = fuzz(target.url, target.account("fuzz"), examples=5, seed=0, edges=False)
    assert not found.failures, "\n\n".join(f"{kind}\n{shown}" for kind, shown in found.failures.items())
    document = target.app.openapi()["paths"]
    assert len(found.operations) == sum(len(operations) for operations in document.values())
    assert found.cases > 100
