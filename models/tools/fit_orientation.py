"""Train the orientation network of `unveil.models.recovery.orientation` on photographs in STL-10's layout:

    python -m unveil.models.tools.fit_orientation --data DIR

DIR contains train_X.bin. Writes models/weights/orientation.npz (92 k weights, half precision) in about four minutes on
one core.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unveil.models.core.images import Images
from unveil.models.data.stl10_binary import read_stl10_images
from unveil.models.recovery.color_ambiguity import Floats
from unveil.models.recovery.orientation import BUNDLED_WEIGHTS, SIDE

WIDTH = 16
EPOCHS = 30
BATCH = 100
RATE = 3e-3
MIN_CROP = 0.75  # of the image side
CONTRAST = 0.3  # of a random factor around 1
BRIGHTNESS = 0.2  # standard deviation, of values in -1..1

log = logging.getLogger(__name__)


def train(
    images: Images, *, epochs: int = EPOCHS, seed: int = 0, on_epoch: Callable[[int, float], Any] = lambda *_: None
) -> dict[str, Floats]:
    """Train to tell by how many quarter turns photographs [N, H, W, 3], square, were rotated -> the weights."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)

    def convolution(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    widths = [3, WIDTH, WIDTH, 2 * WIDTH, 4 * WIDTH]
    convolutions = [convolution(a, b) for a, b in itertools.pairwise(widths)]
    pools = [nn.Identity(), *(nn.MaxPool2d(2) for _ in range(3))]
    hidden, rotation = nn.Linear(widths[-1] * (SIDE // 8) ** 2, 64), nn.Linear(64, 4)
    body = [module for pair in zip(convolutions, pools, strict=True) for module in pair]
    net = nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.4), hidden, nn.ReLU(), nn.Dropout(0.3), rotation)

    batch = min(BATCH, len(images))
    steps_per_epoch = len(images) // batch
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps_per_epoch)
    values = torch.from_numpy(images).permute(0, 3, 1, 2)
    side = images.shape[1]
    for epoch in range(epochs):
        total = 0.0
        for indices in torch.randperm(len(images))[: steps_per_epoch * batch].view(steps_per_epoch, batch):
            crop = int(torch.randint(int(MIN_CROP * side), side + 1, ()))
            top, left = torch.randint(0, side + 1 - crop, (2,)).tolist()
            x = values[indices, :, top : top + crop, left : left + crop].float() / 127.5 - 1
            x = functional.interpolate(x, (SIDE, SIDE), mode="area")
            x = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, x.flip(3), x)
            x = x * (1 + CONTRAST * (2 * torch.rand(batch, 1, 1, 1) - 1)) + BRIGHTNESS * torch.randn(batch, 1, 1, 1)
            rotations = torch.randint(0, 4, (batch,))
            x = torch.stack(
                [torch.rot90(image, int(rotation), (1, 2)) for image, rotation in zip(x, rotations, strict=True)]
            )
            loss = functional.cross_entropy(net(x), rotations, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            total += loss.item()
        on_epoch(epoch, total / steps_per_epoch)

    weights = {}
    for layer, (conv, norm, _) in enumerate(convolutions):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weights[f"conv{layer}.weight"] = (conv.weight * scale[:, None, None, None]).permute(2, 3, 1, 0)
        weights[f"conv{layer}.bias"] = norm.bias - norm.running_mean * scale
    channels = widths[-1]
    flattened = hidden.weight.reshape(64, channels, SIDE // 8, SIDE // 8).permute(2, 3, 1, 0).reshape(-1, 64)
    weights |= {
        "hidden.weight": flattened,
        "hidden.bias": hidden.bias,
        "rotation.weight": rotation.weight.T,
        "rotation.bias": rotation.bias,
    }
    return {name: value.detach().numpy().copy() for name, value in weights.items()}


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
