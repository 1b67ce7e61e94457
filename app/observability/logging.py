"""Structured logs: one JSON object a line, with the ids of the request or the job; never a secret.

Code logs through the standard `logging` module. structlog keeps the context and renders the lines.
"""

from __future__ import annotations

import logging
import sys

from structlog import processors
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, WrappedLogger

# A context manager: every line logged inside it has these fields, such as cell_id.
bind_log_context = bound_contextvars


def current_request_id() -> str:
    """The id of the HTTP request being handled; empty outside of one."""
    return str(get_contextvars().get("request_id", ""))


def json_formatter() -> ProcessorFormatter:
    return ProcessorFormatter(
        foreign_pre_chain=[
            merge_contextvars,
            add_log_level,
            add_logger_name,
            ExtraAdder(),
            processors.TimeStamper(fmt="iso", key="time"),
            processors.format_exc_info,
            processors.EventRenamer("message"),
            _drop_empty_fields,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, processors.JSONRenderer(default=str)],
    )


def configure_logging(level: int = logging.INFO) -> None:
    """Write the log of this process to standard error. Calling it again changes nothing."""
    root = logging.getLogger()
    root.setLevel(level)
    if not any(isinstance(handler.formatter, ProcessorFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(json_formatter())
        root.addHandler(handler)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs, and those of webhooks may hold a token
    # RequestContextMiddleware logs each request, with its id and account.
    logging.getLogger("uvicorn.access").disabled = True


def _drop_empty_fields(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    event_dict.pop("color_message", None)  # uvicorn repeats its message with terminal colours
    return {key: value for key, value in event_dict.items() if value not in ("", None)}
