"""Contract tests of every scheme in the catalog; a new scheme is tested here without further code."""

import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.core import numba_kernels
from unveil.models.core.images import pad
from unveil.models.core.settings_schema import ParameterError
from unveil.models.schemes.base import image_secret, new_secret, seed_secret

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


@pytest.mark.parametrize(("height", "width"), [(96, 96), (13, 30), (8, 64), (1, 1)])
def test_decryption_is_bit_exact(scheme, height, width):
    plain = pad(photographs(3, height, width), scheme.size_multiple)
    before = plain.copy()
    key = scheme.key(SEED, *plain.shape[1:3])
    protected = scheme.encrypt(plain, key)
    assert protected.dtype == np.uint8
    assert protected.shape == plain.shape
    assert (scheme.decrypt(protected, key) == plain).all()
    assert (plain == before).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_an_empty_array_stays_empty(scheme, compiled, monkeypatch):
    if not compiled:
        for kernel in ("apply_pixel_transforms", "shuffle_nibbles"):
            monkeypatch.setattr(numba_kernels, kernel, None)
    none = np.zeros((0, 16, 24, 3), np.uint8)
    key = scheme.key(SEED, 16, 24)
    assert scheme.encrypt(none, key).shape == scheme.decrypt(none, key).shape == none.shape


def test_protection_hides_the_image_and_depends_on_the_key(scheme):
    plain = photographs(2)
    protected = scheme.protect(plain, SEED)
    assert (protected != plain).mean() > 0.5
    assert (protected != scheme.protect(plain, new_secret())).mean() > 0.3
    assert (protected == scheme.protect(plain, SEED)).all()


def test_one_key_for_all_images_or_one_for_each(scheme):
    plain = np.repeat(photographs(1), 3, axis=0)
    protected = scheme.protect(plain, SEED, first=5)
    assert (protected[0] == protected[1]).all() == (not scheme.key_per_image)
    # image i has the same key in every slice of the dataset
    assert (scheme.protect(plain[1:], SEED, first=6) == protected[1:]).all()
    if scheme.key_per_image:
        key = scheme.key(image_secret(SEED, 7), *plain.shape[1:3])
        assert (scheme.decrypt(protected[2:], key) == plain[2:]).all()


def test_a_key_survives_its_json_form(scheme):
    plain = photographs(1)
    key = scheme.key(SEED, 96, 96)
    explicit = scheme.key_to_secret(scheme.key_from_json(scheme.key_to_json(key)))
    again = scheme.key(explicit, 96, 96)
    assert (scheme.encrypt(plain, again) == scheme.encrypt(plain, key)).all()
    assert set(scheme.key_agreement(again, key).values()) == {1.0}


def test_invalid_key_material_is_named_by_its_field(scheme):
    material = scheme.key_to_json(scheme.key(SEED, 8, 8))
    for name in material:
        with pytest.raises(ParameterError) as caught:
            scheme.key_from_json({**material, name: "nonsense"})
        assert any(pointer == f"/{name}" for pointer, _ in caught.value.errors)
    with pytest.raises(ParameterError, match="unknown"):
        scheme.key_from_json({**material, "extra": 1})


def test_arrays_that_are_no_images_are_refused(scheme):
    key = scheme.key(SEED, 96, 96)
    for bad in (photographs(1)[0], photographs(1).astype(np.float32), photographs(1)[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            scheme.encrypt(bad, key)
