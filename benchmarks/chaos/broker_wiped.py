"""Redis killed and wiped while cells wait: the messages are gone, the rows are not, and all of them end."""

from __future__ import annotations

import shutil
import time

from sqlalchemy import func, select

from benchmarks.chaos import images
from benchmarks.chaos.fixtures import LONG, Scene, scene
from benchmarks.chaos.outcome import Outcome, Tell
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell


def run(tell: Tell, *, times: int = 3, cells: int = 50) -> list[Outcome]:
    survived, lost, seconds = 0, 0, []
    with scene(durable=True) as there:
        for number in range(times):
            there.wait(there.stack.ready, "the stack")
            attack, more = LONG[0]
            before_them = there.order([attack], **more)
            there.until_at_work(before_them)
            ids = [there.order(seed=number) for _ in range(cells // 2)]
            assert _waiting(there, ids) == cells
            began = time.monotonic()
            there.kill("redis")
            shutil.rmtree(there.stack.state / "redis")
            there.stack.restart_dead()
            there.http.post(f"/evaluations/{before_them}/cancel")  # it has done its service, or has even ended
            there.wait(lambda ids=ids: _waiting(there, ids) < cells, "the first cell")
            seconds.append(time.monotonic() - began)
            took = there.until_ended(*ids)
            files = {"images": ("a.png", images.png(0), "image/png")}
            encrypted = there.http.post("/encrypt", data={"scheme": "tanaka"}, files=files)
            harmed = there.harmed(ids)
            tell(
                f"the first taken after {seconds[-1]:.1f} s, all ended {took:.0f} s later, {harmed} harmed; "
                f"/encrypt answered {encrypted.status_code}"
            )
            survived += harmed == 0 and encrypted.is_success
            lost += harmed
    note = f"{cells} cells queued each time, the workers alive; seconds from the kill until the first was taken"
    return [Outcome("Redis killed and wiped", times, survived, lost, seconds, note)]


def _waiting(there: Scene, ids: list[str]) -> int:
    chosen = select(func.count()).where(Cell.evaluation_id.in_(ids), Cell.status == Status.QUEUED)
    with there.sessions() as session:
        return session.scalar(chosen) or 0
