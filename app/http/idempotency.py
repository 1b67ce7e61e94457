"""`Idempotency-Key`: a request that creates may be repeated, by a careful client or a nervous one, and makes one thing.

    async with once.reserve(key_id=new_id("key")) as ids:      # may answer from memory instead
        key = await service.create(session, caller, order, ids["key_id"])
        await once.keep(session, key, status=201)              # in the transaction of the work
        await session.commit()

The ids are stored before the work. A crash, a lost answer or a 503 leaves the row without an answer, and a repeat does
the work again under the same ids: work on an id that exists must be harmless. A refusal (4xx) forgets the key.
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

from unveil.app.db.tables import Idempotency
from unveil.app.dependencies import Services, Session, Svc
from unveil.app.errors.problem import Conflict, Invalid, Problem
from unveil.app.http.authentication import MaybeCaller
from unveil.app.http.like import Like
from unveil.app.observability import failpoints
from unveil.app.security.principal import Caller

_LOCK_S = 10.0  # how long a repeat waits at most for a request that died with its process
_RENEW_S = 3.0
_CHUNK = 2**20


class Running(Conflict):
    code, title = "idempotency_running", "The first request with this Idempotency-Key still runs"


class Mismatch(Invalid):
    code, title = "idempotency_mismatch", "This Idempotency-Key was used for another request"


@dataclass
class Replay(Exception):
    """The answer that the first request got; the handler in unveil.app.main sends it."""

    response: Response


@dataclass(frozen=True)
class Once:
    svc: Services
    session: AsyncSession  # the request's own: a refused one lets go of it before its key is forgotten
    caller: Caller | None
    request: Request
    key: str | None

    @asynccontextmanager
    async def reserve(self, **ids: Any) -> AsyncIterator[dict[str, Any]]:
        """The ids to work with: these, or those of an earlier try. Raises Replay, Running, Mismatch."""
        if self.key is None or self.caller is None:
            yield ids
            return
        reserved = await self._take(ids)
        failpoints.point("key-reserved")
        try:
            async with self._locked():
                yield reserved
        except Problem as problem:
            await self.session.rollback()
            await (self._release() if problem.status >= 500 else self._forget())
            raise
        except BaseException as error:
            await self.session.rollback()
            if isinstance(error, IntegrityError) and isinstance(error.orig, UniqueViolation):
                raise self._running() from error  # the first was taken for dead, and is about to answer
            await self._release()
            raise
        else:
            await self._release()

    async def keep(
        self,
        session: AsyncSession,
        body: BaseModel | dict[str, Any],
        *,
        status: int,
        headers: Mapping[str, str] | None = None,
        secret: bool = False,
    ) -> None:
        """Remember the answer, in the caller's transaction. `secret`: the body is stored in an envelope."""
        if self.key is None or self.caller is None:
            return
        plain = body.model_dump(mode="json", by_alias=True) if isinstance(body, BaseModel) else body
        if secret:
            sealed = self.svc.ring.seal(json.dumps(plain).encode(), **self._context())
            plain = {"sealed": base64.b64encode(sealed).decode()}
        await session.execute(
            update(Idempotency).where(*self._row()).values(status=status, body=plain, headers=dict(headers or {}))
        )

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Renews the lock, as long as this process lives and the work takes."""
        over = asyncio.Event()

        async def renew() -> None:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), _RENEW_S)
                    return
                with suppress(SQLAlchemyError):  # its end needs the database too, and says so
                    await self._lock_for(_LOCK_S)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            over.set()
            await renewing

    async def _take(self, ids: dict[str, Any]) -> dict[str, Any]:
        assert self.caller is not None
        fingerprint = await _fingerprint(self.request)
        until = func.clock_timestamp() + timedelta(seconds=_LOCK_S)
        fresh = {"fingerprint": fingerprint, "reserved": ids, "locked_until": until}
        async with self.svc.sessions() as session, session.begin():
            inserted = await session.scalar(
                insert(Idempotency)
                .values(account_id=self.caller.account_id, key=self.key, **fresh)
                .on_conflict_do_nothing()
                .returning(Idempotency.key)
            )
            if inserted is not None:
                return ids
            locked = Idempotency.locked_until > func.clock_timestamp()
            age = timedelta(hours=self.svc.settings.idempotency_hours)
            old = Idempotency.created_at < func.clock_timestamp() - age
            found = (
                await session.execute(select(Idempotency, locked, old).where(*self._row()).with_for_update())
            ).one_or_none()
            if found is None:  # forgotten between the two statements
                raise self._running()
            row, is_locked, is_old = found
            if is_old and not is_locked:
                cleared = {"status": None, "body": None, "headers": None, "created_at": func.clock_timestamp()}
                await session.execute(update(Idempotency).where(*self._row()).values(**fresh, **cleared))
                return ids
            if row.fingerprint != fingerprint:
                raise Mismatch(
                    "this key came with another method, path or body before; use a new key for a new request",
                    [("/header/Idempotency-Key", "used before for another request")],
                )
            if row.status is not None:
                raise Replay(self._replayed(row))
            if is_locked:
                raise self._running()
            row.locked_until = until
            return dict(row.reserved)

    def _running(self) -> Running:
        return Running("ask again in a moment with the same key and body", headers={"Retry-After": "1"})

    def _replayed(self, row: Idempotency) -> Response:
        assert row.status is not None
        body = row.body or {}
        if set(body) == {"sealed"}:
            body = json.loads(self.svc.ring.open(base64.b64decode(body["sealed"]), **self._context()))
        return JSONResponse(body, row.status, {**(row.headers or {}), "Idempotency-Replayed": "true"})

    async def _release(self) -> None:
        await self._lock_for(0)

    async def _lock_for(self, seconds: float) -> None:
        until = func.clock_timestamp() + timedelta(seconds=seconds)
        async with self.svc.sessions() as session, session.begin():
            await session.execute(update(Idempotency).where(*self._row()).values(locked_until=until))

    async def _forget(self) -> None:
        async with self.svc.sessions() as session, session.begin():
            await session.execute(delete(Idempotency).where(*self._row(), Idempotency.status.is_(None)))

    def _row(self) -> tuple[Any, Any]:
        assert self.caller is not None
        return Idempotency.account_id == self.caller.account_id, Idempotency.key == self.key

    def _context(self) -> dict[str, str]:
        assert self.caller is not None
        assert self.key is not None
        return {"purpose": "idempotency", "owner": self.caller.account_id, "id": self.key}


async def _once(
    svc: Svc,
    session: Session,
    caller: MaybeCaller,
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Yours, without spaces; a repeat with the same key and body gets the same answer for a day",
            min_length=1,
            max_length=200,
            examples=["3f6f2f0e-order-17"],
        ),
        Like(r"^[\x21-\x7e]+$", "hold printable ASCII without spaces"),
    ] = None,
) -> Once:
    return Once(svc, session, caller, request, key)


Idempotent = Annotated[Once, Depends(_once)]


async def _fingerprint(request: Request) -> bytes:
    """SHA-256 of method, path, query and body; of a form its parts, since its boundary differs in each try."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = await request.body()
        await asyncio.to_thread(digest.update, body)
        return digest.digest()
    for name, value in (await request.form()).multi_items():
        if isinstance(value, UploadFile):
            digest.update(json.dumps([name, value.filename, value.content_type, value.size]).encode())
            await value.seek(0)
            while chunk := await value.read(_CHUNK):
                digest.update(chunk)
            await value.seek(0)
        else:
            digest.update(json.dumps([name, value]).encode())
    return digest.digest()
