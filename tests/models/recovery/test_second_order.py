"""An orthogonal map of all blocks, found from ciphertexts alone."""

import numpy as np
import pytest

from unveil.models.catalog import make_scheme
from unveil.models.data.sample import sample
from unveil.models.metrics.ssim import ssim
from unveil.models.recovery.block_moments import block_moments, frequency_basis, load_public_moments, to_grid
from unveil.models.recovery.second_order import invert_linear_blocks
from unveil.models.schemes.base import seed_secret

SECRET = seed_secret(bytes(range(32)))
IMAGES = sample().test


def test_other_images_are_read_with_the_map_of_sixteen_ciphertexts():
    scheme = make_scheme("block-orthogonal", {})
    protected = scheme.protect(IMAGES[::3], SECRET)
    inverse, _ = invert_linear_blocks(protected[:16], protected[:16], 4, 4.0)
    np.testing.assert_allclose(inverse.matrix @ inverse.matrix.T, np.eye(48), atol=1e-4)
    plain, read = IMAGES[::3][16:], inverse.decrypt(protected[16:])
    grey = [np.abs(np.corrcoef(a.mean(-1).ravel(), b.mean(-1).ravel())[0, 1]) for a, b in zip(plain, read, strict=True)]
    assert np.median(grey) > 0.9, "crops of textures do not show their colours"
    assert inverse.fit > 0.8


def test_plain_images_under_the_identity_are_read_as_they_are():
    """The positive control: the identity is one of the maps."""
    plain = IMAGES[::3]
    inverse, _ = invert_linear_blocks(plain[:16], plain, 4, 1.0)
    assert inverse.fit > 0.8
    assert ssim(plain[16:, ..., :1].repeat(3, -1), inverse.decrypt(plain[16:])[..., :1].repeat(3, -1)).mean() > 0.5


def test_noise_fits_no_natural_moments():
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    inverse, _ = invert_linear_blocks(noise, noise, 4, 1.0)
    assert inverse.fit < 0.6


def test_constant_ciphertexts_are_refused():
    flat = np.full((3, 32, 32, 3), 7, np.uint8)
    with pytest.raises(ValueError, match="all of their blocks are equal"):
        invert_linear_blocks(flat, flat, 4, 1.0)


@pytest.mark.parametrize("side", [2, 5, 8])
def test_the_bundled_moments_are_those_of_natural_blocks(side):
    public = load_public_moments(side)
    side_length = 96 // side * side
    own = block_moments(to_grid(np.ascontiguousarray(IMAGES[:, :side_length, :side_length]), side))
    basis = frequency_basis(side)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3 * side**2), atol=1e-12)
    for ours, theirs in zip(own, public, strict=True):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.7, "crops of textures are smoother"
