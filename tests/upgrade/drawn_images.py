"""The images of the archive: drawn by the old version, no photographs."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

Images = npt.NDArray[np.uint8]
SIDE = 32
_DRAW = """
import sys, numpy
from models.datasets import dead_leaves
numpy.save(sys.argv[1], dead_leaves(64, seed=20))
"""


def draw_images(folder: Path, environment: Mapping[str, str]) -> Images:
    """Squares of the images that fill the old version's `sample`: drawn, no photographs."""
    file = folder / "drawn.npy"
    subprocess.run([sys.executable, "-c", _DRAW, file], cwd=folder, env=dict(environment), check=True)
    drawn = np.load(file)[:, SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    file.unlink()
    return np.ascontiguousarray(drawn)


def png_of(image: Images) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
