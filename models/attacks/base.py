"""The base class of attacks. A new attack is one file beside this one that imports torch inside functions only."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.errors import AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability, ThreatModel
from unveil.models.core.verdict_rules.evidence import Ambiguity
from unveil.models.schemes.base import NoSettings, Scheme

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Plain images uint8 [N, H, W, 3] and their ciphertexts under the attacked key."""

    plain: Images
    protected: Images


@dataclasses.dataclass(frozen=True)
class AttackInput:
    """The input of an attack. Fields that its threat model does not allow are None.

    Ciphertexts are 8-bit views, uint8 [N, H, W, 3]. An attack that takes ciphertexts receives them as the scheme
    returns them, in `targets`, `observed`, `pairs` and from the oracle.
    """

    scheme: Scheme[Any, Any] | None  # the public algorithm and its settings without a key; None: unknown
    targets: Images  # the ciphertexts to reconstruct
    observed: Images  # further ciphertexts under the same key, or under separate keys with `key_per_image`
    public: Images | None = None
    pairs: Pairs | None = None
    oracle: Callable[[Images], Images] | None = None
    labels: npt.NDArray[np.int64] | None = None  # the class of each observed ciphertext
    # the owner's classifier: protected images uint8 [N, H, W, 3] -> probabilities of the classes, float32 [N, classes]
    model: Callable[[Images], npt.NDArray[np.float32]] | None = None
    target_views: Images | None = None  # the 8-bit views of `targets`; None: these are views

    @property
    def images(self) -> Images:
        """The 8-bit views of the targets: reconstructions have their shape, uint8 [N, H, W, 3]."""
        return self.targets if self.target_views is None else self.target_views


class Inverse(Protocol):
    """A recovered map, without reference to the key format of any scheme."""

    def decrypt(self, images: Images) -> Images:
        """Ciphertexts under the attacked key, uint8 [N, H, W, 3] -> plain images."""


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """The result of an attack.

    inverse, key: what the attack recovered, as a map and in the form of the scheme; the key only if the scheme has it.
    ablation: reconstructions from less input as (curve name, x, images of the first targets); each is scored as a point
    of the curve. similarities: instead of reconstructions, of plain images uint8 [G, H, W, 3] with each target, float32
    [targets, G]. metrics: figures of the attack, such as the number of ciphertexts or pairs it used.
    """

    reconstructed: Images | None = None  # an image for each target
    inverse: Inverse | None = None
    key: Any | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    ablation: Sequence[tuple[str, float, Images]] = ()
    similarities: Callable[[Images], npt.NDArray[np.float32]] | None = None
    notes: tuple[str, ...] = ()
    ambiguity: Ambiguity | None = None  # what stays open for all images of the key; scored in the best case
    ambiguity_per_image: bool = False  # it stays open for each image by itself
    assembled_side: int | None = None  # of the blocks that were put together, in pixels; the assembly is scored

    def reconstruct_each(self, targets: Images) -> Images:
        """The reconstructions. Raises AttackFailed unless there is one image for each target."""
        images = self.reconstructed
        if images is None or images.shape != targets.shape or images.dtype != np.uint8:
            raise AttackFailed("the attack did not return one image for each protected image")
        return images


class Attack(ABC, Generic[S]):
    """A method to recover plain images or the key from protected images."""

    name: ClassVar[str]
    title: ClassVar[str]  # the name if a class has none
    source: ClassVar[str] = ""
    threat_model: ThreatModel  # of the class; `submitted` states it in its settings
    Settings: ClassVar[type] = NoSettings
    api_version: ClassVar[int] = 1
    reads_upload: ClassVar[bool] = False  # its result was made elsewhere: it has no code, and no verdict requires it
    learning_based: ClassVar[bool] = False  # trains a network with any settings; must reconstruct the positive control
    runs_first: ClassVar[bool] = False  # cheap, and says what kind of scheme it is: before attacks that assume one
    min_side: ClassVar[int] = 1  # images with a shorter side, in pixels, cannot be attacked
    max_targets: ClassVar[int | None] = None  # of more, it attacks the first
    core_seconds_per_target: ClassVar[float] = 0.0  # estimate for 96x96 on a CPU, where it exceeds milliseconds
    takes: ClassVar[Literal["view", "ciphertext"]] = "view"  # whether it receives 8-bit views or ciphertexts
    paper_name: ClassVar[str | None] = None  # the column in the paper's tables
    paper_position: ClassVar[int] = 0  # among the columns of the paper's tables
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # default settings of each profile

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name

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
        return Capability.PUBLIC_IMAGES in self.threat_model

    def not_applicable_reason(self, scheme: Scheme[Any, Any]) -> str | None:  # noqa: ARG002 - most attacks take every scheme
        """Why this attack does not apply to `scheme`; None if it does."""
        return None

    def assumptions(self, scheme: Scheme[Any, Any]) -> str:
        """What the attack uses of a scheme. On ciphertexts of an unknown scheme it runs once for each such text."""
        return f"{scheme.name} {scheme.settings}"

    def for_controls(self) -> Attack[Any]:
        """The attack that the controls of a cell run."""
        return self

    def control_cache_key(self, scheme: Scheme[Any, Any] | None) -> str:
        """A key for the controls of a learned attack: schemes with the same key share them."""
        return "unknown" if scheme is None else f"{scheme.name} {scheme.settings}"

    def training_core_seconds(self, scheme: Scheme[Any, Any] | None, images: int, height: int, width: int) -> float:  # noqa: ARG002
        """Estimated core seconds of one training on this number of images of this size; 0 if it trains no network."""
        return 0.0

    @abstractmethod
    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:
        """Reconstruct `attack_input.targets`. Raises AttackFailed, Cancelled."""
