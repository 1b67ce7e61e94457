"""The client's error classes are those of the service, and it imports no more of the service than that."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from unveil.app.client import errors
from unveil.app.errors.problem import Problem


def test_the_client_has_the_class_of_every_problem_code_and_its_base_has_the_kind_of_status() -> None:
    for code, kind in Problem.by_code.items():
        assert getattr(errors, kind.__name__) is kind
        assert kind.code == code
        assert kind.title
        assert kind.__doc__, f"{kind.__name__} says what to do"
        assert issubclass(kind, errors.ServerProblem) == (kind.status >= 500)


def test_a_problem_of_the_service_is_the_same_class_in_the_client() -> None:
    sent = errors.UnknownKey("there is no key 'x'", [("/schemes/0/key_id", "no such key")], status=422)
    response = httpx.Response(422, json=sent.to_dict("req_1"), headers={"Retry-After": "3"})
    received = errors.error_from_response(response)
    assert type(received) is errors.UnknownKey
    assert isinstance(received, errors.NotFound)
    assert (received.status, received.code, received.title) == (422, "unknown_key", sent.title)
    assert (received.errors, received.request_id, received.retry_after_s) == (sent.errors, "req_1", 3.0)
    assert str(received) == "422 unknown_key: there is no key 'x'\n  /schemes/0/key_id: no such key"


@pytest.mark.parametrize(
    ("status", "kind"), [(404, errors.NotFound), (400, errors.Invalid), (503, errors.ServerProblem), (418, Problem)]
)
def test_the_answer_of_a_proxy_has_the_class_of_its_status(status: int, kind: type[Problem]) -> None:
    problem = errors.error_from_response(httpx.Response(status, text="<html>"))
    assert isinstance(problem, kind)
    assert (problem.status, problem.code) == (status, "unknown")


def test_the_client_loads_neither_torch_nor_the_service() -> None:
    code = """
import sys, unveil.app.client.client
shared = {"unveil.app.report", "unveil.app.report.evaluation", "unveil.app.db", "unveil.app.db.job_states"}
shared |= {"unveil.app.errors", "unveil.app.errors.problem", "unveil.app.report.board"}
service = {name for name in sys.modules if name.startswith("unveil.app.") and not name.startswith("unveil.app.client")}
heavy = ("torch", "fastapi", "sqlalchemy", "pydantic", "jinja2", "unveil.models.catalog")
print(sorted(service - shared) + [name for name in heavy if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
