"""GAN attack (paper section 3.4): learn the distribution of plain images from unpaired images [P]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.itn import architecture_for
from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unveil.models.training.objectives import GanTask


_POLARITY_SAMPLE_SIZE = 256  # ciphertexts at each polarity check, whose log-odds add up


@dataclass(frozen=True)
class GanSettings:
    """The defaults are those of the paper and its authors' program [P][C]; `pool` to `looks` serve `quick` [M]."""

    epochs: int = setting(100, "Passes over the ciphertexts", minimum=1, maximum=100_000, stronger="higher")
    batch: int = setting(64, "Ciphertexts and public images per step", minimum=1, maximum=4096)
    rate: float = setting(2e-4, "Learning rate of the generator (Adam)", minimum=1e-6, maximum=1)
    unet_rate: float | None = setting(None, "Learning rate of a U-Net generator; null: `rate`", minimum=1e-7, maximum=1)
    discriminator_rate: float | None = setting(
        None, "Learning rate of the discriminator; null: `rate`", minimum=1e-6, maximum=1
    )
    beta1: float = setting(0.5, "beta1 of Adam for both networks", minimum=0, maximum=0.999)
    width: int = setting(
        64, "First width of the U-Net, or of the pixelwise generator", minimum=1, maximum=256, stronger="higher"
    )
    discriminator: int = setting(64, "First width of the discriminator", minimum=1, maximum=512)
    pool: int = setting(3, "Side of the discriminator's last max-pool; 1: no pool", minimum=1, maximum=3)
    side: int | None = setting(
        None, "Side of the random square crops in training; null: whole images", minimum=16, maximum=4096
    )
    linear: bool = setting(False, "Initialise as the linear map to the covariance of public images; false: at random")
    falling: bool = setting(False, "Decay the rates to 0 in the second half; false: constant rates")
    looks: int = setting(
        0,
        "Number of polarity checks, spread evenly over the training: if a classifier of public images finds the output "
        "inverted, the generator's sign is flipped",
        minimum=0,
        maximum=100,
        stronger="higher",
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "auto: bfloat16 if the device supports it natively", stronger="neutral"
    )


