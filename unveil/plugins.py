"""What a plug-in is written with: base classes, settings, and the facts that a scheme and an attack declare.

    from unveil.plugins import Scheme

    class Negative(Scheme):
        name = "acme/negative"

        def derive(self, seed, height, width):
            return None

        def encrypt(self, images, key):
            return 255 - images

An import of this module loads no torch; import torch inside the functions that use it. `unveil plugins check FILE`
says whether a plug-in keeps the contract, and docs/how-to/write-a-plugin.md is the guide.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Pairs
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import (
    BlockMap,
    ChannelSubset,
    CiphertextFormat,
    LinearMap,
    Mixture,
    NetworkMap,
    PixelMap,
    PositionPermutation,
)
from unveil.models.core.threat_models import Capability, ThreatModel
from unveil.models.metrics.base import Metric
from unveil.models.schemes.base import Scheme

__all__ = [
    "Attack", "AttackFailed", "AttackInput", "AttackResult", "BlockMap", "Capability", "ChannelSubset",
    "CiphertextFormat", "Images", "LinearMap", "Metric", "Mixture", "NetworkMap", "Pairs", "PixelMap",
    "PositionPermutation", "RunContext", "Scheme", "ThreatModel", "scheme", "setting",
]  # fmt: skip


def scheme(
    name: str,
    *,
    encrypt: Callable[[Images, bytes], Images],
    decrypt: Callable[[Images, bytes], Images] | None = None,
    **facts: Any,
) -> type[Scheme[Any, Any]]:
    """A scheme from functions of images and a 32-byte seed, which is the key of every image size.

    facts: attributes of the class, such as `structure=PixelMap()` or `size_multiple=4`.
    """
    members: dict[str, Any] = {
        "name": name,
        "__doc__": encrypt.__doc__,
        "__module__": sys._getframe(1).f_globals.get("__name__", __name__),
        "derive": lambda _, seed, height, width: seed,  # noqa: ARG005
        "encrypt": lambda _, images, key: encrypt(images, key),
        **facts,
    }
    if decrypt is not None:
        members["decrypt"] = lambda _, images, key: decrypt(images, key)
    return type("FunctionScheme", (Scheme,), members)
