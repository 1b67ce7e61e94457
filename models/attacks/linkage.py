"""Linkage: a recogniser fitted to pairs finds which of N originals a ciphertext belongs to, without pixels.

Systems whose reconstructions look safe by SSIM still let their images be linked (FaceLinkGen 2026, SEBA 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.core.cost import training_core_seconds
from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.settings_schema import setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

_MIN_PAIRS = 5
_HELD_OUT_SHARE = 0.2  # of the pairs, which choose between the recognisers
_MAX_HELD_OUT = 300
_BATCH = 256  # images an evaluation step


@dataclass(frozen=True)
class LinkageSettings:
    epochs: int = setting(20, "Passes over the pairs", minimum=1, maximum=1000, stronger="higher")
    batch: int = setting(128, "Pairs per step, each the contrast of the others", minimum=8, maximum=1024)
    rate: float = setting(1e-3, "Highest learning rate", minimum=1e-6, maximum=0.1)
    width: int = setting(48, "First width of the encoders", minimum=4, maximum=256, stronger="higher")
    dimensions: int = setting(128, "Length of the vectors", minimum=8, maximum=1024)


class Recogniser(Protocol):
    def embed_protected(self, protected: Images) -> npt.NDArray[np.float32]:
        """Vectors [N, D] of ciphertexts; similarity is the inner product with those of originals."""

    def embed_plain(self, plain: Images) -> npt.NDArray[np.float32]:
        """Vectors [N, D] of plain images."""


class Linkage(Attack[LinkageSettings]):
    """Fits three recognisers to pairs and takes the one that links held-out pairs best.

    A kernel ridge regression sees through any fixed linear map. The distributions of values see through any order of
    values and blocks, under a key for each image too. A pair of convolutional encoders, trained by contrast, learns
    what else survives.
    """

    name = "linkage"
    title = "Linkage"
    source = "Unveil, after FaceLinkGen (2026)"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    Settings = LinkageSettings
    learning_based = True
    profiles: ClassVar = {"smoke": {"epochs": 1, "width": 4}, "quick": {"epochs": 6, "width": 32}}

    def required_ciphertexts(self) -> int | None:
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:  # noqa: ARG002 - the recognisers take any scheme
        return "any"

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:  # noqa: ARG002
        s = self.settings
        return training_core_seconds(images, s.epochs, height * width, 1 / 600, s.width / 48)

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        from unveil.models.recovery.distribution_recogniser import DistributionRecogniser
        from unveil.models.recovery.linear_recogniser import LinearRecogniser, top1

        pairs = attack_input.pairs
        if pairs is None or len(pairs.plain) < _MIN_PAIRS:
            given = 0 if pairs is None else len(pairs.plain)
            raise AttackFailed(f"at least {_MIN_PAIRS} pairs of plain and protected images are needed; got {given}")
        plain, protected = pairs.plain, pairs.protected
        held_out = min(_MAX_HELD_OUT, max(1, round(_HELD_OUT_SHARE * len(plain))))
        encoders, training_notes = self._train_encoders(plain[:-held_out], protected[:-held_out], context)
        candidates: dict[str, Recogniser] = {
            "linear": LinearRecogniser.fit(plain, protected, held_out),
            "distribution": DistributionRecogniser.fit(plain[:-held_out], protected[:-held_out]),
            "contrastive": encoders,
        }
        rates = {
            name: top1(recogniser.embed_protected(protected[-held_out:]), recogniser.embed_plain(plain[-held_out:]))
            for name, recogniser in candidates.items()
        }
        chosen = max(rates, key=rates.__getitem__)
        queries = candidates[chosen].embed_protected(attack_input.targets)
        embed_plain: Callable[[Images], Any] = candidates[chosen].embed_plain
        listed = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in rates.items())
        return AttackResult(
            similarities=lambda gallery: queries @ embed_plain(gallery).T,
            metrics={"pairs": float(len(plain)), **{f"held_out_{name}": rate for name, rate in rates.items()}},
            notes=(
                f"the {chosen} recogniser was taken: of {held_out} held-out pairs linked: {listed}",
                *training_notes,
            ),
        )

    def _train_encoders(
        self, plain: Images, protected: Images, context: RunContext
    ) -> tuple[Recogniser, tuple[str, ...]]:
        """The trained encoders, and notes on their training."""
        from unveil.models.training.linkage import LinkageTask
        from unveil.models.training.loop import TrainingConfig, cosine, train

        s = self.settings
        config = TrainingConfig(self.name, s.epochs, s.batch, cosine, repr(s))
        task, notes = train(lambda: LinkageTask(s.width, s.dimensions, s.rate), [[protected, plain]], config, context)
        return _Encoders(task.protected, task.plain, context.device), notes


@dataclass(frozen=True)
class _Encoders:
    protected: Any
    plain: Any
    device: str

    def embed_protected(self, protected: Images) -> npt.NDArray[np.float32]:
        return self._embed(self.protected, protected)

    def embed_plain(self, plain: Images) -> npt.NDArray[np.float32]:
        return self._embed(self.plain, plain)

    def _embed(self, network: Any, images: Images) -> npt.NDArray[np.float32]:
        import torch

        from unveil.models.training.loop import to_model_input

        with torch.inference_mode():
            parts = [
                network(to_model_input(torch.from_numpy(np.ascontiguousarray(images[i : i + _BATCH])).to(self.device)))
                for i in range(0, len(images), _BATCH)
            ]
        return np.concatenate([part.float().cpu().numpy() for part in parts])
