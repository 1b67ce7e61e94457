"""Contract tests of every scheme whose key is a trained network."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from tests.models.sample_images import photographs
from unveil.models import catalog
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.images import pad
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.schemes import network
from unveil.models.schemes.base import new_secret
from unveil.models.schemes.tn_model import TnModel
from unveil.models.training import loop

NAMES = [name for name, cls in catalog.schemes().items() if cls.trains]
DATA = sample().take(60, 6)
FP32 = {"precision": "fp32"}
DIVERGES = {
    "tn-model": {"rate": 100.0, "weight_decay": 1.0, "epochs": 10},
    "tn-gan": {"rate": 1e30},
}


def test_trained_schemes_are_found():
    assert set(NAMES) == {"tn-gan", "tn-model"}


@cache
def train_key(name):
    return catalog.make_scheme(name, FP32, "smoke").train(DATA, RunContext(seed=1))


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def scheme(name):
    return catalog.make_scheme(name, {}, "smoke")


def test_a_key_records_its_provenance(name):
    provenance = json.loads(json.dumps(train_key(name).provenance))
    assert provenance["data"] == "sample"
    assert sum(provenance["images"].values()) == 60
    assert provenance["settings"]["epochs"] == catalog.schemes()[name].profiles["smoke"]["epochs"]
    assert all(np.isfinite(value) for value in provenance["reached"].values())
    assert provenance["test"]["images"] == 6
    assert provenance["versions"]["torch"] == torch.__version__
    assert train_key(name).secret.hex() not in json.dumps(provenance)


@pytest.mark.parametrize("size", [(96, 96), (33, 50), (1, 1), (200, 7)])
def test_it_protects_images_of_any_size(name, scheme, size):
    plain = pad(np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8), scheme.size_multiple)
    before = plain.copy()
    protected = scheme.protect(plain, train_key(name).secret)
    assert protected.shape == plain.shape
    assert protected.dtype == np.uint8
    assert (plain == before).all()
    assert (protected != plain).any()


def test_a_protected_image_does_not_depend_on_its_batch(name, scheme):
    plain, secret = photographs(6, 48, 48), train_key(name).secret
    together = scheme.protect(plain, secret)
    for i in range(6):
        assert (scheme.protect(plain[i : i + 1], secret, first=i) == together[i : i + 1]).all()


def test_large_images_are_protected_in_tiles(name, scheme, monkeypatch):
    """Reduces the tile side instead of enlarging the image."""
    plain, key = photographs(1), train_key(name).secret
    monkeypatch.setattr(network, "_TILE_SIDE", 2 * scheme.tile_margin + 32)
    tile_sizes = []

    def watch(module, inputs):
        tile_sizes.append(tuple(inputs[0].shape[2:]))

    wide = np.concatenate([plain] * 4, 2)
    network_of_key = scheme.key(key, *wide.shape[1:3])
    network_of_key.register_forward_pre_hook(watch)
    assert scheme.encrypt(wide, network_of_key).shape == wide.shape
    assert len(tile_sizes) > 1
    assert max(map(max, tile_sizes)) <= 2 * scheme.tile_margin + 32


def test_the_key_brings_its_own_settings(name):
    """The weights have another width than the scheme that loads them."""
    plain, secret = photographs(1), train_key(name).secret
    smoke, paper = (catalog.make_scheme(name, {}, profile) for profile in ("smoke", "paper"))
    assert (smoke.protect(plain, secret) == paper.protect(plain, secret)).all()


def test_bytes_that_are_no_trained_key_are_refused(name, scheme):
    for wrong in (new_secret(), b"w" + b"\0" * 40, train_key(name).secret[:-9], b"w", b""):
        with pytest.raises(ValueError):
            scheme.key(wrong, 96, 96)
    other = train_key(name).secret.replace(name.encode(), b"x" * len(name))
    with pytest.raises(ValueError, match="not a trained key"):
        scheme.key(other, 96, 96)


def test_it_has_no_inverse_no_explicit_form_and_no_count_of_keys(scheme):
    assert scheme.key_space_bits(96, 96) is None
    assert catalog.effective_bits(scheme, 96, 96) is None
    assert not scheme.invertible
    assert catalog.make_attack("brute-force", {}).not_applicable_reason(scheme)


class CancelAfter:
    """Cancels at the n-th report."""

    def __init__(self, at):
        self.reports_left = at

    def __call__(self, *_):
        self.reports_left -= 1
        if self.reports_left < 0:
            raise Cancelled


@pytest.mark.parametrize("at", [3, pytest.param(12, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.slow)])
def test_an_interrupted_and_resumed_training_gives_the_same_key(name, at, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(loop, "CANCEL_CHECK_SECONDS", 0)
    scheme = catalog.make_scheme(name, FP32, "smoke")
    with pytest.raises(Cancelled):
        scheme.train(DATA, RunContext(seed=1, checkpoints=DirectoryStore(tmp_path), report=CancelAfter(at)))
    assert scheme.train(DATA, RunContext(seed=1, checkpoints=DirectoryStore(tmp_path))).secret == train_key(name).secret


def test_another_seed_gives_another_key(name):
    scheme = catalog.make_scheme(name, FP32, "smoke")
    assert scheme.train(DATA, RunContext(seed=2)).secret != train_key(name).secret


def test_progress_rises_to_one(name, scheme):
    fractions = []
    scheme.train(DATA, RunContext(report=lambda fraction, phase: fractions.append(fraction)))
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert fractions[-1] > 0.9


def test_too_few_images_are_refused(scheme):
    with pytest.raises(AttackFailed, match="at least"):
        scheme.train(DATA.take(1, 2), RunContext())


def test_images_that_are_too_small_are_refused(scheme):
    with pytest.raises(AttackFailed, match="images of at least"):
        scheme.train(replace(DATA, train=DATA.train[:, :12, :12]), RunContext())


def test_a_diverging_loss_fails_the_training(name):
    settings = catalog.make_scheme(name, FP32, "smoke").settings
    scheme = catalog.schemes()[name](replace(settings, **DIVERGES[name]))  # beyond what a caller may set
    with pytest.raises(AttackFailed, match="not a number"):
        scheme.train(DATA, RunContext())


def test_tn_model_needs_labels():
    with pytest.raises(AttackFailed, match="labels of at least two classes"):
        catalog.make_scheme("tn-model", {}, "smoke").train(
            replace(DATA, train_labels=np.zeros_like(DATA.train_labels)), RunContext()
        )


@pytest.mark.parametrize("fold", [1, 3])
def test_tiles_of_a_tn_model_key_join_without_a_seam(fold, monkeypatch):
    scheme = TnModel(catalog.make_scheme("tn-model", {"fold": fold}, "smoke").settings)
    secret = train_key("tn-model").secret
    if fold > 1:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            secret = scheme.key_to_secret(scheme.build_network())
    plain = np.random.default_rng(0).integers(0, 256, (1, 300 * fold, 440 * fold, 3), np.uint8)
    whole = scheme.protect(plain, secret)
    monkeypatch.setattr(network, "_TILE_SIDE", 2 * scheme.tile_margin + 96)
    in_pieces = scheme.protect(plain, secret)
    assert np.abs(whole.astype(int) - in_pieces).max() <= 1  # sums may round differently in the last bit
    assert (whole != in_pieces).mean() < 1e-3


def test_the_papers_settings_of_tn_model(monkeypatch):
    configs = []

    def no_training(make, tensor_groups, config, context):
        task = make()
        group = task.optimizers[0].param_groups[0]
        rates = [round(config.lr_schedule(epoch / 200), 9) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
        configs.append((config.epochs, config.batch_size, group["lr"], group["momentum"], group["weight_decay"], rates))
        if config.name == "tn-model":
            assert sum(p.numel() for p in task.network.parameters()) == 34_527_171
            assert task.feature_weight == 0.01
            raise AttackFailed("enough")
        return task, ()

    monkeypatch.setattr("unveil.models.training.loop.train", no_training)
    monkeypatch.setattr("unveil.models.training.classifier.train", no_training)
    with pytest.raises(AttackFailed, match="enough"):
        catalog.make_scheme("tn-model", {"features": "classifier"}, "paper").train(DATA, RunContext())
    steps = [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008]
    assert configs == [(200, 128, 0.1, 0.9, 5e-4, steps)] * 2
