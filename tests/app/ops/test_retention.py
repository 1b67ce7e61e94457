"""Retention deletes what is older than its age and nothing else; a dry run reports the same and deletes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from tests.factories import make_account, make_evaluation
from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Base, Cell, DashboardSession, Evaluation, IdempotencyRecord, Key, Share, SignInCode
from unveil.app.ops.retention import delete_expired
from unveil.app.ops.storage_gc import find_orphaned_blobs
from unveil.worker.runtime import Runtime

LONG_AGO = "ds_00000000000070008000000000000000"  # an id tells its time: 1970
NOW = func.clock_timestamp()


def days(number: float):
    return func.make_interval(0, 0, 0, 0, int(24 * number))


def add_old_and_new_rows(runtime: Runtime) -> None:
    """Of each kind one that is old and one that is not; and what never goes."""
    account = make_account(runtime.sessions)
    old, young, running = (make_evaluation(runtime.sessions, account)[0] for _ in range(3))
    with runtime.sessions.begin() as session:
        for id, age in ((old, 31), (young, 29)):
            evaluation = session.get_one(Evaluation, id)
            evaluation.status, evaluation.finished_at = Status.SUCCEEDED, NOW - days(age)
        session.get_one(Evaluation, running).created_at = NOW - days(400)
        key = {
            "account_id": account,
            "scheme": "tanaka",
            "params": {},
            "encrypted_secret": b"s",
            "status": Status.SUCCEEDED,
        }
        session.add(Key(id=new_id("key"), created_at=NOW - days(400), **key))
        for number, ends in enumerate((NOW - days(1), NOW + days(1))):
            spent = {"hash": bytes([number]), "account_id": account, "scopes": [], "expires_at": ends}
            session.add(SignInCode(**spent))
            session.add(DashboardSession(**spent))
            link = {"hash": bytes([number]), "id": new_id("share"), "evaluation_id": young, "images": True}
            session.add(Share(**link, expires_at=ends))
            locked = ends - days(2)
            session.add(
                IdempotencyRecord(
                    account_id=account, key=str(number), fingerprint=b"f", reserved_ids={}, locked_until=locked
                )
            )
    runtime.blobs.write(f"uploads/{LONG_AGO}", b"left by a crash")
    runtime.blobs.write(f"uploads/{new_id('ds')}", b"on its way in")


def counts(runtime: Runtime) -> dict[str, int]:
    with runtime.sessions() as session:
        tables = {t.name: session.scalar(select(func.count()).select_from(t)) or 0 for t in Base.metadata.sorted_tables}
    return {**tables, "uploads": len(runtime.blobs.list_folder("uploads"))}


EXPECTED_COUNTS = {
    "evaluations": 1, "sign-in codes": 1, "dashboard sessions": 1, "share links": 1, "idempotency records": 1,
    "orphaned blobs": 1,
}  # fmt: skip


def delete_expired_rows(runtime: Runtime, **how: bool) -> dict[str, int]:
    with runtime.sessions() as session:
        return delete_expired(session, runtime.settings, timedelta(days=30), **how)


def test_a_dry_run_reports_what_it_would_delete_and_deletes_nothing(runtime: Runtime) -> None:
    add_old_and_new_rows(runtime)
    before = counts(runtime)
    assert delete_expired_rows(runtime, dry_run=True) == EXPECTED_COUNTS
    assert counts(runtime) == before


def test_what_is_old_goes_and_a_second_run_finds_nothing(runtime: Runtime) -> None:
    add_old_and_new_rows(runtime)
    before = counts(runtime)
    assert delete_expired_rows(runtime) == EXPECTED_COUNTS
    after = counts(runtime)
    fewer = {name: before[name] - after[name] for name in before if before[name] != after[name]}
    assert fewer == {
        "evaluations": 1, "cells": 1, "sign_in_codes": 1, "dashboard_sessions": 1, "shares": 1, "idempotency": 1,
        "uploads": 1,
    }  # fmt: skip
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Cell)) == 2
    assert not any(delete_expired_rows(runtime).values())


def test_what_may_still_be_repeated_stays(runtime: Runtime) -> None:
    runtime = replace(runtime, settings=runtime.settings.model_copy(update={"idempotency_ttl_hours": 72}))
    made = uuid7(datetime.now(UTC) - timedelta(hours=80))
    runtime.blobs.write(f"uploads/ds_{made}", b"a repeat, on its way in")
    with runtime.sessions.begin() as session:
        remembered = {"account_id": make_account(runtime.sessions), "key": "a", "fingerprint": b"f", "reserved_ids": {}}
        session.add(IdempotencyRecord(**remembered, locked_until=NOW - days(2.5)))
    gone = delete_expired_rows(runtime)
    assert (gone["idempotency records"], gone["orphaned blobs"]) == (0, 0)


def uuid7(at: datetime) -> str:
    """As in an id that was made then."""
    return f"{int(at.timestamp() * 1000):012x}" + "70008000000000000000"


def test_weights_whose_training_ends_meanwhile_are_no_orphans(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, blob = f"key_{LONG_AGO.removeprefix('ds_')}", f"keys/key_{LONG_AGO.removeprefix('ds_')}.1"
    key = {"account_id": make_account(runtime.sessions), "scheme": "tn-gan", "params": {}, "status": Status.RUNNING}
    with runtime.sessions.begin() as session:
        session.add(Key(id=id, **key))
    runtime.blobs.write(blob, b"weights")
    looked = []

    def end(*_: object) -> None:
        """After the first look at the keys."""
        looked.append(True)
        if len(looked) == 1:
            with runtime.sessions.begin() as session:
                session.execute(update(Key).values(status=Status.SUCCEEDED, weights_blob=blob))

    with runtime.sessions() as session:
        real = session.scalars

        def scalars(statement, *rest):
            found = real(statement, *rest).all()
            if Key.__table__ in statement.get_final_froms():
                end()
            return found

        monkeypatch.setattr(session, "scalars", scalars)
        assert list(find_orphaned_blobs(session, runtime.blobs, 0)) == []
    assert looked
