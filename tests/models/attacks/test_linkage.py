import numpy as np
import pytest

from unveil.models.attacks.base import AttackInput, AttackResult, Pairs
from unveil.models.attacks.linkage import Linkage, LinkageSettings
from unveil.models.catalog import make_scheme
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.linkage import link_rate
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.gallery import build_gallery
from unveil.models.recovery.distribution_recogniser import DistributionRecogniser
from unveil.models.recovery.linear_recogniser import LinearRecogniser, inner_products, top1
from unveil.models.schemes.base import NoSettings, Scheme

DATA = sample()
TINY = LinkageSettings(epochs=1, width=4, batch=32)


def _small(images):
    return np.ascontiguousarray(images[:, ::2, ::2])


def test_inner_products_are_those_of_centred_values():
    a, b = DATA.test[:3], DATA.test[3:5]
    expected = np.einsum("nhwc,mhwc->nm", a - 127.5, b - 127.5) / a[0].size
    assert inner_products(a, b) == pytest.approx(expected, rel=1e-4)


def test_a_fixed_permutation_of_all_values_does_not_prevent_linkage():
    plain, test = _small(DATA.train), _small(DATA.test)
    rng = np.random.default_rng(0)
    order, flips = rng.permutation(plain[0].size), rng.random(plain[0].size) < 0.5

    def protect(images):
        moved = images.reshape(len(images), -1)[:, order]
        return np.where(flips, 255 - moved, moved).reshape(images.shape)

    recogniser = LinearRecogniser.fit(plain, protect(plain), 60)
    assert top1(recogniser.embed_protected(protect(test)), recogniser.embed_plain(test)) > 0.9
    noise = rng.integers(0, 256, test.shape, np.uint8)
    assert top1(recogniser.embed_protected(noise), recogniser.embed_plain(test)) < 0.15


def _result(similarity):
    return AttackResult(similarities=lambda gallery: similarity)


def test_a_near_duplicate_counts_as_a_hit_and_in_chance():
    originals = DATA.test[:10].copy()
    originals[1] = originals[0]
    gallery = build_gallery(originals)
    swapped = np.eye(10, dtype=np.float32)[[1, 0, *range(2, 10)]]
    rate = link_rate(_result(swapped), gallery)
    assert (rate.hits, rate.trials) == (10, 10)
    assert rate.chance == pytest.approx((2 * 0.2 + 8 * 0.1) / 10)


def test_equal_similarities_are_no_hit():
    rate = link_rate(_result(np.ones((10, 10), np.float32)), build_gallery(DATA.test[:10]))
    assert rate.hits == 0


def test_it_needs_pairs():
    images = DATA.test[:5]
    pairs = Pairs(DATA.train[:4], DATA.train[:4])
    with pytest.raises(AttackFailed, match="at least 5 pairs of plain and protected images are needed; got 4"):
        Linkage(TINY).run(AttackInput(None, images, images, pairs=pairs), RunContext())


def test_a_cell_has_a_rate_with_controls_and_no_images():
    outcome = run_cell(make_scheme("tanaka", {}), Linkage(TINY), DATA, ScoringOptions(profile="quick"), RunContext())
    result = outcome.result
    assert result.linkage.top1 > 0.8
    assert result.linkage.ci_low > result.linkage.chance
    assert result.linkage.gallery >= len(DATA.test)
    assert result.ssim is None
    assert result.identification is None
    assert result.controls.failed == []
    assert result.verdict == "leaks"
    assert outcome.samples == []


class OneTimePad(Scheme):
    """A new random pad for every image, which no attacker links."""

    name = "one-time-pad"
    Settings = NoSettings

    @property
    def key_per_image(self):
        return True

    def derive(self, seed, height, width):
        return np.random.default_rng(list(seed)).integers(0, 256, (height, width, 3), np.uint8)

    def encrypt(self, images, key):
        return images ^ key


def test_nothing_links_the_images_of_a_one_time_pad():
    outcome = run_cell(OneTimePad(NoSettings()), Linkage(TINY), DATA, ScoringOptions(profile="quick"), RunContext())
    result = outcome.result
    assert result.linkage.ci_low < result.linkage.chance
    assert result.verdict == "inconclusive"  # 61 images exclude no leak


@pytest.mark.parametrize("inverts", [False, True])
def test_a_new_order_of_all_values_of_each_image_does_not_prevent_linkage(inverts):
    rng = np.random.default_rng(0)

    def protect(images):
        moved = rng.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)
        return np.where((rng.random(images.shape) < 0.5) & inverts, 255 - moved, moved).astype(np.uint8)

    recogniser = DistributionRecogniser.fit(DATA.train, protect(DATA.train))
    assert top1(recogniser.embed_protected(protect(DATA.test)), recogniser.embed_plain(DATA.test)) > 0.95
    noise = rng.integers(0, 256, DATA.test.shape, np.uint8)
    assert top1(recogniser.embed_protected(noise), recogniser.embed_plain(DATA.test)) < 0.15


def test_a_cell_takes_the_recogniser_that_links_held_out_pairs_best():
    scheme = make_scheme("vit-permutation", {"key_mode": "different", "negative_positive": True})
    result = run_cell(scheme, Linkage(TINY), DATA, ScoringOptions(profile="quick"), RunContext()).result
    assert result.linkage.top1 > 0.95
    assert any("the distribution recogniser was taken" in note for note in result.notes)
