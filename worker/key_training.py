"""A key that is trained: claim its row, train the network, seal its weights.

The weights are a blob of this attempt's own before the row says that the key is ready: a worker that was given up for
dead overwrites nothing, and what a crash leaves is a blob that no row names, for the retention to remove. Their lock is
in the row from the beginning (app/core/crypto.py); where the order names no seed, it follows from the lock, the same in
every attempt.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from kombu.exceptions import OperationalError as BrokerAway
from sqlalchemy import select
from sqlalchemy.orm import Session

from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.models import catalog
from unveil.models.catalog import make_scheme
from unveil.worker import jobs, lease
from unveil.worker.dataset_loading import load_data
from unveil.worker.jobs import Done, Job, Reporter, jsonable
from unveil.worker.runtime import Runtime


@dataclass(frozen=True)
class KeyJob(Job):
    attack_failed: ClassVar[str] = "training_failed"

    scheme: str
    params: dict[str, Any]
    training: dict[str, Any]  # profile, dataset, seed or None
    lock: bytes  # of the weights

    def work(self, reporter: Reporter) -> Done:
        tools, order = self.tools, self.training
        scheme = make_scheme(self.scheme, self.params)
        reporter.report(0.0, "loading images")
        data = load_data(tools, self.account_id, order["dataset"])
        named = {"purpose": "key", "owner": self.account_id, "id": self.lease.id}
        seed, told = order["seed"], {}
        if seed is None:  # nobody's: as good as the key to whoever has the data set
            seed = int.from_bytes(tools.ring.derive(self.lock, "training seed", **named)[:8], "big")
            told = {"seed": None}
        trained = scheme.train(data, self.context(reporter, seed))
        reporter.report(1.0, "storing the weights")
        blob = f"keys/{self.lease.id}.{self.lease.attempt}"
        tools.blobs.write(blob, tools.ring.seal_under(self.lock, trained.secret, **named))
        failpoints.point("weights-before-row")
        return Done({"blob": blob, "provenance": jsonable({**trained.provenance, **told})})

    def changed(self, session: Session, evaluation: Evaluation) -> None:
        event_log.key_changed(session, evaluation, self.lease.id)

    def ended(self) -> None:
        """Also ring for the cells that may be run now."""
        super().ended()
        failpoints.point("key-ready-before-ring")
        with self.tools.sessions() as session:
            chosen = select(Cell).where(
                Cell.evaluation_id == self.evaluation_id, event_log.uses(self.lease.id), lease.waits(Cell)
            )
            cells = session.scalars(chosen.order_by(Cell.position)).all()
            ids = [cell.id for cell in sorted(cells, key=lambda cell: catalog.takes_long(cell.attack["name"]))]
        with suppress(BrokerAway):  # the sweeper will ring
            jobs.ring(self.tools, Cell, ids)


def handle(tools: Runtime, id: str) -> None:
    """Train key `id` if it waits to be trained."""
    jobs.handle(tools, id, claim)


def claim(tools: Runtime, id: str) -> KeyJob | None:
    with tools.sessions.begin() as session:
        evaluation_id = session.scalar(select(Key.evaluation_id).where(Key.id == id))
        evaluation = None if evaluation_id is None else event_log.lock(session, evaluation_id)
        taken = lease.claim(session, Key, id, tools.owner, tools.settings.lease_s)
        if taken is None:
            return None
        if evaluation is not None:
            event_log.key_changed(session, evaluation, id)
        key = session.get_one(Key, id)
        assert key.training is not None, "only a key that is trained is ever queued"
        assert key.sealed is not None, "its lock"
        return KeyJob(
            tools,
            taken,
            account_id=key.account_id,
            evaluation_id=key.evaluation_id,
            furthest=key.progress,
            checkpoint_lock=jobs.checkpoint_lock(tools, key, key.account_id),
            scheme=key.scheme,
            params=key.params,
            training=key.training,
            lock=key.sealed,
        )
