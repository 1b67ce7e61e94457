"""Unveil: encrypt images with learnable-encryption schemes and measure what an attacker can recover.

    import unveil

    report = unveil.audit(protect, images)  # a function, in this process: no service needed
    report.verdict, report.because

    with unveil.Client("http://127.0.0.1:8000", token) as client:
        protected = client.encrypt(["photo.png"], "tanaka")

The names in `__all__` are imported on first use: `import unveil` is fast and loads neither torch nor a server package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unveil._audit import AuditReport, Ciphertexts, InvalidScheme, Reconstructions, audit
    from unveil._protected_dataset import ProtectedDataset
    from unveil.app.client.client import AsyncClient, Client
    from unveil.models.core.version import __version__

__all__ = [
    "AsyncClient",
    "AuditReport",
    "Ciphertexts",
    "Client",
    "InvalidScheme",
    "ProtectedDataset",
    "Reconstructions",
    "__version__",
    "audit",
]

_MODULES = {
    "AsyncClient": "unveil.app.client.client",
    "AuditReport": "unveil._audit",
    "Ciphertexts": "unveil._audit",
    "InvalidScheme": "unveil._audit",
    "ProtectedDataset": "unveil._protected_dataset",
    "Reconstructions": "unveil._audit",
    "audit": "unveil._audit",
    "Client": "unveil.app.client.client",
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
