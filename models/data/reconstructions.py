"""Matches images of two sources by file name: an original with its reconstruction or its ciphertext."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from unveil.models.core.images import Images
from unveil.models.data.image_dataset import ImageDataset

_MAX_NAMED = 3


class NamesDoNotMatch(ValueError):
    """A name is missing, or more than one image has it; the message lists the names."""


def match_reconstructions(submitted: ImageDataset, data: ImageDataset) -> Images:
    """The submitted image of every test image of `data`, in its order. Further submitted images are ignored.

    Raises NamesDoNotMatch.
    """
    try:
        return submitted.test[match_names(submitted.names_of_test, data.names_of_test, "test image", "reconstruction")]
    except NamesDoNotMatch as error:
        if data.test_names:
            raise
        rule = "this dataset has no file names: name files by position, 0.png, 1.png, ..."
        raise NamesDoNotMatch(f"{error}; {rule}") from None


def match_names(given: Sequence[str], wanted: Sequence[str], wanted_noun: str, given_noun: str) -> list[int]:
    """The position in `given` of every wanted name.

    Names are compared with their folders, and without them where file names alone are unique on both sides. The nouns
    are those of errors. Raises NamesDoNotMatch.
    """
    if not set(wanted) <= set(given):
        files = _file_names(given), _file_names(wanted)
        if all(len(set(names)) == len(names) for names in files):
            given, wanted = files
    positions = {name: position for position, name in enumerate(given)}
    missing = [name for name in wanted if name not in positions]
    if missing:
        raise NamesDoNotMatch(f"no {given_noun} of {len(missing)} of {len(wanted)} {wanted_noun}s: {_list(missing)}")
    for names, noun in ((given, given_noun), (wanted, wanted_noun)):
        counts = Counter(names)
        duplicates = [name for name in dict.fromkeys(wanted) if counts[name] > 1]
        if duplicates:
            raise NamesDoNotMatch(f"more than one {noun} has the name {_list(duplicates)}; rename the files")
    return [positions[name] for name in wanted]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(repr(name) for name in names[:_MAX_NAMED]) + more


def _file_names(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(PurePosixPath(name).name for name in names)
