"""Keyset pagination over ids, newest first; stable while rows are added and deleted."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstrumentedAttribute

from unveil.app.errors.problem import Invalid

T = TypeVar("T")
Row = TypeVar("Row")
S = TypeVar("S", bound=Select[Any])


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = Field(None, description="`cursor` of the next page; null on the last page")


@dataclass(frozen=True)
class PageRequest:
    limit: int
    after: str | None  # the last id of the previous page


class CursorParams:
    """A dependency that parses the page requested from a list whose ids have one of these prefixes."""

    def __init__(self, *prefixes: str) -> None:
        self._id_pattern = re.compile(rf"({'|'.join(prefixes)})_[0-9a-f]{{32}}")

    async def __call__(
        self,
        limit: Annotated[int, Query(ge=1, le=200, description="Items on a page")] = 50,
        cursor: Annotated[str | None, Query(description="`next` of the previous page", max_length=200)] = None,
    ) -> PageRequest:
        return PageRequest(limit, None if cursor is None else self._decode(cursor))

    def _decode(self, cursor: str) -> str:
        try:
            id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        except ValueError:
            id = ""
        if not self._id_pattern.fullmatch(id):
            message = "not a cursor of this list; send `next` of the previous page unchanged"
            raise Invalid("invalid cursor", [("/query/cursor", message)])
        return id


AccountPaging = Annotated[PageRequest, Depends(CursorParams("acct"))]
KeyPaging = Annotated[PageRequest, Depends(CursorParams("key"))]
DatasetPaging = Annotated[PageRequest, Depends(CursorParams("builtin", "ds"))]
JobPaging = Annotated[PageRequest, Depends(CursorParams("cell", "key"))]
DeliveryPaging = Annotated[PageRequest, Depends(CursorParams("delivery"))]
EvaluationPaging = Annotated[PageRequest, Depends(CursorParams("ev"))]


def apply_cursor(statement: S, id: InstrumentedAttribute[str] | ColumnElement[str], paging: PageRequest) -> S:
    """Selects the rows of a page, and one more if another page follows."""
    if paging.after is not None:
        statement = statement.where(id < paging.after)
    return statement.order_by(id.desc()).limit(paging.limit + 1)


def build_page(
    rows: Sequence[Row], paging: PageRequest, serialize: Callable[[Row], T], id_of: Callable[[Row], str]
) -> Page[T]:
    """`rows` come from a statement of `apply_cursor`."""
    page_rows = rows[: paging.limit]
    has_more = len(rows) > paging.limit
    return Page(items=[serialize(row) for row in page_rows], next=_encode(id_of(page_rows[-1])) if has_more else None)


def _encode(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")
