"""Train the naturalness network of `unveil.models.recovery.color_ambiguity` on photographs in STL-10's layout:

    python -m unveil.models.tools.fit_color_ambiguity --data DIR

DIR contains train_X.bin. Writes models/weights/symmetry.npz (197 k weights, half precision) in half a minute on one
core. The bundled weights depend on the dropout and the one-cycle schedule of this short loop, so it stays apart from
`unveil.models.training.loop`.
"""

from __future__ import annotations

import numpy as np

from unveil.models.core.images import Images
from unveil.models.recovery.color_ambiguity import (
    BUNDLED_WEIGHTS,
    FEATURES,
    Floats,
    color_histogram,
    histogram_variants,
)
from unveil.models.tools import fitting

HIDDEN = 64
EPOCHS = 8


def train(images: Images, epochs: int = EPOCHS) -> tuple[dict[str, Floats], list[float]]:
    """Train by cross-entropy of each photograph [N, H, W, 3] against its eleven transformed copies.

    Returns the weights, and the mean loss of each epoch.
    """
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    torch.manual_seed(0)
    histograms = np.stack([color_histogram(image) for image in images])
    hidden, score = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, 1)
    net = nn.Sequential(nn.Dropout(0.2), hidden, nn.ReLU(), nn.Dropout(0.3), score)

    def loss_of(indices: Tensor) -> Tensor:
        scores = net(torch.from_numpy(histogram_variants(histograms[indices.numpy()])))[..., 0]
        return functional.cross_entropy(scores, torch.zeros(len(indices), dtype=torch.long))

    losses = fitting.train(net, loss_of, len(images), epochs)
    layers = {"hidden": hidden, "score": score}
    weights = {f"{name}.{k}": v.numpy() for name, layer in layers.items() for k, v in layer.state_dict().items()}
    return weights, losses


def main() -> None:
    photographs, out = fitting.read_arguments(__doc__, BUNDLED_WEIGHTS)
    fitting.save_half(out, train(photographs)[0])


if __name__ == "__main__":
    main()
