"""Charges an account for the processor time of its jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from unveil.app.db.tables import AccountUsage


def _process_core_seconds() -> float:
    """Of all threads of this process and of the children that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class UsageMeter:
    """The core seconds of this process since the last charge. A pool process runs one job at a time."""

    account_id: str
    _charged: float = field(default_factory=_process_core_seconds)

    def charge(self, session: Session) -> None:
        """Add the core seconds since the last charge to today's usage of the account."""
        now = _process_core_seconds()
        statement = insert(AccountUsage).values(
            account_id=self.account_id,
            day=func.date(func.timezone("UTC", func.clock_timestamp())),
            core_seconds=now - self._charged,
        )
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["account_id", "day"],
                set_={"core_seconds": AccountUsage.core_seconds + statement.excluded.core_seconds},
            )
        )
        self._charged = now
