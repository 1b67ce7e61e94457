"""The base class of attacks. A new attack is one file beside this one that imports torch inside functions only."""

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
    """The input of an attack. Fields that its threat model does not allow are None."""

    scheme: Scheme[Any, Any] | None  # the public algorithm and its settings without a key; None: unknown
    targets: Images  # the ciphertexts to reconstruct
    observed: Images  # further ciphertexts under the same key, or under separate keys with `key_per_image`
    public: Images | None = None
    pairs: Pairs | None = None
    oracle: Callable[[Images], Images] | None = None


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """The result of an attack.

    ablation: reconstructions from less input as (curve name, x, images of the first targets); each is scored as a point
    of the curve. metrics: figures of the attack, such as the number of ciphertexts or pairs it used.
    """

    reconstructed: Images | None = None  # of the shape of `targets`
    key: Any | None = None  # the recovered key in the form of the scheme
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ablation: Sequence[tuple[str, float, Images]] = ()
    notes: tuple[str, ...] = ()


class Attack(ABC, Generic[S]):
    """A method to recover plain images or the key from protected images."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    threat_model: ClassVar[ThreatModel]
    Settings: ClassVar[type]
    learning_based: ClassVar[bool] = False  # trains a network with any settings; must reconstruct the positive control
    paper_name: ClassVar[str | None] = None  # the column in the paper's tables
    paper_position: ClassVar[int] = 0  # among the columns of the paper's tables
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # default settings of each profile

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def required_ciphertexts(self) -> int | None:
        """The number of observed ciphertexts or pairs that the attack uses; None: all."""
        return 0

    def trains_network(self) -> bool:
        """Whether it trains a network with these settings; then it attacks one key, and cells share its controls."""
        return self.learning_based

    def needs_public_images(self) -> bool:
        """Whether it needs unpaired plain images of the attacker."""
        return self.threat_model is ThreatModel.PUBLIC_IMAGES

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:  # noqa: ARG002 - most attacks take every scheme
        """Why this attack does not apply to `scheme`; None if it does."""
        return None

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        """A key for the controls of a learned attack: schemes with the same key share them."""
        return "unknown" if scheme is None else f"{scheme.name} {scheme.settings}"

    @abstractmethod
    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        """Reconstruct `attack_input.targets`. Raises AttackFailed, Cancelled."""
