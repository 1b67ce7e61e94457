"""Whose job comes next. A message rings for one row, and what is done is the job of the account whose turn it is.

Messages wait in the order of their sending: an account with a hundred cells would keep another's only one waiting for
them all. Each message stands for one job that waits, so whichever is taken, there is one left for every other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from sqlalchemy import ColumnElement, Select, case, func, literal, select, union_all, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from unveil.app.db.tables import Account, Cell, Evaluation, Key
from unveil.models import catalog
from unveil.worker import cells, jobs, key_training
from unveil.worker.jobs import Job
from unveil.worker.lease import HELD, JobTable, waits
from unveil.worker.runtime import Runtime

log = logging.getLogger(__name__)

_CLAIMS: Mapping[JobTable, Callable[[Runtime, str], Job | None]] = {Key: key_training.claim, Cell: cells.claim}


def handle(tools: Runtime) -> None:
    """Do one job, if any waits."""
    passed: list[str] = []  # taken by others while we looked, or not to be claimed
    while True:
        with tools.sessions() as session:
            found = following(session, passed)
        if found is None:
            return
        table, id, account_id = found
        if jobs.handle(tools, id, partial(_claim, table), lambda: _served(tools, account_id)):  # noqa: B023 - called at once
            return
        passed.append(id)


def _claim(table: JobTable, tools: Runtime, id: str) -> Job | None:
    """None also where something is wrong with it: every worker would come back to it, and do no other."""
    try:
        return _CLAIMS[table](tools, id)
    except OperationalError:  # the database's trouble, not the row's
        raise
    except Exception:
        log.exception("%s cannot be claimed", id)
        return None


def following(session: Session, passed: list[str]) -> tuple[JobTable, str, str] | None:
    """Table, id and account of the job whose turn it is: of the account with the fewest at work, of those the one that
    was served longest ago; its oldest order first, in it the keys, for which cells wait, and last what takes long.

    What only another version knows is left to a worker that has it.
    """
    schemes, attacks = list(catalog.schemes()), [*catalog.attacks(), catalog.UTILITY]
    scheme, attack = Cell.scheme["name"].astext, Cell.attack["name"].astext
    known = scheme.in_([*schemes, catalog.EXTERNAL]) & attack.in_(attacks)
    length = case((attack.in_([name for name in attacks if catalog.takes_long(name)]), 2), else_=1)
    waiting = union_all(
        _keys(literal(0).label("length"), waits(Key) & Key.scheme.in_(schemes) & Key.id.not_in(passed)),
        _cells(length.label("length"), waits(Cell) & known & Cell.id.not_in(passed)),
    ).subquery()
    held = union_all(
        _keys(literal(0).label("length"), Key.status.in_(HELD)),
        _cells(literal(0).label("length"), Cell.status.in_(HELD)),
    ).subquery()
    at_work = select(held.c.account_id, func.count().label("jobs")).group_by(held.c.account_id).subquery()
    row = session.execute(
        select(waiting.c.is_key, waiting.c.id, Account.id)
        .join(Account, Account.id == waiting.c.account_id)
        .outerjoin(at_work, at_work.c.account_id == Account.id)
        .order_by(
            at_work.c.jobs.nulls_first(),
            Account.served_at.nulls_first(),
            waiting.c.ordered_at,
            waiting.c.length,
            waiting.c.position,
        )
        .limit(1)
    ).first()
    return None if row is None else (Key if row[0] else Cell, row[1], row[2])


def _keys(length: ColumnElement[int], chosen: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    ordered_at = func.coalesce(Evaluation.created_at, Key.created_at).label("ordered_at")
    columns = (literal(True).label("is_key"), Key.id, Key.account_id, ordered_at, length, literal(0).label("position"))
    return select(*columns).outerjoin(Evaluation, Evaluation.id == Key.evaluation_id).where(chosen)


def _cells(length: ColumnElement[int], chosen: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    ordered_at = Evaluation.created_at.label("ordered_at")
    columns = (literal(False).label("is_key"), Cell.id, Evaluation.account_id, ordered_at, length, Cell.position)
    return select(*columns).join(Evaluation, Evaluation.id == Cell.evaluation_id).where(chosen)


def _served(tools: Runtime, account_id: str) -> None:
    """A turn that is forgotten is taken twice; the job that has been claimed matters more."""
    with suppress(DBAPIError), tools.sessions.begin() as session:
        session.execute(update(Account).where(Account.id == account_id).values(served_at=func.clock_timestamp()))
