"""What an attack is. A new attack is one file beside this one; it imports torch inside functions only."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel
from unveil.models.schemes.base import Scheme

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Plain images and their ciphertexts under the attacked key, both uint8 [N, H, W, 3]."""

    plain: Images
    protected: Images


@dataclasses.dataclass(frozen=True)
class AttackInput:
    """All that an attack sees. What its threat model does not allow is None."""

    scheme: Scheme[Any, Any] | None  # the public algorithm and its parameters, no key; None: unknown
    targets: Images  # the ciphertexts to reconstruct
    observed: Images  # further ciphertexts under the same key (one key each where the scheme draws one an image)
    public: Images | None = None
    pairs: Pairs | None = None
    oracle: Callable[[Images], Images] | None = None


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What an attack brought back.

    sweep: reconstructions with less material, as (curve name, x, images of the first targets); they are scored into
    the curve. numbers: figures of the attack's own, such as the ciphertexts or pairs it used.
    """

    reconstructed: Images | None = None  # as `targets`
    key: Any | None = None  # a recovered key, in the scheme's own form
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ablation: Sequence[tuple[str, float, Images]] = ()
    notes: tuple[str, ...] = ()


class Attack(ABC, Generic[S]):
    """A way to see what a scheme hides."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    threat_model: ClassVar[ThreatModel]
    Settings: ClassVar[type]
    learning_based: ClassVar[bool] = False  # trains a network, whatever its settings, and must see through a negative
    paper_name: ClassVar[str | None] = None  # its column in the paper's tables
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings that a profile fills in

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def required_ciphertexts(self) -> int | None:
        """How many observed ciphertexts, or pairs, the attack asks for; None: all there are."""
        return 0

    def trains_network(self) -> bool:
        """Whether it trains a network with these settings: then one key is attacked, and controls are shared."""
        return self.learning_based

    def needs_public_images(self) -> bool:
        """Whether it can do nothing without unpaired plain images of the attacker's own."""
        return self.threat_model is ThreatModel.PUBLIC_IMAGES

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:  # noqa: ARG002 - most attacks take every scheme
        """Why this attack cannot be run on `scheme`; None when it can."""
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        """What it does against `scheme`: schemes with the same answer share the controls of a learned attack."""
        return "unknown" if scheme is None else f"{scheme.name} {scheme.settings}"

    @abstractmethod
    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        """Reconstruct `material.targets`."""
