"""A data set so small that a new process has it at once: what is measured is the service, not the science."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NAME = "few"
_SIDE = 96


def write_few(data_dir: Path, count: int = 16) -> str:
    """Soft random pictures in STL-10's layout in `data_dir`/few; the name of the set."""
    folder = data_dir / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for split, seed in (("train", 0), ("test", 1)):
        coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, _SIDE // 8, _SIDE // 8), np.uint8)
        coarse.repeat(8, 2).repeat(8, 3).tofile(folder / f"{split}_X.bin")
        (np.arange(count, dtype=np.uint8) % 2 + 1).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("a\nb\n")
    return NAME
