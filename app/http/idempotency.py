"""`Idempotency-Key`: a retried POST returns the first response and creates nothing twice.

    async with idempotency.begin(key_id=new_id("key")) as ids:        # raises StoredResponse for a retry
        key = await service.create(session, principal, body, ids["key_id"])
        await idempotency.store_response(session, key, status=201)    # in the transaction of the work
        await session.commit()

The ids are stored before the work begins. A crash, a lost response or a 503 leaves the record without a response, and a
retry repeats the work with the same ids, so creating an id that exists must be harmless. A 4xx deletes the record.
Without the header nothing is stored.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from psycopg.errors import UniqueViolation
from pydantic import BaseModel
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from unveil.app.db.tables import IdempotencyRecord
from unveil.app.dependencies import AppState, AppStateDep, Session
from unveil.app.errors.problem import IdempotencyMismatch, IdempotencyRunning, Problem
from unveil.app.http.authentication import OptionalPrincipal
from unveil.app.observability import failpoints
from unveil.app.security.principal import Principal

_LOCK_TTL_S = 10.0  # after a process dies, a retry gets 409 for so long
_LOCK_RENEW_INTERVAL_S = 3.0
_CHUNK_BYTES = 2**20


@dataclass
class StoredResponse(Exception):
    """The response of the first request; its exception handler sends it again."""

    response: Response


@dataclass(frozen=True)
class IdempotentRequest:
    app_state: AppState
    session: AsyncSession  # of the request; rolled back before the record is changed in another session
    principal: Principal | None
    request: Request
    key: str | None

    @asynccontextmanager
    async def begin(self, **ids: Any) -> AsyncIterator[dict[str, Any]]:
        """Yields these ids, or those of an earlier attempt.

        Raises StoredResponse, IdempotencyRunning, IdempotencyMismatch.
        """
        if self.key is None or self.principal is None:
            yield ids
            return
        reserved_ids = await self._claim(ids)
        failpoints.failpoint("key-reserved")
        try:
            async with self._hold_lock():
                yield reserved_ids
        except Problem as problem:
            await self.session.rollback()
            await (self._release_lock() if problem.status >= 500 else self._delete_record())
            raise
        except BaseException as error:
            await self.session.rollback()
            if isinstance(error, IntegrityError) and isinstance(error.orig, UniqueViolation):
                raise self._in_progress_error() from error  # the first request outlived its lock and won
            await self._release_lock()
            raise
        else:
            await self._release_lock()

    async def store_response(
        self,
        session: AsyncSession,
        body: BaseModel | dict[str, Any],
        *,
        status: int,
        headers: Mapping[str, str] | None = None,
        secret: bool = False,
    ) -> None:
        """Stores the response in the transaction of `session`; encrypted if `secret`."""
        if self.key is None or self.principal is None:
            return
        body_json = body.model_dump(mode="json", by_alias=True) if isinstance(body, BaseModel) else body
        if secret:
            sealed = self.app_state.keyring.seal(json.dumps(body_json).encode(), **self._envelope_context())
            body_json = {"sealed": base64.b64encode(sealed).decode()}
        await session.execute(
            update(IdempotencyRecord)
            .where(*self._row_filter())
            .values(status=status, body=body_json, headers=dict(headers or {}))
        )

    @asynccontextmanager
    async def _hold_lock(self) -> AsyncIterator[None]:
        """Renews the lock in the background until the work ends."""
        stop = asyncio.Event()

        async def renew() -> None:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOCK_RENEW_INTERVAL_S)
                    return
                with suppress(SQLAlchemyError):  # storing the response reports a lost database
                    await self._set_lock(_LOCK_TTL_S)

        renewal_task = asyncio.create_task(renew())
        try:
            yield
        finally:
            stop.set()
            await renewal_task

    async def _claim(self, ids: dict[str, Any]) -> dict[str, Any]:
        assert self.principal is not None
        fingerprint = await _compute_fingerprint(self.request)
        lock_deadline = func.clock_timestamp() + timedelta(seconds=_LOCK_TTL_S)
        claim_values = {"fingerprint": fingerprint, "reserved_ids": ids, "locked_until": lock_deadline}
        async with self.app_state.sessions() as session, session.begin():
            inserted = await session.scalar(
                insert(IdempotencyRecord)
                .values(account_id=self.principal.account_id, key=self.key, **claim_values)
                .on_conflict_do_nothing()
                .returning(IdempotencyRecord.key)
            )
            if inserted is not None:
                return ids
            is_locked_column = IdempotencyRecord.locked_until > func.clock_timestamp()
            age = timedelta(hours=self.app_state.settings.idempotency_ttl_hours)
            is_expired_column = IdempotencyRecord.created_at < func.clock_timestamp() - age
            existing = (
                await session.execute(
                    select(IdempotencyRecord, is_locked_column, is_expired_column)
                    .where(*self._row_filter())
                    .with_for_update()
                )
            ).one_or_none()
            if existing is None:  # deleted between the two statements
                raise self._in_progress_error()
            row, is_locked, is_expired = existing
            if is_expired and not is_locked:
                cleared = {"status": None, "body": None, "headers": None, "created_at": func.clock_timestamp()}
                await session.execute(
                    update(IdempotencyRecord).where(*self._row_filter()).values(**claim_values, **cleared)
                )
                return ids
            if row.fingerprint != fingerprint:
                raise IdempotencyMismatch(
                    "this key belongs to a request with another method, path or body; use a new key for a new request",
                    [("/header/Idempotency-Key", "used before for another request")],
                )
            if row.status is not None:
                raise StoredResponse(self._to_response(row))
            if is_locked:
                raise self._in_progress_error()
            row.locked_until = lock_deadline
            return dict(row.reserved_ids)

    def _in_progress_error(self) -> IdempotencyRunning:
        return IdempotencyRunning("retry in a moment with the same key and body", headers={"Retry-After": "1"})

    def _to_response(self, row: IdempotencyRecord) -> Response:
        assert row.status is not None
        body = row.body or {}
        if set(body) == {"sealed"}:
            body = json.loads(self.app_state.keyring.open(base64.b64decode(body["sealed"]), **self._envelope_context()))
        return JSONResponse(body, row.status, {**(row.headers or {}), "Idempotency-Replayed": "true"})

    async def _release_lock(self) -> None:
        await self._set_lock(0)

    async def _set_lock(self, seconds: float) -> None:
        lock_deadline = func.clock_timestamp() + timedelta(seconds=seconds)
        async with self.app_state.sessions() as session, session.begin():
            await session.execute(
                update(IdempotencyRecord).where(*self._row_filter()).values(locked_until=lock_deadline)
            )

    async def _delete_record(self) -> None:
        async with self.app_state.sessions() as session, session.begin():
            await session.execute(
                delete(IdempotencyRecord).where(*self._row_filter(), IdempotencyRecord.status.is_(None))
            )

    def _row_filter(self) -> tuple[Any, Any]:
        assert self.principal is not None
        return IdempotencyRecord.account_id == self.principal.account_id, IdempotencyRecord.key == self.key

    def _envelope_context(self) -> dict[str, str]:
        assert self.principal is not None
        assert self.key is not None
        return {"purpose": "idempotency", "owner": self.principal.account_id, "id": self.key}


async def _get_idempotent_request(
    app_state: AppStateDep,
    session: Session,
    principal: OptionalPrincipal,
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Chosen by the client; a retry with the same key and body within a day gets the first response",
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            examples=["3f6f2f0e-audit-17"],
        ),
    ] = None,
) -> IdempotentRequest:
    return IdempotentRequest(app_state, session, principal, request, key)


IdempotencyDep = Annotated[IdempotentRequest, Depends(_get_idempotent_request)]


async def _compute_fingerprint(request: Request) -> bytes:
    """SHA-256 of method, path, query and body. Of a form it covers the parts, as each attempt has another boundary."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = await request.body()
        await asyncio.to_thread(digest.update, body)
        return digest.digest()
    for name, value in (await request.form()).multi_items():
        if isinstance(value, UploadFile):
            digest.update(json.dumps([name, value.filename, value.content_type, value.size]).encode())
            await value.seek(0)
            while chunk := await value.read(_CHUNK_BYTES):
                digest.update(chunk)
            await value.seek(0)
        else:
            digest.update(json.dumps([name, value]).encode())
    return digest.digest()
