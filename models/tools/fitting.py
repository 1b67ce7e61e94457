"""What the fits to photographs in STL-10's layout share: their arguments, their files, and a short training loop."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.data.stl10_binary import read_stl10_images

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 100
_RATE = 3e-3

log = logging.getLogger(__name__)


def read_arguments(description: str | None, bundled: Path) -> tuple[Images, Path]:
    """The photographs that --data names, and the file to write: `bundled` by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_X.bin in STL-10's layout")
    parser.add_argument("--out", type=Path, default=bundled)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return read_stl10_images(args.data / "train_X.bin"), args.out


def save_half(out: Path, arrays: Mapping[str, npt.NDArray[np.floating]]) -> None:
    """Write arrays in half precision."""
    halved: dict[str, Any] = {name: values.astype(np.float16) for name, values in arrays.items()}
    np.savez_compressed(out, **halved)


def train(network: nn.Module, loss_of: Callable[[Tensor], Tensor], images: int, epochs: int) -> list[float]:
    """Train with AdamW and a one-cycle schedule -> the mean loss of each epoch.

    loss_of: of the images with these numbers, a batch of 0 to `images` - 1.
    """
    import torch

    batch = min(_BATCH, images)
    steps = images // batch
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=epochs * steps)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for indices in torch.randperm(images)[: steps * batch].view(steps, batch):
            loss = loss_of(indices)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.item()
        losses.append(total / steps)
        log.info("epoch %d: %.3f", epoch, losses[-1])
    return losses
