"""Unveil: protect images with learnable encryption and measure what an attacker still sees.

    import unveil

    with unveil.Client("http://127.0.0.1:8000", token) as client:
        protected = client.encrypt(["photo.png"], "tanaka")

The names of `__all__` load on first use, so that `import unveil` stays fast and brings neither torch nor a server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.app.client import AsyncClient, Client
    from unveil.models.core.version import __version__

__all__ = ["AsyncClient", "Client", "__version__"]

_HOME = {
    "AsyncClient": "unveil.app.client",
    "Client": "unveil.app.client",
    "__version__": "unveil.models.core.version",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unveil' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
