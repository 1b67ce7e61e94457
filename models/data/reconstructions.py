"""Matches an upload of reconstructions with the test images of a dataset, by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import ImageDataset

_MAX_NAMED = 3


class ReconstructionMissing(ValueError):
    """A test image has no reconstruction; the message names it."""


def match_reconstructions(submitted: ImageDataset, data: ImageDataset) -> Images:
    """The submitted image of every test image of `data`, in its order. Further submitted images are ignored.

    Names are compared with their class folders, and without them where file names alone are unique on both sides.
    Raises ReconstructionMissing.
    """
    given, wanted = submitted.names_of_test, data.names_of_test
    if not set(wanted) <= set(given):
        files = _file_names(given), _file_names(wanted)
        if all(len(set(names)) == len(names) for names in files):
            given, wanted = files
    positions = {name: position for position, name in enumerate(given)}
    missing = [name for name in wanted if name not in positions]
    if missing:
        named = ", ".join(repr(name) for name in missing[:_MAX_NAMED])
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        rule = "" if data.test_names else "; this dataset has no file names: name files by position, 0.png, 1.png, ..."
        raise ReconstructionMissing(
            f"no reconstruction of {len(missing)} of {len(wanted)} test images: {named}{more}{rule}"
        )
    return submitted.test[[positions[name] for name in wanted]]


def _file_names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(PurePosixPath(name).name for name in names)
