"""Estimated cost of an evaluation on a CPU, in core seconds: pure functions of its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unveil.models import catalog
from unveil.models.catalog import DatasetInfo
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, Profile

if TYPE_CHECKING:
    from unveil.app.evaluations.planning import PlannedCell, PlannedKey

_CELL_SECONDS = 1.5  # loading, and what does not grow with the images
_SECONDS_PER_TARGET = 0.005  # scores and most attacks without training, for one key and 96x96
_REFERENCE_PIXELS = 96 * 96
_CONTROL_TRAININGS = 2
_UTILITY_SECONDS_PER_IMAGE: Mapping[Profile, float] = {"smoke": 0.01, "quick": 0.03, "paper": 6.0}


@dataclass(frozen=True)
class CostEstimate:
    cells: tuple[float, ...] = ()  # in the order of the plan
    keys: Mapping[str, float] = field(default_factory=dict)  # by id

    @property
    def core_seconds(self) -> float:
        return sum(self.cells) + sum(self.keys.values())


def estimate_cost(
    cells: Sequence[PlannedCell],
    planned_keys: Sequence[PlannedKey],
    images_of: Mapping[str | None, DatasetInfo],
    profile: Profile,
    keys: int,
    public_images: int | None,
) -> CostEstimate:
    """images_of: of each uploaded dataset of protected images by id, and under None those of the plain dataset."""
    trained_controls: set[tuple[str, str]] = set()
    costs = []
    for cell in cells:
        images = _limit(images_of[cell.scheme.get("dataset")], profile)
        if cell.not_applicable_reason is not None:
            costs.append(0.0)
        elif cell.attack["name"] == catalog.UTILITY:
            costs.append(_CELL_SECONDS + images.train * _UTILITY_SECONDS_PER_IMAGE[profile])
        else:
            costs.append(_cell_core_seconds(cell, images, profile, keys, public_images, trained_controls))
    plain = images_of.get(None)
    trainings = {
        key.id: key.scheme.training_core_seconds(plain.train, plain.height, plain.width) if plain else 0.0
        for key in planned_keys
    }
    return CostEstimate(tuple(costs), trainings)


def _cell_core_seconds(
    cell: PlannedCell,
    images: DatasetInfo,
    profile: Profile,
    keys: int,
    public_images: int | None,
    trained_controls: set[tuple[str, str]],
) -> float:
    attack = catalog.make_attack(*_name_and_settings(cell.attack), profile)
    scheme = None
    if cell.scheme["name"] != catalog.EXTERNAL:
        scheme = catalog.make_scheme(*_name_and_settings(cell.scheme), profile)
    pixels = images.height * images.width
    targets = min(images.test, attack.max_targets or images.test)
    seconds_per_target = (_SECONDS_PER_TARGET + attack.core_seconds_per_target) * pixels / _REFERENCE_PIXELS
    once = _CELL_SECONDS + targets * keys * seconds_per_target
    training_images = images.train
    if attack.needs_public_images() and public_images is None:
        training_images //= 2  # the attacker gets the other half
    training = attack.training_core_seconds(scheme, training_images, images.height, images.width)
    control = (repr(attack.settings), f"{attack.name} {attack.control_cache_key(scheme)} {images}")
    trainings = 1 if control in trained_controls else 1 + _CONTROL_TRAININGS
    trained_controls.add(control)
    return once + trainings * training


def _limit(images: DatasetInfo, profile: Profile) -> DatasetInfo:
    train, test = PROFILE_IMAGE_COUNTS[profile]
    return replace(images, train=min(images.train, train or images.train), test=min(images.test, test or images.test))


def _name_and_settings(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    not_settings = ("name", "key_id", "dataset", "dataset_name", "added")
    return entry["name"], {name: value for name, value in entry.items() if name not in not_settings}
