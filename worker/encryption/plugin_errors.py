"""If a plug-in scheme raises, the request is rejected and the worker continues."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unveil.app.rpc.messages import Rejection, RequestRejected
from unveil.models.schemes.base import Scheme

log = logging.getLogger(__name__)
_MAX_MESSAGE_LENGTH = 300


@contextmanager
def plugin_errors(scheme: Scheme[Any, Any], passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what a plug-in raises into RequestRejected, but not RequestRejected itself and `passed`.

    Errors of a built-in scheme pass: they are faults of the service.
    """
    try:
        yield
    except Exception as error:
        is_plugin = "/" in scheme.name  # only plug-ins have names of the form vendor/name
        if not is_plugin or isinstance(error, (RequestRejected, *passed)):
            raise
        log.warning("plug-in scheme %s failed", scheme.name, exc_info=True)
        message = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE_LENGTH]
        detail = f"the plug-in scheme {scheme.name} failed: {message}"
        raise RequestRejected([Rejection("plugin_failed", "/scheme", detail)]) from None
