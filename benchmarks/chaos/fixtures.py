"""Where faults are made: a stack of its own in a temporary folder, with leases of seconds, and a caller."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.chaos import images
from unveil.app.db.job_states import Status
from unveil.app.db.session import sync_engine, sync_sessions
from unveil.app.db.tables import Cell, Evaluation, Event, Scores
from unveil.app.local.stack import LocalStack

LEASE_S, HEARTBEAT_S, SWEEP_S = 6.0, 1.0, 2.0
_PATIENCE_S = 600.0  # a loaded machine takes its time to start a stack; what is measured begins afterwards
_SHORT = {  # lost work is to be found again within seconds, and a storm must not look like poison
    "UNVEIL_LEASE_S": str(LEASE_S), "UNVEIL_HEARTBEAT_S": str(HEARTBEAT_S), "UNVEIL_SWEEP_S": str(SWEEP_S),
    "UNVEIL_MAX_STALLS": "1000", "UNVEIL_MAX_QUEUED_CELLS": "100000", "UNVEIL_REQUESTS_PER_SECOND": "100000",
}  # fmt: skip

SCHEMES: list[dict[str, Any]] = [
    {"name": "tanaka"}, {"name": "tanaka", "variant": "icce2018"}, {"name": "ele"}, {"name": "etc"},
    {"name": "pixelwise"},
]  # fmt: skip

# Cells of some length, as an attack and the rest of an order: one that scores, one that trains.
LONG: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"name": "none"}, {"dataset": images.MANY, "keys": 64, "profile": "quick"}),  # which scores all 400
    ({"name": "itn", "epochs": 80}, {}),
)


@dataclass
class Scene:
    stack: LocalStack
    http: httpx.Client
    sessions: sessionmaker[Session]  # to look at the rows themselves

    def order(self, attacks: list[dict[str, Any]] | None = None, **changed: Any) -> str:
        """Order an evaluation of small cells, two unless `attacks` says otherwise; its id."""
        return str(self.http.post("/evaluations", json=body(attacks, **changed)).raise_for_status().json()["id"])

    def show(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/evaluations/{id}").raise_for_status().json()
        return found

    def cells(self, ids: list[str]) -> list[dict[str, Any]]:
        return [cell for id in ids for cell in self.show(id)["cells"]]

    def ended(self, ids: list[str]) -> bool:
        with self.sessions() as session:
            open_ones = select(func.count()).where(Evaluation.id.in_(ids), Evaluation.finished_at.is_(None))
            return session.scalar(open_ones) == 0

    def harmed(self, ids: Sequence[str]) -> int:
        """Cells of evaluations without exactly one accepted, whole result."""
        status = Event.data["status"].astext
        with self.sessions() as session:
            told = session.scalars(
                select(Event.data["cell"].astext).where(
                    Event.evaluation_id.in_(ids), Event.type == "cell", status == Status.SUCCEEDED
                )
            )
            accepted = Counter(told)
            scores = set(session.scalars(select(Scores.cell_id)))
            cells = session.scalars(select(Cell).where(Cell.evaluation_id.in_(ids))).all()
        whole = [c for c in cells if c.status == Status.SUCCEEDED and accepted[c.id] == 1 and c.id in scores]
        return len(cells) - len(whole)

    def figures(self, id: str) -> list[Any]:
        """Everything that was measured, to the bit; without what is never twice the same."""
        cells = self.show(id)["cells"]
        return [
            {name: value for name, value in (cell["result"] or {}).items() if name != "seconds"} or cell["error"]
            for cell in cells
        ]

    def at_work(self, id: str) -> bool:
        """Whether a cell that was ordered, and not added for comparison, is in the middle."""
        in_the_middle = Cell.status == Status.RUNNING, Cell.progress > 0.02, Cell.attack["added"].is_(None)
        with self.sessions() as session:
            return bool(session.scalar(select(func.count()).where(Cell.evaluation_id == id, *in_the_middle)))

    def until_at_work(self, id: str) -> float:
        return self.wait(lambda: self.at_work(id), "a cell at work")

    def until_ended(self, *ids: str, patience_s: float = 600.0) -> float:
        return self.wait(lambda: self.ended(list(ids)), "the end of the evaluations", patience_s)

    def answers(self) -> bool:
        return self.http.get("/health/live").is_success

    def wait(self, until: Callable[[], bool], what: str, patience_s: float = 300.0) -> float:
        """Look until it is so, starting again what has died; the seconds it took. Raises TimeoutError."""
        began = time.monotonic()
        while not self._holds(until):
            self.stack.restart_dead()
            if time.monotonic() > began + patience_s:
                raise TimeoutError(f"{what} did not come within {patience_s:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - began

    def repeated(self, ask: Callable[[], httpx.Response], patience_s: float = 180.0) -> tuple[httpx.Response, float]:
        """What a careful client does: ask until there is an answer to keep; and the seconds after the first try."""
        first = None
        while first is None or time.monotonic() < first + patience_s:
            try:
                answer = ask()
            except httpx.TransportError:
                answer = None
            if first is None:
                first = time.monotonic()
                self.wait(self.answers, "the service", patience_s)
            if answer is not None and answer.status_code not in (409, 503):
                return answer, time.monotonic() - first
            self.stack.restart_dead()
            time.sleep(0.2)
        raise TimeoutError(f"no answer within {patience_s:.0f} s")

    def _holds(self, until: Callable[[], bool]) -> bool:
        try:
            return until()
        except (httpx.HTTPError, DBAPIError):  # it is being started again
            return False

    def pid(self, name: str) -> int:
        """The leader of the process group of a part or of a server of the stack."""
        return int((self.stack.state / "run" / f"{name}.pid").read_text().split()[0])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a deadly signal to a part or a server, SIGKILL to its whole group; it is dead at the return."""
        leader = psutil.Process(self.pid(name))
        if number == signal.SIGKILL:
            os.killpg(leader.pid, number)
        else:
            leader.send_signal(number)
        with suppress(psutil.NoSuchProcess):
            while leader.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)

    def processes(self, *words: str) -> list[psutil.Process]:
        """What the stack started whose command line has all these words, each with its children."""
        found: list[psutil.Process] = []
        for process in psutil.Process().children(recursive=True):
            try:
                line = " ".join([*process.cmdline(), process.cwd()])
                if all(word in line for word in words):
                    found += [process, *process.children()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def body(attacks: list[dict[str, Any]] | None = None, **changed: Any) -> dict[str, Any]:
    """An order of small cells."""
    return {
        "schemes": [{"name": "tanaka"}], "attacks": attacks or [{"name": "none"}, {"name": "fr"}],
        "dataset": images.NAME, "profile": "smoke", "samples": 1, "keys": 1, **changed,
    }  # fmt: skip


def _stack(folder: Path, attack_workers: int, durable: bool, environment: Mapping[str, str]) -> LocalStack:
    images.write_few(folder / "data")
    images.write_few(folder / "data", 400, images.MANY)
    return LocalStack(
        folder, 0, durable=durable, attack_workers=attack_workers, patience_s=_PATIENCE_S,
        environment={**_SHORT, "UNVEIL_DATA_DIR": str(folder / "data"), **environment},
    )  # fmt: skip


@contextmanager
def scene(*, attack_workers: int = 1, durable: bool = False, **environment: str) -> Iterator[Scene]:
    """`durable`: the servers bring every commit to the disk, as they do for everybody else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _stack(Path(folder), attack_workers, durable, environment) as stack,
        httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=30,
            transport=httpx.HTTPTransport(retries=3),
        ) as http,
    ):  # fmt: skip
        engine = sync_engine(stack.settings)
        yield Scene(stack, http, sync_sessions(engine))
        engine.dispose()
