"""The classifiers that measure utility: their settings by profile and by scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unveil.models.core.profiles import Profile
from unveil.models.core.structure import is_fixed_block_map
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.tanaka import BLOCK
from unveil.models.training.classifier import ClassifierSettings

# The plain classifier of natural96's ten classes must reach 45 % in `quick`.
CLASSIFIERS: Mapping[Profile, ClassifierSettings] = {
    "smoke": ClassifierSettings(width=4, shrink=4, by="channels", padding=None, epochs=2, batch=16, schedule="cosine"),
    "quick": ClassifierSettings(width=16, shrink=4, by="channels", padding=None, epochs=6, batch=32, schedule="cosine"),
    "paper": ClassifierSettings(by="channels", padding=None),
}
ADAPTATION_WIDTH: Mapping[Profile, int] = {"smoke": 32, "quick": 128, "paper": 512}  # Tanaka's is 512


def classifier_for(scheme: Scheme[Any, Any] | None, profile: Profile) -> ClassifierSettings:
    """The classifier for a scheme's images: Tanaka's adaptation network comes first where one map serves all blocks."""
    adapted = scheme is not None and is_fixed_block_map(scheme.structure, BLOCK)
    return replace(CLASSIFIERS[profile], adaptation=ADAPTATION_WIDTH[profile] if adapted else 0)
