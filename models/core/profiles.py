"""Profiles: named sizes of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Profile = Literal["smoke", "quick", "paper"]

PROFILES: tuple[Profile, ...] = get_args(Profile)

# The number of training and test images that a profile takes; None: all.
PROFILE_IMAGE_COUNTS: Mapping[Profile, tuple[int | None, int | None]] = {
    "smoke": (64, 32),
    "quick": (2000, 500),
    "paper": (None, None),
}

PROFILE_KEYS = 3  # independent keys that every profile draws for a keyed scheme


def profile_image_counts(profile: Profile) -> dict[str, int | None]:
    """The image counts of a profile by name, as results record them: they set n, the gallery and chance."""
    training, test = PROFILE_IMAGE_COUNTS[profile]
    return {"training_images": training, "test_images": test}
