"""A stronger inverse network than the paper's: it uses the structure of the scheme and trains on SSIM [M]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.itn import require_pairs
from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.structure import LinearMap, PixelMap, is_fixed_block_map
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.tanaka import BLOCK

if TYPE_CHECKING:
    from torch import Tensor, nn

_SSIM_WINDOW = 7  # pixels a side


@dataclass(frozen=True)
class ItnStrongSettings:
    epochs: int = setting(100, "Passes over the pairs", minimum=1, maximum=100_000, stronger="higher")
    batch: int = setting(64, "Pairs per step", minimum=1, maximum=4096)
    rate: float = setting(2e-3, "Highest learning rate of the U-Net (AdamW, cosine)", minimum=1e-6, maximum=1)
    linear_rate: float = setting(
        5e-2, "Highest learning rate of a linear inverse: Tanaka, and pixelwise with one key", minimum=1e-6, maximum=1
    )
    weight_decay: float = setting(1e-3, "Weight decay of AdamW", minimum=0, maximum=1)
    ssim_weight: float = setting(0.5, "Weight of 1 - SSIM relative to the mean absolute error", minimum=0, maximum=100)
    width: int = setting(64, "First width of the U-Net", minimum=1, maximum=256, stronger="higher")
    blocks: int = setting(2, "Residual blocks at each level of the U-Net", minimum=1, maximum=8, stronger="higher")
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "auto: bfloat16 if the device supports it natively", stronger="neutral"
    )


class ItnStrong(Attack[ItnStrongSettings]):
    """Trains an inverse that is linear in nibbles (Tanaka) or pixels (pixelwise, one key), else a residual U-Net."""

    name = "itn-strong"
    title = "Stronger inverse network"
    source = "Unveil"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = ItnStrongSettings
    learning_based = True
    profiles: ClassVar = {
        "smoke": {"epochs": 1, "batch": 16, "width": 4, "blocks": 1},
        "quick": {"epochs": 3, "batch": 32, "width": 16, "blocks": 1},
    }

    def required_ciphertexts(self) -> int | None:
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        return _inverse_structure(scheme)

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:
        s, linear = self.settings, _inverse_structure(scheme) != "images"
        seconds, relative_width = (1 / 735, 1.0) if linear else (s.blocks / 2 / 30, s.width / 64)
        return training_core_seconds(images, s.epochs, height * width, seconds, relative_width)

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        import torch

        from unveil.models.training.loop import TrainingConfig, cosine, reconstruct, train
        from unveil.models.training.objectives import RegressionTask

        s = self.settings
        pairs = require_pairs(attack_input)
        if min(attack_input.targets.shape[1:3]) < _SSIM_WINDOW:
            raise AttackFailed(f"the SSIM in the loss needs images of at least {_SSIM_WINDOW}x{_SSIM_WINDOW}")
        make_network, linear = strong_inverse_network(attack_input, s)

        def make_task() -> RegressionTask:
            network = make_network()
            rate = s.linear_rate if linear else s.rate
            optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=s.weight_decay, fused=True)
            return RegressionTask(
                network, optimizer, lambda reconstructed, plain: distance(reconstructed, plain, s.ssim_weight)
            )

        config = TrainingConfig(self.name, s.epochs, s.batch, cosine, repr(s), s.precision)
        task, notes = train(make_task, [[pairs.protected, pairs.plain]], config, context)
        return AttackResult(
            reconstructed=reconstruct(task.network, attack_input.targets, context),
            metrics={"pairs": len(pairs.plain)},
            notes=notes,
        )


def strong_inverse_network(attack_input: AttackInput, s: ItnStrongSettings) -> tuple[Callable[[], nn.Module], bool]:
    """A factory of the network for the attacked scheme, and whether it is linear."""
    from unveil.models.networks.residual_unet import NibbleLinear, PixelLinear, ResidualUNet

    height, width = attack_input.targets.shape[1:3]
    structure = _inverse_structure(attack_input.scheme)
    if structure == "nibbles":
        return NibbleLinear, True
    if structure == "pixels":
        return (lambda: PixelLinear(height, width)), True
    return (lambda: ResidualUNet(s.width, s.blocks)), False


def _inverse_structure(scheme: Scheme[Any, Any] | None) -> Literal["nibbles", "pixels", "images"]:
    if scheme is None or scheme.key_per_image:
        return "images"
    if isinstance(scheme.structure, PixelMap):
        return "pixels"
    linear = is_fixed_block_map(scheme.structure, BLOCK) or scheme.structure == LinearMap(BLOCK)
    return "nibbles" if linear else "images"


def distance(reconstructed: Tensor, plain: Tensor, ssim_weight: float) -> Any:
    """The mean absolute error plus ssim_weight * (1 - SSIM), for float [N, 3, H, W] in -1..1."""
    from unveil.models.metrics.ssim_loss import ssim_rgb7

    dissimilarity = 1 - ssim_rgb7((reconstructed + 1) * 127.5, (plain + 1) * 127.5).mean()
    return (reconstructed - plain).abs().mean() + ssim_weight * dissimilarity
