"""Training of a key: claim its row, train the network, encrypt its weights.

Each attempt writes the weights to a blob of its own before the row becomes ready. So a worker whose lease expired
overwrites nothing, and a crash leaves a blob that no row names, which retention deletes. The wrapped data key of the
weights is in the row from the start (app/security/envelope.py). If the request names no seed, the seed is derived from
the data key, the same in every attempt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from unveil.app.db.tables import Cell, Evaluation, Key
from unveil.app.jobs import event_log
from unveil.app.observability import failpoints
from unveil.models.catalog import make_scheme
from unveil.models.core.json_record import encode
from unveil.worker import jobs, lease
from unveil.worker.dataset_loading import load_dataset
from unveil.worker.jobs import ClaimedJob, JobOutcome, Reporter
from unveil.worker.runtime import Runtime


@dataclass(frozen=True)
class KeyTrainingJob(ClaimedJob):
    attack_failed: ClassVar[str] = "training_failed"

    scheme: str
    params: dict[str, Any]
    training_request: dict[str, Any]  # profile, dataset, seed or None
    weights_wrapped_key: bytes

    def run(self, reporter: Reporter) -> JobOutcome:
        runtime, request = self.runtime, self.training_request
        scheme = make_scheme(self.scheme, self.params)
        reporter.report(0.0, "loading images")
        data = load_dataset(runtime, self.account_id, request["dataset"])
        envelope_context = {"purpose": "key", "owner": self.account_id, "id": self.lease.id}
        seed, provenance_overrides = request["seed"], {}
        # Never return a derived seed: with the dataset it reproduces the key.
        if seed is None:
            drawn = runtime.keyring.derive(self.weights_wrapped_key, "training seed", **envelope_context)
            if "seed_bits" in request:  # created by version 0.1: its checkpoints continue with the same seed only
                seed = int.from_bytes(drawn[: request["seed_bits"] // 8], "big")
            else:
                seed = int.from_bytes(drawn, "big", signed=True)  # schemes expand it as 32 signed bytes
            provenance_overrides = {"seed": None}
        trained_key = scheme.train(data, self.run_context(reporter, seed))
        reporter.report(1.0, "storing the weights")
        blob = f"keys/{self.lease.id}.{self.lease.attempt}"
        runtime.blobs.write(
            blob,
            runtime.keyring.encrypt_with_data_key(self.weights_wrapped_key, trained_key.secret, **envelope_context),
        )
        failpoints.failpoint("weights-before-row")
        return JobOutcome(
            {"weights_blob": blob, "provenance": encode({**trained_key.provenance, **provenance_overrides})}
        )

    def publish_status(self, session: Session, evaluation: Evaluation) -> None:
        event_log.on_key_status_changed(session, evaluation, self.lease.id)

    def cleanup(self) -> None:
        """Also wake workers for the cells that waited for the key."""
        super().cleanup()
        failpoints.failpoint("key-ready-before-dispatch")
        with self.runtime.sessions() as session:
            query = select(func.count()).where(
                Cell.evaluation_id == self.evaluation_id,
                event_log.cells_using_key(self.lease.id),
                lease.claimable(Cell),
            )
            waiting = session.scalar(query) or 0
        jobs.dispatch(self.runtime, waiting)


def claim(runtime: Runtime, id: str) -> KeyTrainingJob | None:
    with runtime.sessions.begin() as session:
        evaluation_id = session.scalar(select(Key.evaluation_id).where(Key.id == id))
        evaluation = None if evaluation_id is None else event_log.lock_evaluation(session, evaluation_id)
        claimed_lease = lease.claim(session, Key, id, runtime.owner, runtime.settings.lease_ttl_s)
        if claimed_lease is None:
            return None
        if evaluation is not None:
            event_log.on_key_status_changed(session, evaluation, id)
        key = session.get_one(Key, id)
        assert key.training_request is not None, "only trained keys are queued"
        assert key.wrapped_key is not None, "a queued key has a wrapped data key"
        return KeyTrainingJob(
            runtime,
            claimed_lease,
            account_id=key.account_id,
            evaluation_id=key.evaluation_id,
            profile=key.training_request["profile"],
            best_progress=key.progress,
            checkpoint_wrapped_key=jobs.get_or_create_checkpoint_key(runtime, key, key.account_id),
            scheme=key.scheme,
            params=key.params,
            training_request=key.training_request,
            weights_wrapped_key=key.wrapped_key,
        )
