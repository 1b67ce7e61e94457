"""A dataset so small that a new process has it at once, and one that gives a cell something to do: what is measured
is the service, not the science."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

SMALL_DATASET = "few"
LARGE_DATASET = "many"
_SIDE = 96


def write_dataset(data_dir: Path, count: int = 16, name: str = SMALL_DATASET) -> str:
    """Soft random pictures in STL-10's layout in `data_dir`/`name`; the name of the set."""
    folder = data_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, seed in (("train", 0), ("test", 1)):
        coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, _SIDE // 8, _SIDE // 8), np.uint8)
        coarse.repeat(8, 2).repeat(8, 3).tofile(folder / f"{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 2 + 1).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("a\nb\n")
    return name


def png(seed: int, side: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def archive(count: int = 10) -> bytes:
    """A zip of two classes; made once, for it holds the time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        for number in range(count):
            for label in ("a", "b"):
                zip_file.writestr(f"{label}/{number}.png", png(2 * number + (label == "b")))
    return buffer.getvalue()
