"""The structure of a scheme: what it does to an image under any key, as attacks need to know it.

A scheme declares one of these, or none. Attacks ask for the structure and never for the class or name of a scheme.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeGuard

Unit = Literal["nibble", "value", "pixel"]  # half a byte; one channel of a pixel; the channels of a pixel together


@dataclass(frozen=True)
class PixelMap:
    """Pixels stay in place. The channels of each are inverted (255 - p) or not and permuted, by a map of its own."""


@dataclass(frozen=True)
class BlockMap:
    """In every block of `side` x `side` pixels, units move to other positions of the block and are inverted or not.

    shared: one map serves all blocks. blocks_move: the blocks of an image are permuted as well. units_move: False if
    units stay in place; inverts: False if none is inverted.
    """

    side: int
    unit: Unit
    shared: bool = True
    blocks_move: bool = False
    units_move: bool = True
    inverts: bool = True


@dataclass(frozen=True)
class BlockSubstitution:
    """At some places of every block of `side` x `side` pixels, a table replaces the values.

    The values at the other places and the table are scaled by one factor, so that 8-bit images hold both: clear values
    fill the lowest quarter of the range.
    """

    side: int


@dataclass(frozen=True)
class BlockScramble:
    """Blocks of `side` x `side` pixels move; each is turned, mirrored, inverted or not, and its channels permuted."""

    side: int


@dataclass(frozen=True)
class PositionPermutation:
    """Units move to any other position of the image and are inverted or not."""

    unit: Unit


@dataclass(frozen=True)
class LinearMap:
    """A fixed linear map, rounded, of every block of `side` x `side` pixels; of the whole image if `side` is None."""

    side: int | None = None


@dataclass(frozen=True)
class NetworkMap:
    """A trained network: one forward pass protects an image."""


@dataclass(frozen=True)
class Mixture:
    """Encodings [T, H, W, 3] of an image: weighted sums of it, other private images and public images, signs random.

    private, public: how many images of each kind an encoding holds. mean, deviation: of the channels on the scale 0..1,
    by which images are normalised before they are mixed.
    """

    private: int
    public: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


@dataclass(frozen=True)
class ChannelSubset:
    """Frequency channels of an image, those of one of `subsets` in one of `orders`: both are drawn for each image.

    A ciphertext [3 n, H, W] holds n channels of Y, then of Cb, then of Cr, as `unveil.models.core.frequency_channels`
    numbers them. subsets: of channels 0..63, n each; orders: permutations of 0..n-1. Both are public.
    """

    subsets: tuple[tuple[int, ...], ...]
    orders: tuple[tuple[int, ...], ...]


Structure = (
    PixelMap
    | BlockMap
    | BlockSubstitution
    | BlockScramble
    | PositionPermutation
    | LinearMap
    | NetworkMap
    | Mixture
    | ChannelSubset
)


@dataclass(frozen=True)
class CiphertextFormat:
    """What `encrypt` returns for each image: an array of `dtype` with values from `low` to `high`.

    shape: of one ciphertext, where "H" and "W" are the sides of the image, such as (50, "H", "W", 3); None: that of the
    image, ("H", "W", 3).
    """

    dtype: str = "uint8"
    low: float = 0
    high: float = 255
    shape: tuple[int | Literal["H", "W"], ...] | None = None

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """The shape of the ciphertext of one image of this size."""
        sides = {"H": height, "W": width}
        return tuple(side if isinstance(side, int) else sides[side] for side in self.shape or ("H", "W", 3))


def moves_nibbles(structure: Structure | None) -> bool:
    """Whether every nibble of a ciphertext is one nibble of the plain image, inverted or not."""
    return isinstance(structure, PixelMap | BlockMap | BlockScramble | PositionPermutation)


def is_fixed_block_map(structure: Structure | None, side: int) -> bool:
    """Whether one map of `side` x `side` pixels moves the units of all blocks, and blocks stay in place."""
    return isinstance(structure, BlockMap) and structure.side == side and structure.shared and not structure.blocks_move


def is_fixed_nibble_map(structure: Structure | None, side: int) -> bool:
    """Whether it is a fixed block map whose units are nibbles."""
    return isinstance(structure, BlockMap) and structure.unit == "nibble" and is_fixed_block_map(structure, side)


def is_value_map(structure: Structure | None) -> TypeGuard[BlockMap]:
    """Whether one map moves or inverts whole values in all blocks, which may move as well."""
    return isinstance(structure, BlockMap) and structure.unit != "nibble" and structure.shared


def is_moved_value_map(structure: Structure | None) -> TypeGuard[BlockMap]:
    """Whether it is a value map and blocks move."""
    return is_value_map(structure) and structure.blocks_move


def is_fixed_value_map(structure: Structure | None) -> TypeGuard[BlockMap]:
    """Whether it is a value map and blocks stay in place."""
    return is_value_map(structure) and not structure.blocks_move
