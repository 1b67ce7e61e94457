"""`unveil.ProtectedDataset`: what a network trains on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import unveil
from unveil.app.client.client import Client
from unveil.app.local.stack import LocalStack
from unveil.models.data.sample import sample

IMAGES = np.ascontiguousarray(sample().test[:6, ::2, ::2])
LABELS = np.array([0, 1, 0, 1, 2, 2])


def test_a_loader_takes_it_and_equal_arguments_give_equal_images():
    dataset = unveil.ProtectedDataset(IMAGES, "tanaka", labels=LABELS, seed=3)
    images, labels = next(iter(DataLoader(dataset, batch_size=6)))
    assert images.shape == (6, 3, 48, 48)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert labels.tolist() == LABELS.tolist()
    assert (dataset.images == unveil.ProtectedDataset(IMAGES, "tanaka", seed=3).images).all()
    assert (dataset.images != unveil.ProtectedDataset(IMAGES, "tanaka", seed=4).images).any()
    assert (dataset.images != IMAGES).any()


def test_what_was_converted_is_noted():
    assert unveil.ProtectedDataset(IMAGES, "tanaka").notes == ()
    odd = unveil.ProtectedDataset(IMAGES[:, :45, :47] / np.float32(255), "tanaka")
    assert odd.images.shape == (6, 48, 48, 3)
    assert odd.notes[-1] == "images of 47x45 were padded to 48x48"
    assert len(odd.notes) == 2, "and the scale"


def test_without_labels_the_class_is_unknown():
    assert unveil.ProtectedDataset(IMAGES, "pixelwise:different")[0][1] == -1


def test_a_key_of_the_service_protects_as_the_service_does(stack: LocalStack):
    with Client(stack.url, stack.token) as client:
        key = client.keys.create("tanaka")
        dataset = unveil.ProtectedDataset(IMAGES, client=client, key_id=key.id, labels=LABELS)
        restored = client.decrypt(list(dataset.images), key_id=key.id).pixels
    assert (restored == IMAGES).all()
    image, label = dataset[5]
    assert (image.shape, label) == ((3, 48, 48), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give a scheme, or the key_id"),
        ({"key_id": "key_1"}, "give a scheme, or the key_id"),
        ({"scheme": "tn-model"}, "the key of tn-model is trained"),
        ({"scheme": "instahide"}, "are not images of the original size"),
    ],
)
def test_a_refusal_names_the_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        unveil.ProtectedDataset(IMAGES, **arguments)
