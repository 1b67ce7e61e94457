"""Image files and archives for tests of what users send."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image


def pixels(seed: int, width: int = 24, height: int = 24) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(seed: int, width: int = 24, height: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return buffer.getvalue()


def classes(count: int, prefix: str = "", width: int = 24, height: int = 24) -> dict[str, bytes]:
    """`count` images in each of two class folders."""
    return {
        f"{prefix}{kind}/{i}.png": png(10 * i + k, width, height) for k, kind in enumerate("ab") for i in range(count)
    }
