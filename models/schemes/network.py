"""What schemes have in common whose key is a trained network: one forward pass protects, nothing undoes it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from models.images import Images, check_images, quantise
from models.schemes.base import Scheme

if TYPE_CHECKING:
    from torch import nn

S = TypeVar("S")

_WEIGHTS = b"w"
_GPU_BATCH = 64


class NetworkScheme(Scheme[S, Any]):
    """The secret is `_WEIGHTS` and the bytes of `models.weights`; the key is the network, in eval mode.

    On a CPU images go through one by one, so that the protected image does not depend on what travels beside it:
    another batch size adds in another order, and now and then a value would round to the next level.
    """

    trains = True
    invertible = False
    most_pixels: ClassVar[int] = 1 << 20  # of one image: 64 channels at full size take 256 MiB a layer

    @abstractmethod
    def network(self) -> nn.Module:
        """As made, before any training: float [N, 3, H, W] in -1..1 -> the same."""

    def key_space_bits(self, height: int, width: int) -> None:  # noqa: ARG002 - weights are not counted
        return None

    def secret_of(self, key: nn.Module) -> bytes:
        from models import weights

        return _WEIGHTS + weights.dump(key, {"scheme": self.name})

    def key(self, secret: bytes, height: int, width: int) -> nn.Module:  # noqa: ARG002 - it fits every size
        from models import weights

        if secret[:1] != _WEIGHTS:
            raise ValueError("not a secret of this scheme")
        network = self.network()
        weights.fill(network, secret[1:])
        return network.eval()

    def encrypt(self, images: Images, key: nn.Module) -> Images:
        import torch

        from models.training import as_floats

        check_images(images)
        height, width = images.shape[1:3]
        if height * width > self.most_pixels:
            raise ValueError(
                f"{width}x{height} is too large for {self.name}: it takes {self.most_pixels} pixels an image"
            )
        device = next(key.parameters()).device
        step = 1 if device.type == "cpu" else _GPU_BATCH
        out = np.empty_like(images)
        with torch.inference_mode():
            for i in range(0, len(images), step):
                seen = key(as_floats(torch.from_numpy(images[i : i + step]).to(device)))
                out[i : i + step] = quantise((seen + 1).mul(127.5).permute(0, 2, 3, 1).cpu().numpy())
        return out

    def protect(self, images: Images, secret: bytes, first: int = 0, device: str = "cpu") -> Images:  # noqa: ARG002
        import torch

        key = self.key(secret, *images.shape[1:3])
        return self.encrypt(images, key.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]

    def derive(self, seed: bytes, height: int, width: int) -> Any:  # noqa: ARG002
        raise TypeError(f"keys of {self.name} are trained, not drawn")

    def decrypt(self, images: Images, key: nn.Module) -> Images:  # noqa: ARG002
        raise TypeError(f"{self.name} cannot be undone")

    def dump(self, key: nn.Module) -> dict[str, Any]:  # noqa: ARG002
        raise TypeError(f"a key of {self.name} is a network and has no explicit form")

    def load(self, material: Mapping[str, Any]) -> Any:  # noqa: ARG002
        raise TypeError(f"a key of {self.name} is a network and has no explicit form")
