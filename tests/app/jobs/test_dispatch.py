"""What an order keeps waiting while it is written."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.factories import make_account
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key
from unveil.app.jobs.dispatch import check_queue
from unveil.app.security.principal import Caller

pytestmark = pytest.mark.anyio

IMPATIENT = text("SET LOCAL lock_timeout = '200ms'")


async def test_keys_of_an_account_are_stored_while_it_orders_but_its_other_orders_wait(service, tools):
    svc, account = service.services, make_account(tools.sessions)
    caller = Caller(account, "owner", frozenset({"evaluate"}))
    async with svc.sessions() as ordering:
        await check_queue(ordering, svc, caller, 1, "/schemes")
        with tools.sessions.begin() as session:
            session.execute(IMPATIENT)
            session.add(Key(id="key_1", account_id=account, scheme="tanaka", params={}, status=Status.SUCCEEDED))
        async with svc.sessions() as another:
            await another.execute(IMPATIENT)
            with pytest.raises(OperationalError, match="lock timeout"):
                await check_queue(another, svc, caller, 1, "/schemes")
