"""Images of a folder or an archive become a dataset: decoding, one size, splits, and the count of every conversion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from unveil.models.core.images import Images
from unveil.models.data.decoding import DecodeResult, ImageError, decode, decode_exact, inspect
from unveil.models.data.image_dataset import ImageDataset, interleave_classes
from unveil.models.data.layout import LayoutError, Member, is_named_as_image, layout_notes

NO_CHECKSUM_NOTE = "no checksum in the file: overwritten pixel data would go unnoticed"
_MIN_SPLIT_COUNT = 5


class DatasetTooLarge(ValueError):
    """The pixels of the dataset exceed a limit."""


@dataclass
class DatasetReader:
    """Decodes the members of one folder or archive.

    size: the side to which images are cropped and resized; None takes them exactly as they are, and all must have one
    size.
    """

    read: Callable[[Member], bytes]
    size: int | None
    max_pixels: int = 2**28
    max_bytes: int = 2**62
    conversions: Counter[str] = field(default_factory=Counter)

    def read_splits(self, name: str, members: Sequence[Member], seed: int, skipped: Sequence[str] = ()) -> ImageDataset:
        """Decode every image into its split. Raises ImageError naming the file, LayoutError, DatasetTooLarge."""
        train, test = split_members(members, seed)
        classes = tuple(sorted({member.label for member in members}))
        images = self.read_images([*train, *test])
        labels = np.array([classes.index(member.label) for member in (*train, *test)], np.int64)
        cut = len(train)
        notes = (*layout_notes(members, skipped), *self.conversion_notes(len(members)))
        names = tuple(member.name for member in test)
        return ImageDataset(
            name, images[:cut], labels[:cut], images[cut:], labels[cut:], classes, notes=notes, test_names=names
        )

    def read_images(self, members: Sequence[Member]) -> Images:
        """The images in this order, uint8 [N, H, W, 3]."""
        first = self._fit(self._decode(members[0]), count=False)
        if len(members) * first.nbytes > self.max_bytes:
            raise DatasetTooLarge(
                f"{len(members)} images of {first.shape[1]}x{first.shape[0]} are more than {self.max_bytes} bytes of "
                "pixels; upload fewer or smaller ones"
            )
        images = np.empty((len(members), *first.shape), np.uint8)
        bits = np.zeros(len(members), np.int64)
        for i, member in enumerate(members):
            decoded = self._decode(member)
            image, bits[i] = self._fit(decoded), decoded.bits or 0
            if image.shape != first.shape:
                raise LayoutError(
                    f"{member.path!r} is {image.shape[1]}x{image.shape[0]} but {members[0].path!r} is "
                    f"{first.shape[1]}x{first.shape[0]}: protected images must share one size"
                )
            images[i] = image
            self.conversions.update(decoded.notes)
            self.conversions[NO_CHECKSUM_NOTE] += not decoded.has_checksum
        self._scale_alike(members, images, bits)
        return images

    def _scale_alike(self, members: Sequence[Member], images: Images, bits: npt.NDArray[np.int64]) -> None:
        """16-bit files of one dataset are scaled by the most bits that one of them needs."""
        most = int(bits.max())
        for i in np.flatnonzero((bits < most) & (bits > 0)).tolist():
            before, decoded = self._decode(members[i]), self._decode(members[i], most)
            self.conversions.subtract(before.notes)
            self.conversions.update(decoded.notes)
            images[i] = self._fit(decoded, count=False)

    def conversion_notes(self, total: int) -> list[str]:
        return [f"{note} ({count} of {total} images)" for note, count in self.conversions.items() if count > 0]

    def _decode(self, member: Member, min_bits: int = 8) -> DecodeResult:
        try:
            file = inspect(self.read(member), max_pixels=self.max_pixels)
            return decode_exact(file) if self.size is None else decode(file, min_bits=min_bits)
        except ImageError as error:
            raise ImageError(error.code, f"{member.path!r} {error.detail}") from None

    def _fit(self, decoded: DecodeResult, count: bool = True) -> Images:
        if self.size is None:
            return decoded.pixels
        height, width, _ = decoded.pixels.shape
        if count and height != width:
            self.conversions["cropped to the central square"] += 1
        if count and min(height, width) != self.size:
            self.conversions[f"resized to {self.size}x{self.size}"] += 1
        return center_crop_resize(decoded.pixels, self.size)


def center_crop_resize(image: Images, size: int) -> Images:
    """Crop one image [H, W, 3] to its central square and resize it to size x size (Lanczos)."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))


def split_members(members: Sequence[Member], seed: int) -> tuple[list[Member], list[Member]]:
    """Training and test images: the splits with classes interleaved, else 80/20 after a shuffle with `seed`."""
    if any(member.split == "test" for member in members):
        train, test = ([member for member in members if member.split == split] for split in ("train", "test"))
        return interleave_members(train), interleave_members(test)
    if len(members) < _MIN_SPLIT_COUNT:
        stray = next((member.path for member in members if not is_named_as_image(member.path)), None)
        if stray is not None:
            raise LayoutError(f"{stray!r} is not an image: remove it")
        raise LayoutError(
            f"an 80/20 split needs at least {_MIN_SPLIT_COUNT} images, or give a test/ folder; "
            f"files found: {len(members)}"
        )
    order = np.random.default_rng(seed).permutation(len(members))
    cut = len(members) - len(members) // 5
    return [members[i] for i in order[:cut]], [members[i] for i in order[cut:]]


def interleave_members(members: Sequence[Member]) -> list[Member]:
    """Members in an order of which any prefix holds the classes in equal numbers."""
    classes = sorted({member.label for member in members})
    return [members[i] for i in interleave_classes([classes.index(member.label) for member in members])]
