"""Simulated pairs: the attacker encrypts public images under random keys and learns to reconstruct their ciphertexts.

A new key for every image does not protect pixel-wise encryption: under any key, each pixel keeps its three magnitudes
|p - 127.5| [M]. A network trained once on public images predicts the sign and the order of the channels. Its weights
are bundled (`models/weights/sign_unet.safetensors`, trained by `unveil.models.tools.train_sign_unet`), so an audit
needs no training. Figures: docs/results.md#different-keys.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, check_images, quantise, tiles
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import PixelMap
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.models.networks.sign_unet import SignUNet


_TILE_SIDE, _TILE_MARGIN = 512, 64  # pixels; larger images are cut into tiles with context
_MAX_PIXELS_PER_BATCH = 400_000  # a pixel needs about 1 kB


@dataclass(frozen=True)
class SimulatedPairsSettings:
    weights: Literal["shipped", "tune", "train"] = setting(
        "shipped",
        "shipped: bundled weights; tune: these, trained further on public images; train: from random weights",
        stronger=("train", "tune", "shipped"),
    )
    readout: Literal["expected", "likeliest"] = setting(
        "expected",
        "expected: the posterior mean of a channel; likeliest: its most probable value",
        stronger=("likeliest", "expected"),
    )
    mirrored: bool = setting(True, "Average the predictions for the image and its mirror image", stronger="higher")
    epochs: int = setting(30, "Passes over the public images (tune, train)", minimum=1, maximum=1000, stronger="higher")
    batch: int = setting(32, "Images per step", minimum=1, maximum=1024)
    rate: float = setting(1.5e-3, "Highest learning rate; tune takes a third of it", minimum=1e-6, maximum=0.1)


def reconstruct(network: SignUNet, images: Images, *, readout: str = "expected", mirrored: bool = True) -> Images:
    """Reconstruct ciphertexts under any keys: uint8 [N, H, W, 3] of any size -> the same shape.

    readout, mirrored: as in the settings.
    """
    check_images(images)
    count, height, width, _ = images.shape
    out = np.empty_like(images)
    for input_window, output_window, inner_window in tiles(height, width, _TILE_SIDE, _TILE_MARGIN):
        tile = images[:, *input_window]
        batch_size = max(1, _MAX_PIXELS_PER_BATCH // (tile.shape[1] * tile.shape[2]))
        for i in range(0, count, batch_size):
            out[i : i + batch_size, *output_window] = _reconstruct_tile(
                network, tile[i : i + batch_size], readout, mirrored
            )[:, *inner_window]
    return out


def _reconstruct_tile(network: SignUNet, images: Images, readout: str, mirrored: bool) -> Images:
    import torch

    from unveil.models.core.images import pad
    from unveil.models.networks import sign_unet
    from unveil.models.training.loop import uses_bf16

    height, width = images.shape[1:3]
    device = next(network.parameters()).device
    # As in training: less than half of the time on a CPU; values change by 0.1, the SSIM by 0.0001 [M].
    bf16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bf16("auto", device))
    with torch.inference_mode(), bf16:
        padded = torch.from_numpy(np.ascontiguousarray(pad(images, sign_unet.SIZE_MULTIPLE))).to(device)
        magnitudes = sign_unet.sorted_magnitudes(padded.permute(0, 3, 1, 2))
        logits = network(magnitudes).float().log_softmax(2)
        if mirrored:
            logits += network(magnitudes.flip(3)).float().log_softmax(2).flip(4)
            logits /= 2
        decode_logits = sign_unet.posterior_mean_image if readout == "expected" else sign_unet.map_image
        result: Tensor = decode_logits(logits, magnitudes)
    return quantise(result.permute(0, 2, 3, 1)[:, :height, :width].cpu().numpy())


def _digest_magnitudes(images: Images) -> bytes:
    """A hash of all that the network sees of the images."""
    magnitudes = np.sort(np.maximum(images, 255 - images), axis=3)
    return hashlib.sha256(f"{images.shape}".encode() + magnitudes.tobytes()).digest()


class SimulatedPairs(Attack[SimulatedPairsSettings]):
    """Reconstructs ciphertexts under any key with a network trained on public images under random keys."""

    name = "simulated-pairs"
    title = "Simulated pairs"
    source = "Unveil"
    threat_model = ThreatModel.PUBLIC_IMAGES
    core_seconds_per_target: ClassVar[float] = 0.015
    Settings = SimulatedPairsSettings
    profiles: ClassVar = {"smoke": {"epochs": 1}, "quick": {"epochs": 5}}

    def __init__(self, settings: SimulatedPairsSettings) -> None:
        super().__init__(settings)
        # No key changes the magnitudes, so the same images under another key, and their negatives, which the positive
        # control attacks, have the reconstructions of the first.
        self._latest: tuple[bytes, Images] | None = None

    def trains_network(self) -> bool:
        return self.settings.weights != "shipped"

    def needs_public_images(self) -> bool:
        return self.trains_network()  # the bundled weights are already trained

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if not isinstance(scheme.structure, PixelMap):
            return "needs the magnitudes of each pixel, which only pixel-wise encryption leaves in place"
        return None

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:  # noqa: ARG002
        return (
            training_core_seconds(images, self.settings.epochs, height * width, 1 / 20)
            if self.trains_network()
            else 0.0
        )

    def assumptions(self, scheme: Scheme[Any, Any]) -> str:  # noqa: ARG002
        return "channels permuted and inverted within pixels"

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.networks.sign_unet import load_network

        s = self.settings
        network = (
            self._train_once(attack_input, context) if self.trains_network() else load_network(device=context.device)
        )
        context.report(1.0, "reconstructing")
        if self.trains_network():
            return AttackResult(reconstruct(network, attack_input.targets, readout=s.readout, mirrored=s.mirrored))
        digest = _digest_magnitudes(attack_input.targets)
        if self._latest is None or self._latest[0] != digest:
            images = reconstruct(network, attack_input.targets, readout=s.readout, mirrored=s.mirrored)
            self._latest = digest, images
        return AttackResult(self._latest[1])

    def _train_once(self, attack_input: AttackInput, context: RunContext) -> SignUNet:
        """Train once for targets, controls and further cells: the training depends on no key and no ciphertext."""
        from unveil.models.core import serialization
        from unveil.models.networks.sign_unet import SignUNet, load_network
        from unveil.models.training.sign_unet import train_sign_unet

        if attack_input.public is None or not len(attack_input.public):
            raise AttackFailed("training needs public images; none were given")
        public = np.ascontiguousarray(attack_input.public)
        s = self.settings
        tuning = s.weights == "tune"
        description = (
            f"{s.weights} {s.epochs} {s.batch} {s.rate} {public.shape} {zlib.crc32(public.data)} {context.seed}"
        )
        name = f"sign-unet/{hashlib.sha256(description.encode()).hexdigest()[:32]}"

        def train() -> bytes:
            rate, initial_network = (s.rate / 3, load_network()) if tuning else (s.rate, None)
            return serialization.dump(train_sign_unet(public, s.epochs, s.batch, rate, context, initial_network))

        network = SignUNet()
        serialization.load_into(network, context.memoize(name, train))
        return network.to(context.device).eval()