class Gan(Attack[GanSettings]):
    """Trains a generator against a discriminator, on ciphertexts and unpaired public images of the same kind.

    A generator trained without pairs can converge to the inverted image; the checks in `looks` let a polarity
    classifier, trained on the public images, decide the sign. A generator with the learning rate of its discriminator
    drifts through tone curves; with a fiftieth of that rate it hardly does, and a U-Net needs a three-hundredth [M].
    Figures: docs/results.md#gan-attack.
    """

    name = "gan"
    title = "GAN"
    source = "paper section 3.4"
    threat_model = ThreatModel.PUBLIC_IMAGES
    Settings = GanSettings
    learning_based = True
    min_side = 16  # of the discriminator
    paper_name = "GAN-Attack"
    paper_position = 3
    profiles: ClassVar = {
        "smoke": {"epochs": 1, "batch": 8, "width": 4, "discriminator": 8},
        "quick": {
            "epochs": 32,
            "batch": 32,
            "rate": 2e-5,
            "unet_rate": 3e-6,
            "discriminator_rate": 1e-3,
            "width": 8,
            "discriminator": 32,
            "pool": 1,
            "side": 32,
            "linear": True,
            "falling": True,
            "looks": 4,
        },
    }

    def required_ciphertexts(self) -> int | None:
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        return architecture_for(scheme)

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:
        s, architecture = self.settings, architecture_for(scheme)
        seconds = {"pixels": 1 / 60, "blocks": 1 / 179, "unet": 1 / 5.9}[architecture]
        relative_width = s.discriminator / 64 if architecture == "blocks" else max(s.width, s.discriminator / 4) / 64
        pixels = s.side**2 if s.side else height * width
        return training_core_seconds(images, s.epochs, pixels, seconds, relative_width)

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        import torch

        from unveil.models.networks.patch_discriminator import MIN_SIDE, PatchDiscriminator
        from unveil.models.networks.unet import UNetGenerator
        from unveil.models.training.loop import (
            TrainingConfig,
            constant,
            linear_decay,
            reconstruct,
            to_model_input,
            train,
        )
        from unveil.models.training.objectives import GanTask

        s = self.settings
        if not len(attack_input.observed) or attack_input.public is None or not len(attack_input.public):
            raise AttackFailed("a GAN needs ciphertexts and unpaired public images; one of the two is missing")
        if min(*attack_input.observed.shape[1:3], *attack_input.public.shape[1:3]) < MIN_SIDE:
            raise AttackFailed(f"the discriminator needs images of at least {MIN_SIDE}x{MIN_SIDE}")
        make_generator = generator_for(attack_input, s)

        def adam(network: nn.Module) -> torch.optim.Optimizer:
            rates = {PatchDiscriminator: s.discriminator_rate, UNetGenerator: s.unet_rate}
            rate = rates.get(type(network))
            # The fused implementation gives the same result faster.
            return torch.optim.Adam(network.parameters(), rate or s.rate, (s.beta1, 0.999), fused=True)

        inputs = (attack_input.observed, attack_input.public)
        polarity_score = polarity_scorer(attack_input, context) if s.looks else None
        sign_check_epochs = {s.epochs * check // s.looks for check in range(1, s.looks + 1)}

        def make_task() -> GanTask:
            generator = make_generator().apply(dcgan_init)
            if s.linear:
                generator.init_linear(
                    *(to_model_input(torch.tensor(images[:_POLARITY_SAMPLE_SIZE])) for images in inputs)
                )
            discriminator = PatchDiscriminator(s.discriminator, s.pool).apply(dcgan_init)
            return GanTask(generator, discriminator, adam, s.side, sign_check_epochs, polarity_score)

        config = TrainingConfig(
            self.name, s.epochs, s.batch, linear_decay if s.falling else constant, repr(s), s.precision
        )
        task, notes = train(make_task, [[images] for images in inputs], config, context)
        return AttackResult(
            reconstructed=reconstruct(task.generator, attack_input.targets, context),
            metrics={"ciphertexts": len(attack_input.observed), "public_images": len(attack_input.public)},
            notes=(*notes, *_polarity_note(task.log_odds)),
        )


def polarity_scorer(attack_input: AttackInput, context: RunContext) -> Callable[[nn.Module], float]:
    """A function of a generator: the log-odds that its outputs for the ciphertexts are not inverted."""
    from unveil.models.training import polarity
    from unveil.models.training.loop import reconstruct

    assert attack_input.public is not None
    network = polarity.fit_polarity_network(attack_input.public, context.scoped("negatives", 0.0, 0.0))
    sample = attack_input.observed[:_POLARITY_SAMPLE_SIZE]
    silent_context = RunContext(device=context.device)  # the training loop reports progress
    return lambda generator: polarity.sum_log_odds(network, reconstruct(generator, sample, silent_context))


def _polarity_note(log_odds: Mapping[int, float]) -> tuple[str, ...]:
    if not log_odds:
        return ()
    history = ", ".join(f"{odds:+.0f} after epoch {epoch}" for epoch, odds in log_odds.items())
    flips = sum(odds < 0 for odds in log_odds.values())
    return (f"log-odds against an inverted output: {history}; sign flips: {flips}",)


def generator_for(attack_input: AttackInput, s: GanSettings) -> Callable[[], Any]:
    """A factory of the paper's generator for the attacked scheme."""
    from unveil.models.networks.block_network import BlockNetwork
    from unveil.models.networks.locally_connected import PixelwiseGenerator
    from unveil.models.networks.unet import UNetGenerator

    generators: dict[str, Callable[[], Any]] = {
        "pixels": partial(PixelwiseGenerator, s.width),
        "blocks": partial(BlockNetwork, output_tanh=True),
        "unet": partial(UNetGenerator, s.width),
    }
    return generators[architecture_for(attack_input.scheme)]


def dcgan_init(module: nn.Module) -> None:
    """Draw weights of convolutions and linear layers from N(0, 0.02), of batch normalisations from N(1, 0.02) [C]."""
    from torch import nn

    if isinstance(module, nn.Conv2d | nn.Linear):
        # Spectral normalisation stores the weight as `original`, whose scale does not matter.
        weight = getattr(module, "parametrizations", {"weight": module})["weight"]
        nn.init.normal_(getattr(weight, "original", module.weight), 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine:
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)
