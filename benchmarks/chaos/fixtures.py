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
_START_TIMEOUT_S = 600.0  # a loaded machine takes its time to start a stack; what is measured begins afterwards
_FAST_SETTINGS = {  # lost work is to be found again within seconds, and a storm must not look like poison
    "UNVEIL_LEASE_TTL_S": str(LEASE_S), "UNVEIL_HEARTBEAT_INTERVAL_S": str(HEARTBEAT_S),
    "UNVEIL_SWEEP_INTERVAL_S": str(SWEEP_S),
    "UNVEIL_MAX_ATTEMPTS_WITHOUT_PROGRESS": "1000", "UNVEIL_MAX_ACTIVE_JOBS": "100000",
    "UNVEIL_REQUESTS_PER_SECOND": "100000",
}  # fmt: skip

SCHEMES: list[dict[str, Any]] = [
    {"name": "tanaka"}, {"name": "tanaka", "variant": "icce2018"}, {"name": "ele"}, {"name": "etc"},
    {"name": "pixelwise"},
]  # fmt: skip

# Cells of some length, as an attack and the rest of an order: one that scores, one that trains.
LONG_ORDERS: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"name": "none"}, {"dataset": images.LARGE_DATASET, "keys": 6, "profile": "quick"}),  # which scores all 400
    ({"name": "itn", "epochs": 80}, {}),
)


