"""`unveil.ProtectedDataset`: protected images to train on, with a key of the service or one drawn here."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from unveil.models import catalog
from unveil.models.core.images import Images, pad
from unveil.models.data.image_sources import read_images, read_labels
from unveil.models.schemes.base import seed_secret

if TYPE_CHECKING:
    import torch

    from unveil.app.client.client import Client


class ProtectedDataset:
    """A map-style dataset of torch: item i is the protected image i, float32 [3, H, W] in 0..1, and its class.

    images: as for `audit`: an array, a list of PIL images, a folder with class folders, a .npy or .npz file, a torch
    tensor or dataset. labels: int [N]; by default those of the source, else every class is -1.

    `scheme` and `seed` draw a key here, the same for equal arguments. `client` and `key_id` use a key of the service
    instead, which never leaves it. All images are protected at once, when the dataset is made. `notes` lists what was
    converted: images that were resized or rescaled, sides that were padded.

    Raises ValueError for other combinations, and for a scheme whose ciphertexts are no images or whose key is trained.
    """

    def __init__(
        self,
        images: Any,
        scheme: str | None = None,
        *,
        labels: Any = None,
        seed: int = 0,
        client: Client | None = None,
        key_id: str | None = None,
    ) -> None:
        if (scheme is None) == (key_id is None) or (client is None) != (key_id is None):
            raise ValueError("give a scheme, or the key_id of a key together with the client of its service")
        source = read_images(images)
        self.notes = source.notes
        given = source.labels if labels is None else read_labels(labels, source.images)
        self.labels = np.full(len(source.images), -1, np.int64) if given is None else given
        if scheme is not None:
            self.images = _protect(source.images, scheme, seed)
        else:
            assert client is not None
            self.images = client.encrypt(list(source.images), key_id=key_id, allow_audit_key=True).pixels
        (height, width), protected = source.images.shape[1:3], self.images.shape[1:3]
        if protected != (height, width):
            self.notes += (f"images of {width}x{height} were padded to {protected[1]}x{protected[0]}",)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        import torch

        image = torch.from_numpy(np.ascontiguousarray(self.images[index].transpose(2, 0, 1)))
        return image.float() / 255, int(self.labels[index])


def _protect(images: Images, spec: str, seed: int) -> Images:
    name, settings = catalog.parse_spec("scheme", spec)
    scheme = catalog.make_scheme(name, settings)
    if scheme.trains:
        raise ValueError(f"the key of {name} is trained: create one in a service, and give its key_id and the client")
    if scheme.ciphertext.shape is not None:
        raise ValueError(f"the ciphertexts of {name} are not images of the original size")
    secret = seed_secret(hashlib.sha256(f"ProtectedDataset {seed}".encode()).digest())
    return scheme.protect(pad(images, scheme.size_multiple), secret)
