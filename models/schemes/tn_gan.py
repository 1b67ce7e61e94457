"""TN-GAN (paper section 2.3): a CycleGAN generator from plain images to a protected domain [P][R]."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unveil.models.core.cost import training_core_seconds
from unveil.models.core.images import pad
from unveil.models.core.settings_schema import setting
from unveil.models.schemes.base import PaperRow, Scheme, TrainedKey, seed_secret
from unveil.models.schemes.network import NetworkScheme, build_provenance
from unveil.models.schemes.pixelwise import Pixelwise, PixelwiseSettings
from unveil.models.schemes.tanaka import Tanaka, TanakaSettings

if TYPE_CHECKING:
    from torch import nn

    from unveil.models.core.run_context import RunContext
    from unveil.models.data.image_dataset import ImageDataset

_MIN_SIDE = 24  # pixels a side: the smallest input of the discriminator


@dataclass(frozen=True)
class TnGanSettings:
    """The defaults are CycleGAN's [R]; the paper states none."""

    domain: Literal["pixelwise-different", "pixelwise-same", "tanaka"] = setting(
        "pixelwise-different", "The protected domain: ciphertexts of other images under this scheme"
    )
    images: int | None = setting(
        None, "Training images, of which half are encrypted; null: all", minimum=2, maximum=1_000_000
    )
    width: int = setting(64, "First width of the generators", minimum=1, maximum=256)
    blocks: int = setting(6, "Residual blocks of the generators", minimum=1, maximum=32)
    discriminator: int = setting(64, "First width of the discriminators", minimum=1, maximum=256)
    cycle: float = setting(10.0, "Weight of the cycle-consistency loss", minimum=0, maximum=1000)
    epochs: int = setting(
        200, "Passes over the plain images; the rate decays to 0 in the second half", minimum=1, maximum=100_000
    )
    batch: int = setting(1, "Images of each domain per step", minimum=1, maximum=1024)
    rate: float = setting(2e-4, "Learning rate (Adam)", minimum=1e-6, maximum=1)
    beta1: float = setting(0.5, "beta1 of Adam", minimum=0, maximum=0.999)
    side: int | None = setting(
        None, "Side of the random training crops; null: whole images", minimum=_MIN_SIDE, maximum=4096
    )
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "auto: bfloat16 if the device supports it natively")


class TnGan(NetworkScheme[TnGanSettings]):
    """A generator, trained without pairs, transforms plain images so that they look like ciphertexts of other images.

    A second generator learns the inverse, so protected images keep the information for it. Half of the training images
    are plain, the other half encrypted: no image occurs in both domains.
    """

    name = "tn-gan"
    title = "TN-GAN"
    source = "Sirichotedumrong, Kiya 2020: paper section 2.3; details reconstructed after CycleGAN (Zhu et al. 2017)"
    Settings = TnGanSettings
    paper_name = "TN-GAN"
    paper_position = 4
    tile_margin = 32  # its instance normalisation makes the tiles of a large image independent
    min_side = 16
    profiles: ClassVar = {
        "smoke": {"images": 64, "width": 4, "blocks": 1, "discriminator": 4, "epochs": 1, "batch": 8, "side": 24},
        "quick": {
            "images": 2000,
            "width": 16,
            "blocks": 3,
            "discriminator": 16,
            "epochs": 6,
            "batch": 8,
            "side": 32,
        },
    }

    @property
    def size_multiple(self) -> int:
        return 4  # two halvings; a constant, because the catalog imports no torch

    @property
    def paper(self) -> PaperRow:
        return PaperRow(
            {"fr": 0.1093, "itn": 0.7369, "gan": 0.0956}, {"fr": True, "itn": False, "gan": True}, cost="High"
        )

    def build_network(self) -> nn.Module:
        from unveil.models.networks.resnet_generator import ResNetGenerator

        return ResNetGenerator(self.settings.width, self.settings.blocks)

    def untrainable_reason(self, count: int, height: int, width: int, classes: int) -> str | None:  # noqa: ARG002
        if count < 2:
            return f"TN-GAN needs at least two training images, one plain and one encrypted; there are {count}"
        if min(height, width) < _MIN_SIDE:
            return f"its discriminator needs images of at least {_MIN_SIDE}x{_MIN_SIDE}; these are {width}x{height}"
        return None

    def training_core_seconds(self, images: int, height: int, width: int) -> float:
        s = self.settings
        plain_images = min(images, s.images or images) // 2
        pixels = s.side**2 if s.side else height * width
        return training_core_seconds(plain_images, s.epochs, pixels, s.blocks / 6 / 1.5, s.width / 64)

    def train(self, data: ImageDataset, context: RunContext) -> TrainedKey:
        import torch

        from unveil.models.core.errors import AttackFailed
        from unveil.models.networks.resnet_generator import PatchGan, cyclegan_init
        from unveil.models.training.cyclegan import CycleGanTask
        from unveil.models.training.loop import TrainingConfig, linear_decay, train

        s, started_at = self.settings, time.monotonic()
        images = pad(data.train[: s.images], self.size_multiple)
        reason = self.untrainable_reason(len(images), images.shape[1], images.shape[2], len(data.classes))
        if reason:
            raise AttackFailed(reason)
        plain, ciphertext_sources = images[0::2], images[1::2]
        protected = self._domain_scheme().protect(
            ciphertext_sources, seed_secret(context.seed.to_bytes(32, "big", signed=True))
        )
        final_metrics: dict[str, float] = {}

        def metric(name: str, step: int, value: float) -> None:
            final_metrics[name] = round(value, 4)
            context.metric(name, step, value)

        def make_task() -> CycleGanTask:
            return CycleGanTask(
                lambda: self.build_network().apply(cyclegan_init),
                lambda: PatchGan(s.discriminator).apply(cyclegan_init),
                lambda parameters: torch.optim.Adam(parameters, s.rate, (s.beta1, 0.999), fused=True),
                cycle_weight=s.cycle,
                side=s.side,
                multiple=self.size_multiple,
            )

        config = TrainingConfig(self.name, s.epochs, s.batch, linear_decay, repr(s), s.precision)
        task, notes = train(make_task, [[plain], [protected]], config, replace(context, metric=metric))
        secret = self.key_to_secret(task.encrypt_net)
        return TrainedKey(secret, {
            "data": data.name, "images": {"plain": len(plain), "encrypted": len(ciphertext_sources)},
            "settings": vars(s), "reached": final_metrics, **build_provenance(self, secret, data, context),
            "seconds": round(time.monotonic() - started_at, 1), "notes": [*notes, *data.notes],
        })  # fmt: skip

    def _domain_scheme(self) -> Scheme[Any, Any]:
        if self.settings.domain == "tanaka":
            return Tanaka(TanakaSettings())
        return Pixelwise(
            PixelwiseSettings(key_mode="same" if self.settings.domain == "pixelwise-same" else "different")
        )
