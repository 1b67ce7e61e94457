"""The inverse among those that differ by a global symmetry, inversion or channel order."""

import numpy as np

from unveil.models.schemes.block_inverse import SYMMETRIES


def best_inverse(inverse, ciphertexts, images):
    """The inverse in the global rotation, mirroring, inversion and channel order that fit best, and its share."""
    inverses = [
        inverse.transform(symmetry, order, negative=negative)
        for symmetry in range(SYMMETRIES)
        for negative in (False, True)
        for order in range(6)
    ]
    fitting = [each for each in inverses if each.blocks.shape == inverse.blocks.shape]
    shares = [float((each.decrypt(ciphertexts) == images).mean()) for each in fitting]
    return fitting[int(np.argmax(shares))], max(shares)
