"""Unveil: encrypt images with learnable-encryption schemes and measure what an attacker can recover.

    import unveil

    with unveil.Client("http://127.0.0.1:8000", token) as client:
        protected = client.encrypt(["photo.png"], "tanaka")

The names in `__all__` are imported on first use: `import unveil` is fast and loads neither torch nor a server package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil.app.client import AsyncClient, Client
    from unveil.models.core.version import __version__

__all__ = ["AsyncClient", "Client", "__version__"]

_MODULES = {
    "AsyncClient": "unveil.app.client",
    "Client": "unveil.app.client",
    "__version__": "unveil.models.core.version",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'unveil' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
