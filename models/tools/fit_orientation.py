"""Train the orientation network of `unveil.models.recovery.orientation` on photographs in STL-10's layout:

    python -m unveil.models.tools.fit_orientation --data DIR

DIR contains train_X.bin. Writes models/weights/orientation.npz (92 k weights, half precision) in about four minutes on
one core.
"""

from __future__ import annotations

import itertools

from unveil.models.core.images import Images
from unveil.models.recovery.color_ambiguity import Floats
from unveil.models.recovery.orientation import BUNDLED_WEIGHTS, SIDE
from unveil.models.tools import fitting

WIDTH = 16
EPOCHS = 30
MIN_CROP = 0.75  # of the image side
CONTRAST = 0.3  # of a random factor around 1
BRIGHTNESS = 0.2  # standard deviation, of values in -1..1


def train(images: Images, epochs: int = EPOCHS) -> tuple[dict[str, Floats], list[float]]:
    """Train to tell by how many quarter turns photographs [N, H, W, 3], square, were rotated.

    Returns the weights, and the mean loss of each epoch.
    """
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    torch.manual_seed(0)

    def convolution(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    widths = [3, WIDTH, WIDTH, 2 * WIDTH, 4 * WIDTH]
    convolutions = [convolution(a, b) for a, b in itertools.pairwise(widths)]
    pools = [nn.Identity(), *(nn.MaxPool2d(2) for _ in range(3))]
    hidden, rotation = nn.Linear(widths[-1] * (SIDE // 8) ** 2, 64), nn.Linear(64, 4)
    body = [module for pair in zip(convolutions, pools, strict=True) for module in pair]
    net = nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.4), hidden, nn.ReLU(), nn.Dropout(0.3), rotation)

    values = torch.from_numpy(images).permute(0, 3, 1, 2)
    side = images.shape[1]

    def loss_of(indices: Tensor) -> Tensor:
        crop = int(torch.randint(int(MIN_CROP * side), side + 1, ()))
        top, left = torch.randint(0, side + 1 - crop, (2,)).tolist()
        x = values[indices, :, top : top + crop, left : left + crop].float() / 127.5 - 1
        x = functional.interpolate(x, (SIDE, SIDE), mode="area")
        x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
        x = x * (1 + CONTRAST * (2 * torch.rand(len(x), 1, 1, 1) - 1)) + BRIGHTNESS * torch.randn(len(x), 1, 1, 1)
        rotations = torch.randint(0, 4, (len(x),))
        x = torch.stack([torch.rot90(image, int(turns), (1, 2)) for image, turns in zip(x, rotations, strict=True)])
        return functional.cross_entropy(net(x), rotations, label_smoothing=0.05)

    losses = fitting.train(net, loss_of, len(images), epochs)
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
    return {name: value.detach().numpy().copy() for name, value in weights.items()}, losses


def main() -> None:
    photographs, out = fitting.read_arguments(__doc__, BUNDLED_WEIGHTS)
    fitting.save_half(out, train(photographs)[0])


if __name__ == "__main__":
    main()
