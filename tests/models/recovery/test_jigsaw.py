"""Single scrambled images put together like puzzles."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.core.blocks import from_blocks, to_blocks
from unveil.models.core.images import Images
from unveil.models.data.sample import load_photograph
from unveil.models.evaluation.assembly import compare_assembly
from unveil.models.recovery.jigsaw import MAX_BLOCKS, assemble
from unveil.models.schemes.block_inverse import (
    SYMMETRIES,
    apply_symmetries,
    apply_symmetry,
    permute_channels,
)
from unveil.models.schemes.pixelwise import ORDERS


def scramble(image: Images, side: int, rng: np.random.Generator) -> Images:
    """Move, turn, mirror, invert and recolour every block at random."""
    blocks = to_blocks(image[None], side)
    count = blocks.shape[1]
    blocks = apply_symmetries(blocks, rng.integers(0, SYMMETRIES, count))
    blocks = blocks ^ (rng.integers(0, 2, count) * 255).astype(np.uint8)[:, None, None, None]
    blocks = permute_channels(blocks, ORDERS[rng.integers(0, 6, count)])
    return from_blocks(blocks[:, rng.permutation(count)], image[None].shape)[0]


def solve(image: Images, side: int, seed: int = 0) -> Images:
    scrambled = scramble(image, side, np.random.default_rng(seed))
    return assemble(scrambled, side).decrypt(scrambled[None])[0]


def is_solved(image: Images, found: Images) -> bool:
    """Up to one rotation, mirroring, inversion and channel order."""
    return any(
        np.array_equal(apply_symmetry(each, symmetry)[..., order], image)
        for symmetry in range(SYMMETRIES)
        for each in (found, 255 - found)
        for order in ORDERS.astype(np.intp)
    )


@pytest.mark.parametrize(("shape", "side"), [((96, 96), 32), ((128, 192), 32), ((192, 128), 64)])
def test_large_blocks_of_one_image_are_put_together(shape, side):
    image = load_photograph("chelsea.png")[: shape[0], : shape[1]]
    assert is_solved(image, solve(image, side))


def test_an_image_that_is_not_scrambled_stays_whole():
    image = photographs(1)[0]
    assert is_solved(image, assemble(image, 32).decrypt(image[None])[0])


def test_noise_has_no_layout():
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    found = compare_assembly(noise[None], solve(noise, 16)[None], 16)
    assert found.neighbour[0] < 0.3


@pytest.mark.parametrize("shape", [(8, 8), (8, 16), (16, 8), (8, 40), (24, 24)])
def test_every_block_is_used_once(shape):
    image = photographs(1)[0, : shape[0], : shape[1]]
    inverse = assemble(image, 8)
    assert inverse.blocks.shape == (shape[0] // 8, shape[1] // 8)
    assert (np.sort(inverse.blocks, axis=None) == np.arange(inverse.blocks.size)).all()


def test_flat_images_and_too_many_blocks():
    flat = np.full((32, 32, 3), 9, np.uint8)
    assert (assemble(flat, 8).blocks.shape) == (4, 4)
    with pytest.raises(ValueError, match=f"at most {MAX_BLOCKS} blocks"):
        assemble(np.zeros((8, 8 * MAX_BLOCKS + 8, 3), np.uint8), 8)
