"""Structured logs: one JSON object a line, with the ids of what it is about; never a secret."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
account_id: ContextVar[str] = ContextVar("account_id", default="")
_log_context: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - never changed in place

_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value.get() for key, value in (("request_id", request_id), ("account_id", account_id))}
        entry |= _log_context.get()
        entry |= {key: value for key, value in vars(record).items() if key not in _RECORD_ATTRIBUTES}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in entry.items() if value not in ("", None)}, default=str)


@contextmanager
def bind_log_context(**ids: str | None) -> Iterator[None]:
    """Every line that is logged meanwhile names these ids, such as cell_id."""
    token = _log_context.set({**_log_context.get(), **{name: id for name, id in ids.items() if id}})
    try:
        yield
    finally:
        _log_context.reset(token)


def configure_logging(level: int = logging.INFO) -> None:
    """Everything that this process logs, on standard error. Safe to call again."""
    root = logging.getLogger()
    root.setLevel(level)
    if not any(isinstance(handler.formatter, JsonFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Each request has a line of ours, with its id and account.
    logging.getLogger("uvicorn.access").disabled = True
