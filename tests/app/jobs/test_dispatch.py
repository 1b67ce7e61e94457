"""What an order keeps waiting while it is written."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.factories import make_account
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Key
from unveil.app.jobs.dispatch import enforce_queue_quota
from unveil.app.security.principal import Principal

pytestmark = pytest.mark.anyio

SET_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '200ms'")


async def test_keys_of_an_account_are_stored_while_it_orders_but_its_other_orders_wait(service, runtime):
    app_state, account = service.app_state, make_account(runtime.sessions)
    caller = Principal(account, "owner", frozenset({"evaluate"}))
    async with app_state.sessions() as ordering:
        await enforce_queue_quota(ordering, app_state, caller, 1, "/schemes")
        with runtime.sessions.begin() as session:
            session.execute(SET_LOCK_TIMEOUT)
            session.add(Key(id="key_1", account_id=account, scheme="tanaka", params={}, status=Status.SUCCEEDED))
        async with app_state.sessions() as another:
            await another.execute(SET_LOCK_TIMEOUT)
            with pytest.raises(OperationalError, match="lock timeout"):
                await enforce_queue_quota(another, app_state, caller, 1, "/schemes")
