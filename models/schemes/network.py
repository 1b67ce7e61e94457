"""The base class of TN-model and TN-GAN: the key is a trained network, and protection is one forward pass."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from unveil.models.core.images import Images, check_images, pad, pad_to, quantise
from unveil.models.core.settings_schema import parse
from unveil.models.core.structure import NetworkMap
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    from torch import nn

    from unveil.models.core.run_context import RunContext
    from unveil.models.data.image_dataset import ImageDataset

S = TypeVar("S")

_WEIGHTS_PREFIX = b"w"
_TILE_SIDE = 768  # pixels: larger images are cut into tiles; the paper's U-Net needs about 1 GB for one
_MAX_PIXELS_PER_BATCH = 2_000_000  # on a GPU
_PROVENANCE_TEST_IMAGES = 500  # test images for the provenance of a key


class NetworkScheme(Scheme[S, "nn.Module"]):
    """The secret is b"w" and the weights in safetensors format, whose metadata holds the settings of the network."""

    trains = True
    invertible = False
    tile_margin: ClassVar[int] = 0  # pixels of context around a tile, a multiple of the network's coarsest grid
    min_side: ClassVar[int] = 1  # pixels; smaller images are padded and the result is cropped

    @property
    def unshuffle_factor(self) -> int:
        """The factor of the pixel unshuffle before the network, by which tiles and their margins grow."""
        return 1

    @abstractmethod
    def build_network(self) -> nn.Module:
        """An untrained network of these settings: float [N, 3, H, W] in -1..1 -> the same."""

    @property
    def structure(self) -> NetworkMap:
        return NetworkMap()

    def derive(self, seed: bytes, height: int, width: int) -> nn.Module:  # noqa: ARG002
        raise ValueError(f"a key of {self.name} is a trained network and has no seed")

    def key(self, secret: bytes, height: int, width: int) -> nn.Module:  # noqa: ARG002 - serves every size
        """The trained network in eval mode on the CPU, built from the settings stored in the secret."""
        import torch

        from unveil.models.core import serialization

        body, metadata = self.unpack_weights(secret)
        network = type(self)(parse(self.Settings, json.loads(metadata["settings"]))).build_network()
        serialization.load_into(network, body)
        return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def unpack_weights(self, secret: bytes) -> tuple[bytes, dict[str, str]]:
        """The weights and the metadata of a secret of this scheme. Raises ValueError."""
        from unveil.models.core import serialization

        kind, body = secret[:1], secret[1:]
        metadata = serialization.read_metadata(body) if kind == _WEIGHTS_PREFIX else {}
        if metadata.get("scheme") != self.name:
            raise ValueError(f"not a trained key of {self.name}")
        return body, metadata

    def key_to_secret(self, key: nn.Module) -> bytes:
        return self.pack_weights(key, {})

    def pack_weights(self, key: nn.Module, metadata: Mapping[str, str], **extra_networks: nn.Module) -> bytes:
        """The secret of a network with further metadata and extra networks."""
        from unveil.models.core import serialization

        full_metadata = {"scheme": self.name, "settings": json.dumps(vars(self.settings)), **metadata}
        return _WEIGHTS_PREFIX + serialization.dump(key, full_metadata, **extra_networks)

    def encrypt(self, images: Images, key: nn.Module, on_batch: Callable[[], None] = lambda: None) -> Images:
        """Protect uint8 [N, H, W, 3] of any size -> the same shape, on the device of `key`.

        On a CPU every image is a batch of its own, so that its result does not depend on the other images, bit for bit.
        on_batch: called before each batch; may raise Cancelled.
        """
        import torch

        from unveil.models.core.images import tiles
        from unveil.models.training.loop import to_model_input

        check_images(images)
        device = next(key.parameters()).device
        out = np.empty_like(images)
        height, width = images.shape[1:3]
        for input_window, output_window, inner_window in tiles(
            height, width, _TILE_SIDE * self.unshuffle_factor, self.tile_margin * self.unshuffle_factor
        ):
            tile = pad_to(images[:, *input_window], self.min_side, self.min_side)
            batch_size = 1 if device.type == "cpu" else max(1, _MAX_PIXELS_PER_BATCH // (tile.shape[1] * tile.shape[2]))
            for i in range(0, len(images), batch_size):
                on_batch()
                with torch.inference_mode():
                    inputs = to_model_input(torch.from_numpy(np.ascontiguousarray(tile[i : i + batch_size])).to(device))
                    result = (key(inputs).float() + 1).mul(127.5).permute(0, 2, 3, 1).cpu().numpy()
                out[i : i + batch_size, *output_window] = quantise(result)[:, *inner_window]
        return out

    def protect(
        self,
        images: Images,
        secret: bytes,
        first: int = 0,  # noqa: ARG002 - one key for all images
        device: str = "cpu",
        on_batch: Callable[[], None] = lambda: None,
    ) -> Images:
        return self.encrypt(images, self.key(secret, *images.shape[1:3]).to(device), on_batch)


def build_provenance(
    scheme: NetworkScheme[Any],
    secret: bytes,
    data: ImageDataset,
    context: RunContext,
    classifier: nn.Module | None = None,
) -> dict[str, Any]:
    """The part of the provenance that all trained keys share: results on test images, seed, device, versions.

    classifier: of plain images, on `context.device`; None leaves the accuracies out.
    """
    import torch

    from unveil.models.core.version import package_versions
    from unveil.models.metrics.ssim import ssim
    from unveil.models.training.classifier import accuracy

    plain, labels = (
        pad(data.test[:_PROVENANCE_TEST_IMAGES], scheme.size_multiple),
        data.test_labels[:_PROVENANCE_TEST_IMAGES],
    )
    test: dict[str, Any] | None = None
    if len(plain):
        key = scheme.key(secret, *plain.shape[1:3]).to(context.device)
        protected = scheme.encrypt(plain, key, lambda: context.report(1.0, "protecting test images"))
        test = {"images": len(plain), "ssim": float(ssim(plain, protected).mean())}
        if classifier is not None:
            test["accuracy_plain"] = accuracy(classifier, plain, labels, context)
            test["accuracy_protected"] = accuracy(classifier, protected, labels, context)
    versions = {**package_versions(), "torch": torch.__version__}
    return {"test": test, "seed": context.seed, "device": context.device, "versions": versions}
