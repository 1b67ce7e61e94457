"""Simulated pairs: the attacker draws keys of his own, encrypts public photographs and learns to read what survives.

A new key for every image does not help pixelwise encryption: whatever the key, each pixel keeps its three magnitudes
|p - 127.5| (SCIENCE section 4, "Different keys") [M]. A network trained once on public photographs gives each channel's
sign and order back; its weights come with the product (`models/weights/sign_unet.safetensors`, made by
`models.networks.train_sign_unet`), so an audit needs no training. Numbers: docs/results/different-keys.md.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images, check_images, quantise
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.core.tiling import tiles
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.models.networks.sign_unet import SignUNet


_TILE_SIDE, _TILE_MARGIN = 512, 64  # larger images are read in tiles, each with this much context on every side
_MAX_PIXELS_PER_BATCH = 400_000  # at a time: about 1 kB each


@dataclass(frozen=True)
class SimulatedPairsSettings:
    weights: Literal["shipped", "tune", "train"] = setting(
        "shipped", "The weights of the product; the same, tuned on the public images; or trained on those alone"
    )
    readout: Literal["expected", "likeliest"] = setting(
        "expected", "A channel's mean over its six possible values, or the most probable of them"
    )
    mirrored: bool = setting(True, "Average with the reading of the mirrored image")
    epochs: int = setting(30, "Passes over the public images, where it trains", minimum=1, maximum=1000)
    batch: int = setting(32, "Images a step", minimum=1, maximum=1024)
    rate: float = setting(1.5e-3, "Highest learning rate (a third of it when tuning)", minimum=1e-6, maximum=0.1)


def reconstruct(network: SignUNet, images: Images, *, readout: str = "expected", mirrored: bool = True) -> Images:
    """Ciphertexts under any keys, uint8 [N, H, W, 3] of any size -> reconstructions of the same shape."""
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

    height, width = images.shape[1:3]
    device = next(network.parameters()).device
    with torch.inference_mode():
        padded = torch.from_numpy(np.ascontiguousarray(pad(images, sign_unet.SIZE_MULTIPLE))).to(device)
        magnitudes = sign_unet.sorted_magnitudes(padded.permute(0, 3, 1, 2))
        logits = network(magnitudes).log_softmax(2)
        if mirrored:
            logits += network(magnitudes.flip(3)).log_softmax(2).flip(4)
            logits /= 2
        decode_logits = sign_unet.posterior_mean_image if readout == "expected" else sign_unet.map_image
        result: Tensor = decode_logits(logits, magnitudes)
    return quantise(result.permute(0, 2, 3, 1)[:, :height, :width].cpu().numpy())


class SimulatedPairs(Attack[SimulatedPairsSettings]):
    """A network trained on public photographs under keys of the attacker's own reads ciphertexts under any key."""

    name = "simulated-pairs"
    title = "Simulated pairs"
    source = "Unveil"
    threat_model = ThreatModel.PUBLIC_IMAGES
    Settings = SimulatedPairsSettings
    profiles: ClassVar = {"smoke": {"epochs": 1}, "quick": {"epochs": 5}}

    def trains_network(self) -> bool:
        return self.settings.weights != "shipped"

    def needs_public_images(self) -> bool:
        return self.trains_network()  # the product's weights were trained on public photographs before

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:
        if scheme.name != "pixelwise":
            return "reads the magnitudes that pixel-wise encryption leaves in place; other schemes move or mix them"
        return None

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.networks.sign_unet import load_network

        s = self.settings
        network = (
            self._train_once(attack_input, context) if self.trains_network() else load_network(device=context.device)
        )
        images = reconstruct(network, attack_input.targets, readout=s.readout, mirrored=s.mirrored)
        return AttackResult(reconstructed=images)

    def _train_once(self, attack_input: AttackInput, context: RunContext) -> SignUNet:
        """What it learns, no key or ciphertext changes: once for the targets, their controls and further cells."""
        from unveil.models.core import serialization
        from unveil.models.networks.sign_unet import SignUNet

        if attack_input.public is None or not len(attack_input.public):
            raise AttackFailed("training needs public images; none were given")
        public = np.ascontiguousarray(attack_input.public)
        s = self.settings
        description = (
            f"{s.weights} {s.epochs} {s.batch} {s.rate} {public.shape} {zlib.crc32(public.data)} {context.seed}"
        )
        name = f"sign-unet/{hashlib.sha256(description.encode()).hexdigest()[:32]}"
        network = SignUNet()
        serialization.load_into(
            network, context.memoize(name, lambda: serialization.dump(self._train(public, context)))
        )
        return network.to(context.device).eval()

    def _train(self, public: Images, context: RunContext) -> SignUNet:
        import torch

        from unveil.models.core.images import pad
        from unveil.models.networks.sign_unet import SIZE_MULTIPLE, load_network
        from unveil.models.training.sign_network import TrainSettings, train

        s = self.settings
        photographs = torch.from_numpy(pad(public, SIZE_MULTIPLE)).permute(0, 3, 1, 2).contiguous()
        steps = max(1, s.epochs * len(photographs) // s.batch)
        tuning = s.weights == "tune"

        def on_log(step: int, nll: float, ssim: float) -> None:
            context.report(step / steps, "training")
            context.metric("nll", step, nll)
            context.metric("ssim", step, ssim)

        return train(
            photographs,
            TrainSettings(steps=steps, batch=s.batch, rate=s.rate / 3 if tuning else s.rate, seed=context.seed),
            initial_network=load_network() if tuning else None,
            store=context.checkpoints,
            name=f"sign_unet-{context.seed}.ckpt",
            device=context.device,
            tell=on_log,
        )
