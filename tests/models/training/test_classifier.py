from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from unveil.models.core.errors import AttackFailed, Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.networks.resnet20 import ResNet20
from unveil.models.networks.vgg16_bn import Vgg16Bn
from unveil.models.training.augmentation import flip_and_crop
from unveil.models.training.classifier import (
    CLASSIFIERS,
    ClassificationTask,
    Classifier,
    accuracy,
    predict,
    train_classifier,
)

SETTINGS = replace(CLASSIFIERS["smoke"], epochs=6, precision="fp32")


def make_stripes(count, seed=0, side=24):
    """Images and labels: horizontal (0) or vertical (1) stripes of random phase and colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    wave = 127.5 + 100 * np.sin(np.arange(side) * 0.5 + rng.random((count, 1)) * 7)
    image = np.where(labels[:, None, None], wave[:, None, :], wave[:, :, None])[..., None] * rng.uniform(0.5, 1, 3)
    return image.astype(np.uint8), labels


def count_parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_networks_have_their_published_number_of_weights():
    assert count_parameters(ResNet20(10)) == 269_722
    assert count_parameters(Vgg16Bn(10)) == 14_728_266


def test_a_shortcut_takes_every_second_pixel_and_adds_channels_of_zeros():
    block = ResNet20(10).eval().stages[1][0]
    nn.init.zeros_(block.body[-1].weight)
    x = torch.rand(2, 16, 6, 8)
    expected = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 16, 3, 4)], 1)
    assert torch.equal(block(x), expected)


def test_it_learns_to_classify_new_images():
    metrics = []
    context = RunContext(metric=lambda *m: metrics.append(m))
    images, labels = make_stripes(200)
    network = train_classifier(images, labels, SETTINGS, context)
    images, labels = make_stripes(40, seed=1)
    assert accuracy(network, images, labels, RunContext()) == 1
    assert (predict(network, images, RunContext()) == labels).all()
    assert {name for name, *_ in metrics} == {"loss", "accuracy", "images_per_second"}


def test_cells_of_an_evaluation_train_it_once():
    computed: dict[str, bytes] = {}

    def once(name, make):
        if name not in computed:
            computed[name] = make()
        return computed[name]

    def refuse(*_):
        raise Cancelled

    images, labels = make_stripes(32)
    first = train_classifier(images, labels, CLASSIFIERS["smoke"], RunContext(memoize=once))
    again = train_classifier(images, labels, CLASSIFIERS["smoke"], RunContext(memoize=once, report=refuse))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    for rows, names in ((images[:30], labels[:30]), (images, 1 - labels)):
        with pytest.raises(Cancelled):
            train_classifier(rows, names, CLASSIFIERS["smoke"], RunContext(memoize=once, report=refuse))
    assert [name.split("/")[0] for name in computed] == ["classifier"]


@pytest.mark.parametrize("labels", [np.zeros(8, np.int64), np.arange(8) - 1, np.arange(7)])
def test_missing_labels_are_refused(labels):
    with pytest.raises(AttackFailed, match="labels of at least two classes"):
        train_classifier(make_stripes(8)[0], labels, SETTINGS, RunContext())


def test_images_too_small_for_the_network_are_refused():
    images, labels = make_stripes(8)
    with pytest.raises(AttackFailed, match="at least 32x32; these are 24x24"):
        train_classifier(images, labels, replace(SETTINGS, network="vgg16-bn", shrink=1), RunContext())


def test_crops_move_images_into_black_and_mirror_every_second_one():
    images = np.random.default_rng(0).integers(1, 256, (64, 9, 7, 3), np.uint8)
    moved = flip_and_crop(torch.from_numpy(images), 2, torch.Generator().manual_seed(0)).numpy()
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    offsets_seen = set()
    for image, source in zip(moved, padded, strict=True):
        found = [
            (down, right, flip)
            for down in range(5)
            for right in range(5)
            for flip in (False, True)
            if (image == source[down : down + 9, right : right + 7][:, :: -1 if flip else 1]).all()
        ]
        assert len(found) == 1
        offsets_seen.add(found[0])
    assert {down for down, *_ in offsets_seen} == {right for _, right, _ in offsets_seen} == set(range(5))
    assert len({flip for *_, flip in offsets_seen}) == 2


# Cross-entropy after 3 steps on one fixed batch; see networks/test_inverse_networks.py.
GOLDEN = {
    "resnet20": ({"network": "resnet20"}, 0.32343),
    "vgg16-bn": ({"network": "vgg16-bn"}, 0.54854),
    "behind the adaptation network": ({"adaptation": 32, "by": "channels", "shrink": 4}, 0.54184),
}


@pytest.mark.parametrize(("settings", "golden"), GOLDEN.values(), ids=GOLDEN.keys())
def test_golden_losses(settings, golden):
    images, labels = (torch.from_numpy(array) for array in make_stripes(4, side=32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Classifier(2, replace(SETTINGS, width=8, **{"shrink": 1, **settings}))
    task = ClassificationTask(network, torch.optim.SGD(network.parameters(), 0.01, 0.9), padding=2)
    for step in range(3):
        losses = task.step([images, labels], torch.Generator().manual_seed(step))
    assert losses["loss"].item() == pytest.approx(golden, rel=0.02)
