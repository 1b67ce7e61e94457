"""Train the naturalness network of `unveil.models.recovery.color_ambiguity` on photographs in STL-10's layout:

    python -m unveil.models.tools.fit_color_ambiguity --data DIR

DIR contains train_X.bin. Writes models/weights/symmetry.npz (197 k weights, half precision) in half a minute on one
core. The bundled weights depend on the dropout and the one-cycle schedule of this short loop, so it stays apart from
`unveil.models.training.loop`.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unveil.models.core.images import Images
from unveil.models.data.stl10_binary import read_stl10_images
from unveil.models.recovery.color_ambiguity import (
    BUNDLED_WEIGHTS,
    FEATURES,
    Floats,
    color_histogram,
    histogram_variants,
)

HIDDEN = 64
EPOCHS = 8
BATCH = 100
RATE = 3e-3

log = logging.getLogger(__name__)


def train(
    images: Images, *, epochs: int = EPOCHS, seed: int = 0, on_epoch: Callable[[int, float], Any] = lambda *_: None
) -> dict[str, Floats]:
    """Train by cross-entropy of each photograph [N, H, W, 3] against its eleven transformed copies -> the weights."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)
    histograms = np.stack([color_histogram(image) for image in images])
    hidden, score = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, 1)
    net = nn.Sequential(nn.Dropout(0.2), hidden, nn.ReLU(), nn.Dropout(0.3), score)
    batch = min(BATCH, len(images))
    steps_per_epoch = len(images) // batch
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps_per_epoch)
    target = torch.zeros(batch, dtype=torch.long)
    for epoch in range(epochs):
        total = 0.0
        for indices in torch.randperm(len(images))[: steps_per_epoch * batch].view(steps_per_epoch, batch).numpy():
            scores = net(torch.from_numpy(histogram_variants(histograms[indices])))[..., 0]
            loss = functional.cross_entropy(scores, target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.item()
        on_epoch(epoch, total / steps_per_epoch)
    layers = {"hidden": hidden, "score": score}
    return {f"{name}.{k}": v.numpy() for name, layer in layers.items() for k, v in layer.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_X.bin in STL-10's layout")
    parser.add_argument("--out", type=Path, default=BUNDLED_WEIGHTS)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    photographs = read_stl10_images(args.data / "train_X.bin")
    weights = train(photographs, on_epoch=lambda epoch, loss: log.info("epoch %d: %.3f", epoch, loss))
    halved: dict[str, Any] = {name: value.astype(np.float16) for name, value in weights.items()}
    np.savez_compressed(args.out, **halved)


if __name__ == "__main__":
    main()
