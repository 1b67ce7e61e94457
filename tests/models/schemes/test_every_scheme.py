"""What `unveil.testing` does not ask of a scheme; tests/test_plugin_checks.py runs its checks on the built-ins."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.core import numba_kernels
from unveil.models.schemes.base import seed_secret

SEED = seed_secret(bytes(range(32)))
VARIANTS = {
    f"{name}:{','.join(map(str, variant['params'].values()))}": (name, variant["params"])
    for name, described in ((name, catalog.describe_scheme(name)) for name in catalog.schemes())
    if not described["trains"]
    for variant in described["variants"]
}


@pytest.fixture(params=list(VARIANTS.values()), ids=list(VARIANTS))
def scheme(request):
    return catalog.make_scheme(*request.param)


@pytest.mark.parametrize("compiled", [True, False])
def test_an_empty_array_stays_empty(scheme, compiled, monkeypatch):
    if not compiled:
        for kernel in ("apply_pixel_transforms", "shuffle_nibbles", "shuffle_block_values"):
            monkeypatch.setattr(numba_kernels, kernel, None)
    none = np.zeros((0, 16, 24, 3), np.uint8)
    key = scheme.key(SEED, 16, 24)
    assert scheme.encrypt_to_images(none, key).shape == none.shape
    assert not scheme.invertible or scheme.decrypt(none, key).shape == none.shape


def test_arrays_that_are_no_images_are_refused(scheme):
    key = scheme.key(SEED, 96, 96)
    for bad in (photographs(1)[0], photographs(1).astype(np.float32), photographs(1)[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            scheme.encrypt(bad, key)