@dataclass
class ChaosEnvironment:
    stack: LocalStack
    http: httpx.Client
    sessions: sessionmaker[Session]  # to look at the rows themselves

    def create_evaluation(self, attacks: list[dict[str, Any]] | None = None, **overrides: Any) -> str:
        """Order an evaluation of small cells: of two attacks, unless `attacks` lists others, and of those that its
        profile requires. Returns its id.
        """
        return str(
            self.http.post("/evaluations", json=evaluation_body(attacks, **overrides)).raise_for_status().json()["id"]
        )

    def create_evaluations(self, min_cells: int, **overrides: Any) -> list[str]:
        """Order evaluations of at least `min_cells` small cells together; their ids."""
        ids: list[str] = []
        while len(self.cells(ids)) < min_cells:
            ids.append(self.create_evaluation(seed=len(ids), **overrides))
        return ids

    def get_evaluation(self, id: str) -> dict[str, Any]:
        evaluation: dict[str, Any] = self.http.get(f"/evaluations/{id}").raise_for_status().json()
        return evaluation

    def cells(self, ids: list[str]) -> list[dict[str, Any]]:
        return [cell for id in ids for cell in self.get_evaluation(id)["cells"]]

    def have_ended(self, ids: list[str]) -> bool:
        with self.sessions() as session:
            open_count = select(func.count()).where(Evaluation.id.in_(ids), Evaluation.finished_at.is_(None))
            return session.scalar(open_count) == 0

    def count_damaged_cells(self, ids: Sequence[str]) -> int:
        """Cells of evaluations without exactly one accepted, whole result."""
        status = Event.data["status"].astext
        with self.sessions() as session:
            succeeded = session.scalars(
                select(Event.data["cell"].astext).where(
                    Event.evaluation_id.in_(ids), Event.type == "cell", status == Status.SUCCEEDED
                )
            )
            accepted = Counter(succeeded)
            scores = set(session.scalars(select(Scores.cell_id)))
            cells = session.scalars(select(Cell).where(Cell.evaluation_id.in_(ids))).all()
        intact = [
            cell
            for cell in cells
            if cell.status == Status.SUCCEEDED
            and accepted[cell.id] == 1
            and (cell.id in scores) == ((cell.result or {}).get("ssim") is not None)  # some attacks reconstruct nothing
        ]
        return len(cells) - len(intact)

    def measured_results(self, id: str) -> list[Any]:
        """Everything that was measured, to the bit; without what is never twice the same."""
        cells = self.get_evaluation(id)["cells"]
        return [
            {name: value for name, value in (cell["result"] or {}).items() if name != "seconds"} or cell["error"]
            for cell in cells
        ]

    def is_running(self, id: str) -> bool:
        """Whether a cell that was ordered, and not added for comparison, is in the middle."""
        conditions = Cell.status == Status.RUNNING, Cell.progress > 0.02, Cell.attack["added"].is_(None)
        with self.sessions() as session:
            return bool(session.scalar(select(func.count()).where(Cell.evaluation_id == id, *conditions)))

    def wait_until_running(self, id: str) -> float:
        return self.wait_until(lambda: self.is_running(id), "a cell at work")

    def wait_until_ended(self, *ids: str, timeout_s: float = 600.0) -> float:
        return self.wait_until(lambda: self.have_ended(list(ids)), "the end of the evaluations", timeout_s)

    def is_live(self) -> bool:
        return self.http.get("/health/live").is_success

    def wait_until(self, condition: Callable[[], bool], description: str, timeout_s: float = 300.0) -> float:
        """Look until it is so, starting again what has died; the seconds it took. Raises TimeoutError."""
        started_at = time.monotonic()
        while not self._is_met(condition):
            self.stack.restart_exited()
            if time.monotonic() > started_at + timeout_s:
                raise TimeoutError(f"{description} did not come within {timeout_s:.0f} s")
            time.sleep(0.1)
        return time.monotonic() - started_at

    def retry_request(
        self, send: Callable[[], httpx.Response], timeout_s: float = 180.0
    ) -> tuple[httpx.Response, float]:
        """What a careful client does: ask until there is an answer to keep; and the seconds after the first try."""
        first_at = None
        while first_at is None or time.monotonic() < first_at + timeout_s:
            try:
                answer = send()
            except httpx.TransportError:
                answer = None
            if first_at is None:
                first_at = time.monotonic()
                self.wait_until(self.is_live, "the service", timeout_s)
            if answer is not None and answer.status_code not in (409, 503):
                return answer, time.monotonic() - first_at
            self.stack.restart_exited()
            time.sleep(0.2)
        raise TimeoutError(f"no answer within {timeout_s:.0f} s")

    def _is_met(self, condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except (httpx.HTTPError, DBAPIError):  # it is being started again
            return False

    def pid(self, name: str) -> int:
        """The leader of the process group of a part or of a server of the stack."""
        return int((self.stack.state / "run" / f"{name}.pid").read_text().split()[0])

    def kill(self, name: str, signal_number: signal.Signals = signal.SIGKILL) -> None:
        """Send a deadly signal to a part or a server, SIGKILL to its whole group; it is dead at the return."""
        leader = psutil.Process(self.pid(name))
        if signal_number == signal.SIGKILL:
            os.killpg(leader.pid, signal_number)
        else:
            leader.send_signal(signal_number)
        with suppress(psutil.NoSuchProcess):
            while leader.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)

    def processes(self, *words: str) -> list[psutil.Process]:
        """What the stack started whose command line has all these words, each with its children."""
        processes: list[psutil.Process] = []
        for process in psutil.Process().children(recursive=True):
            try:
                line = " ".join([*process.cmdline(), process.cwd()])
                if all(word in line for word in words):
                    processes += [process, *process.children()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return processes


def evaluation_body(attacks: list[dict[str, Any]] | None = None, **overrides: Any) -> dict[str, Any]:
    """An order of small cells: no attack that its profile requires of this scheme takes a second."""
    return {
        "schemes": [{"name": "ele"}], "attacks": attacks or [{"name": "none"}, {"name": "fr"}],
        "dataset": images.SMALL_DATASET, "profile": "smoke", "samples": 1, "keys": 1, **overrides,
    }  # fmt: skip


def _make_stack(folder: Path, attack_workers: int, durable: bool, environment: Mapping[str, str]) -> LocalStack:
    images.write_dataset(folder / "data")
    images.write_dataset(folder / "data", 400, images.LARGE_DATASET)
    return LocalStack(
        folder, 0, durable=durable, attack_workers=attack_workers, start_timeout_s=_START_TIMEOUT_S,
        environment={**_FAST_SETTINGS, "UNVEIL_DATA_DIR": str(folder / "data"), **environment},
    )  # fmt: skip


@contextmanager
def chaos_environment(
    *, attack_workers: int = 1, durable: bool = False, **environment: str
) -> Iterator[ChaosEnvironment]:
    """`durable`: the servers bring every commit to the disk, as they do for everybody else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _make_stack(Path(folder), attack_workers, durable, environment) as stack,
        httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=30,
            transport=httpx.HTTPTransport(retries=3),
        ) as http,
    ):  # fmt: skip
        engine = sync_engine(stack.settings)
        yield ChaosEnvironment(stack, http, sync_sessions(engine))
        engine.dispose()
