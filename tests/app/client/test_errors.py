"""The client's classes and types against the service's: neither may know more than the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from unveil.app.client import errors, types
from unveil.app.errors.problem import Problem
from unveil.app.main import create_app
from unveil.app.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict:
    return create_app(Settings()).openapi()


def test_every_problem_code_has_a_class_under_that_of_its_status(document) -> None:
    codes: dict[str, set[int]] = {"internal": {500}}
    for kind in _all_subclasses(Problem):
        codes.setdefault(kind.code, set()).add(kind.status)
    mirrored = errors.ProblemError.by_code
    assert mirrored.keys() == codes.keys(), "app/client/errors.py has a class for each code of the service"
    for code, statuses in codes.items():
        assert any(issubclass(mirrored[code], errors._BY_STATUS.get(s, errors.ServerProblem)) for s in statuses), code


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("Dataset", "DatasetOut"),
        ("Scheme", "SchemeOut"),
        ("SchemeVariant", "SchemeVariant"),
        ("PaperResults", "PaperResults"),
        ("Attack", "AttackOut"),
        ("EvaluationSummary", "EvaluationSummary"),
        ("Account", "AccountOut"),
        ("AccountCreated", "AccountCreated"),
        ("Readiness", "ReadinessOut"),
        ("ComponentHealth", "ComponentHealth"),
    ],
)
def test_an_answer_has_the_fields_that_the_service_gives_it(document, name: str, schema: str) -> None:
    fields = getattr(types, name).__annotations__
    assert set(fields) == set(document["components"]["schemas"][schema]["properties"])


def test_the_client_loads_neither_torch_nor_the_service() -> None:
    code = """
import sys, unveil.app.client
shared = {"unveil.app.report", "unveil.app.report.evaluation", "unveil.app.db", "unveil.app.db.job_states"}
service = {name for name in sys.modules if name.startswith("unveil.app.") and not name.startswith("unveil.app.client")}
heavy = ("torch", "fastapi", "sqlalchemy", "pydantic", "jinja2", "unveil.models.catalog")
print(sorted(service - shared) + [name for name in heavy if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def _all_subclasses(kind: type[Problem]) -> Iterator[type[Problem]]:
    for child in kind.__subclasses__():
        yield child
        yield from _all_subclasses(child)
