"""Jobs that cost too much: over their budget, of a revoked account, silent after a cancellation, too large for memory.

In each round a job of the account `heavy` occupies the only attack worker; what counts is that it ends as it should,
that its process serves others again, and that another account's evaluation succeeds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
from sqlalchemy import select

from benchmarks.chaos.fixtures import ChaosEnvironment, chaos_environment, evaluation_body
from benchmarks.chaos.outcome import FaultResult, ProgressCallback
from unveil.app.db.tables import Cell

_ENDLESS = {"attacks": [{"name": "itn", "epochs": 100_000}]}
_HANG = {"UNVEIL_HANG_POINT": "progress-written"}  # computes and reports nothing
_MEMORY_BYTES = 1_200_000_000
_TOO_LARGE = {  # two images per step need more memory
    "schemes": [{"name": "pixelwise", "key_mode": "different"}],
    "attacks": [{"name": "itn-strong", "epochs": 1, "batch": 16, "width": 128, "blocks": 8}],
}


@dataclass(frozen=True)
class _Case:
    name: str
    order: dict[str, Any]
    environment: dict[str, str]
    act: Callable[[ChaosEnvironment, str, str], None]  # with cell and account, once the cell runs
    expected: tuple[str, str | None]  # status and error code of the cell
    bound_s: float  # from the act to the end of the cell, and of its process where it is silent
    is_silent: bool = False


def _do_nothing(environment: ChaosEnvironment, id: str, account: str) -> None: ...


def _revoke(environment: ChaosEnvironment, id: str, account: str) -> None:  # noqa: ARG001
    environment.http.delete(f"/accounts/{account}").raise_for_status()


def _cancel(environment: ChaosEnvironment, id: str, account: str) -> None:  # noqa: ARG001
    environment.http.post(f"/jobs/{id}/cancel").raise_for_status()


_CASES = (
    _Case("over budget", _ENDLESS, {"UNVEIL_BUDGET_SMOKE_S": "60"}, _do_nothing, ("failed", "over_budget"), 70.0),
    _Case("account revoked", _ENDLESS, {}, _revoke, ("cancelled", None), 4.0),
    _Case("silent after cancel", _ENDLESS, _HANG, _cancel, ("cancelled", None), 12.0, is_silent=True),
    _Case("too little memory", _TOO_LARGE, {"UNVEIL_JOB_MEMORY_BYTES": str(_MEMORY_BYTES)}, _do_nothing,
          ("failed", "out_of_memory"), 120.0),
)  # fmt: skip


def run(log_progress: ProgressCallback, *, tries: int = 3) -> list[FaultResult]:
    rows = []
    for case in _CASES:
        survived, lost, seconds = 0, 0, []
        with chaos_environment(**case.environment) as environment:
            for number in range(tries):
                elapsed, ended, neighbour_lost = _try_once(environment, case, number)
                is_expected = ended == (*case.expected, 1)
                status, code, attempts = ended
                log_progress(
                    f"{case.name}: {elapsed:.1f} s, {'' if is_expected else 'NOT '}as expected: {status}, {code}, "
                    f"attempts: {attempts}"
                )
                survived += is_expected and elapsed <= case.bound_s
                lost += neighbour_lost
                seconds.append(elapsed)
        rows.append(FaultResult(case.name, tries, survived, lost, seconds, f"bound {case.bound_s:.0f} s"))
    return rows


def _try_once(
    environment: ChaosEnvironment, case: _Case, number: int
) -> tuple[float, tuple[str, str | None, int], int]:
    """Seconds from the act to the end; status, error code and attempts of the cell; the neighbour's damaged cells."""
    account = {"name": f"heavy{number}", "scopes": ["evaluate", "read"]}
    token = environment.http.post("/accounts", json=account).raise_for_status().json()
    headers = {"Authorization": f"Bearer {token['token']}"}
    body = evaluation_body(**{"schemes": [{"name": "tanaka"}], **case.order})
    worker = environment.pid("worker-attack")
    os.killpg(worker, signal.SIGSTOP)  # until only the ordered attack is left of those that its profile requires
    try:
        with httpx.Client(base_url=environment.stack.url, headers=headers, timeout=60) as heavy:
            evaluation = heavy.post("/evaluations", json=body).raise_for_status().json()
        id, *others = [cell["id"] for cell in evaluation["cells"]]
        for other in others:
            environment.http.post(f"/jobs/{other}/cancel").raise_for_status()
    finally:
        os.killpg(worker, signal.SIGCONT)

    def has_started() -> bool:
        cell = _cell(environment, id)
        return cell.finished_at is not None or (cell.phase != "" if case.is_silent else cell.progress > 0)

    environment.wait_until(has_started, "the start of the cell")
    owner = _cell(environment, id).lease_owner
    started_at = time.monotonic()
    case.act(environment, id, account["name"])
    environment.wait_until(lambda: _has_ended(environment, id), "the end of the cell", 600.0)
    if case.is_silent and owner is not None:
        pid = int(owner.split("/")[1])
        environment.wait_until(lambda: not psutil.pid_exists(pid), "the end of the process", 60.0)
    elapsed = time.monotonic() - started_at
    cell = _cell(environment, id)
    ended = cell.status, (cell.error or {}).get("code"), cell.attempt
    if case.is_silent:  # every job hangs here: a fresh process takes the next one
        other = environment.create_evaluation([{"name": "none"}], seed=number)
        environment.wait_until(lambda: _is_claimed(environment, other), "the next cell", 120.0)
        environment.http.post(f"/evaluations/{other}/cancel").raise_for_status()
        return elapsed, ended, 0
    neighbour = environment.create_evaluation(seed=number)
    environment.wait_until_ended(neighbour)
    return elapsed, ended, environment.count_damaged_cells([neighbour])


def _cell(environment: ChaosEnvironment, id: str) -> Cell:
    with environment.sessions() as session:
        return session.get_one(Cell, id)


def _has_ended(environment: ChaosEnvironment, id: str) -> bool:
    return _cell(environment, id).finished_at is not None


def _is_claimed(environment: ChaosEnvironment, evaluation_id: str) -> bool:
    with environment.sessions() as session:
        attempts = session.scalars(select(Cell.attempt).where(Cell.evaluation_id == evaluation_id)).all()
    return any(attempts)
