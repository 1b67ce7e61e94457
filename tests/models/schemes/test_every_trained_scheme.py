"""What holds for every scheme whose key is a trained network: a new file is tested here without writing more."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models import catalog, training
from models.attacks.base import AttackFailed, Cancelled, Context
from models.datasets import Data
from tests.models.pictures import photographs

NAMES = [name for name, scheme in catalog.schemes().items() if scheme.trains]


def data(count=24, side=32):
    labels = np.arange(count) % 2
    return Data("some", photographs(count, side, side), labels, photographs(4, side, side), labels[:4], ("a", "b"))


@pytest.fixture(params=NAMES)
def scheme(request):
    return catalog.make_scheme(request.param, {"precision": "fp32", "epochs": 4, "batch": 4}, "smoke")


@pytest.fixture(scope="module")
def secrets():
    return {}


@pytest.fixture
def trained(scheme, secrets):
    if scheme.name not in secrets:
        secrets[scheme.name] = scheme.train(data(), Context(seed=3))
    return secrets[scheme.name]


def test_trained_schemes_are_found():
    assert set(NAMES) == {"tn-gan"}


def test_a_key_protects_every_size_alone_as_in_company(scheme, trained):
    for height, width in ((32, 32), (48, 28)):
        plain = photographs(5, height, width)
        protected = scheme.protect(plain, trained.secret)
        assert protected.shape == plain.shape
        assert protected.dtype == np.uint8
        assert (scheme.protect(plain[3:4], trained.secret)[0] == protected[3]).all()
        assert not (protected == plain).all()
    assert scheme.secret_of(scheme.key(trained.secret, 32, 32)) == trained.secret


def test_the_record_says_what_it_came_from_and_what_it_reached(trained):
    record = json.loads(json.dumps(trained.provenance))
    assert record["data"] == "some"
    assert record["device"] == "cpu"
    assert record["settings"]["epochs"] >= 1
    assert all(np.isfinite(value) for value in record["reached"].values())


def test_the_seed_decides_and_a_stopped_training_ends_at_the_same_weights(scheme, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    monkeypatch.setattr(training, "PULSE_SECONDS", 0)
    calls = 0

    def stop(fraction, phase):
        nonlocal calls
        calls += 1
        if fraction > 0.4 and calls > 20:
            raise Cancelled

    with pytest.raises(Cancelled):
        scheme.train(data(), Context(seed=3, workdir=tmp_path, report=stop))
    assert list(tmp_path.rglob("*.ckpt"))
    again = scheme.train(data(), Context(seed=3, workdir=tmp_path))
    assert again.secret == trained.secret
    assert scheme.train(data(), Context(seed=4)).secret != trained.secret


def test_nothing_undoes_it_and_nothing_counts_its_keys(scheme, trained):
    assert not scheme.invertible
    assert scheme.key_space_bits(96, 96) is None
    assert catalog.make_attack("brute-force", {}).refuses(scheme)
    with pytest.raises(ValueError, match="weights"):
        scheme.key(trained.secret[:1] + b"nonsense", 32, 32)
    with pytest.raises(ValueError, match="secret"):
        scheme.key(catalog.new_secret(), 32, 32)


def test_images_that_do_not_suffice_are_refused_in_words(scheme):
    few = data()
    with pytest.raises(AttackFailed, match="at least"):
        scheme.train(replace(few, train=few.train[:1], train_labels=few.train_labels[:1]), Context())
    with pytest.raises(AttackFailed, match="at least"):
        scheme.train(data(side=8), Context())
    with pytest.raises(ValueError, match="too large"):
        scheme.encrypt(np.broadcast_to(np.uint8(0), (1, 2048, 1024, 3)), None)
