"""Inverse transformation network attack (paper section 3.3): learn the inverse of a scheme from pairs [P]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unveil.models.attacks.base import Attack, AttackInput, AttackResult, Pairs
from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import LinearMap, PixelMap, is_fixed_block_map
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.tanaka import BLOCK

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ItnSettings:
    """The defaults are the paper's as far as it states them [P]; `each_pixel` is an addition [M]."""

    epochs: int | None = setting(
        None,
        "Passes over the pairs; null: 70 for pixelwise, 300 for others",
        minimum=1,
        maximum=100_000,
        stronger="higher",
    )
    batch: int = setting(128, "Pairs per step", minimum=1, maximum=4096)
    rate: float = setting(
        0.1, "Learning rate, divided by 10 after 4/7 and 6/7 (pixelwise), or 1/2 and 3/4", minimum=1e-6, maximum=100
    )
    each_pixel: bool = setting(
        False, "Pixelwise: scale the loss by the number of pixels; the mean hardly changes the weights of one pixel"
    )
    momentum: float = setting(0.9, "Momentum of SGD", minimum=0, maximum=0.999)
    weight_decay: float = setting(5e-4, "Weight decay of SGD", minimum=0, maximum=1)
    channels: int = setting(
        16,
        "Channels of the locally connected layers; illegible in the paper",
        minimum=1,
        maximum=1024,
        stronger="higher",
    )
    width: int = setting(64, "First width of the U-Net", minimum=1, maximum=256, stronger="higher")
    side: int | None = setting(
        None, "U-Net: side of the random square crops in training; null: whole images", minimum=16, maximum=4096
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "auto: bfloat16 if the device supports it natively", stronger="neutral"
    )


class Itn(Attack[ItnSettings]):
    """Trains a network on pairs of plain and protected images, with an architecture for each kind of scheme."""

    name = "itn"
    title = "Inverse transformation network"
    source = "paper section 3.3"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = ItnSettings
    learning_based = True
    paper_name = "ITN-Attack"
    paper_position = 2
    profiles: ClassVar = {
        "smoke": {"epochs": 1, "batch": 16, "channels": 4, "width": 4},
        "quick": {"epochs": 10, "batch": 32, "each_pixel": True, "channels": 8, "width": 8, "side": 32},
    }

    def required_ciphertexts(self) -> int | None:
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        return architecture_for(scheme)

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:
        s, architecture = self.settings, architecture_for(scheme)
        seconds, relative_width = {
            "pixels": (1 / 685, s.channels / 16), "blocks": (1 / 852, 1.0), "unet": (1 / 6.1, s.width / 64)
        }[architecture]  # fmt: skip
        pixels = s.side**2 if s.side and architecture == "unet" else height * width
        return training_core_seconds(images, self._epochs(architecture), pixels, seconds, relative_width)

    def _epochs(self, architecture: str) -> int:
        return self.settings.epochs or (70 if architecture == "pixels" else 300)

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        import torch
        from torch.nn import functional as F

        from unveil.models.training.loop import TrainingConfig, reconstruct, step_decay, train
        from unveil.models.training.objectives import RegressionTask

        s = self.settings
        pairs = require_pairs(attack_input)
        architecture = architecture_for(attack_input.scheme)
        pixelwise = architecture == "pixels"
        make_network = inverse_network(attack_input, s)

        def make_task() -> RegressionTask:
            network = make_network()
            # The gradient of a sum over pixels is that of the mean times the number of pixels.
            scale = attack_input.targets[0].size // 3 if pixelwise and s.each_pixel else 1
            optimizer = torch.optim.SGD(
                network.parameters(), s.rate * scale, s.momentum, weight_decay=s.weight_decay / scale, fused=True
            )
            return RegressionTask(network, optimizer, F.mse_loss, s.side if architecture == "unet" else None)

        schedule = step_decay(40 / 70, 60 / 70) if pixelwise else step_decay(150 / 300, 225 / 300)
        config = TrainingConfig(self.name, self._epochs(architecture), s.batch, schedule, repr(s), s.precision)
        task, notes = train(make_task, [[pairs.protected, pairs.plain]], config, context)
        return AttackResult(
            reconstructed=reconstruct(task.network, attack_input.targets, context),
            metrics={"pairs": len(pairs.plain)},
            notes=notes,
        )


def require_pairs(attack_input: AttackInput) -> Pairs:
    """The pairs of the input. Raises AttackFailed without pairs."""
    if attack_input.pairs is None or not len(attack_input.pairs.plain):
        raise AttackFailed("pairs of plain and protected images are needed; none were given")
    return attack_input.pairs


def inverse_network(attack_input: AttackInput, s: ItnSettings) -> Callable[[], nn.Module]:
    """A factory of the paper's network for the attacked scheme."""
    from unveil.models.networks.block_network import BlockNetwork
    from unveil.models.networks.locally_connected import PixelwiseInverse
    from unveil.models.networks.unet import UNet

    height, width = attack_input.targets.shape[1:3]
    networks: dict[str, Callable[[], Any]] = {
        "pixels": lambda: PixelwiseInverse(height, width, s.channels),
        "blocks": BlockNetwork,
        "unet": lambda: UNet(s.width),
    }
    return networks[architecture_for(attack_input.scheme)]


def architecture_for(scheme: Scheme[Any, Any] | None) -> Literal["pixels", "blocks", "unet"]:
    """The paper's architecture against the structure of a scheme: the U-Net if it has none or the scheme is unknown."""
    structure = None if scheme is None else scheme.structure
    if isinstance(structure, PixelMap):
        return "pixels"
    return "blocks" if is_fixed_block_map(structure, BLOCK) or structure == LinearMap(BLOCK) else "unet"
