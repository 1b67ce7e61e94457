"""Which requests may use the slots that are reserved for other accounts: short ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from unveil.app.encryption.service import _are_small_pngs
from unveil.app.rpc.messages import ImageFile
from unveil.models.core.images import to_png


def _jpeg() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (96, 96)).save(held, "JPEG")
    return held.getvalue()


SMALL, FLAT = to_png(np.zeros((96, 96, 3), np.uint8)), to_png(np.zeros((1024, 1025, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "small"),
    [
        ([SMALL] * 64, True),
        ([SMALL, FLAT], False),  # few bytes, many pixels
        ([SMALL, _jpeg()], False),  # its size is at another position
        ([SMALL, b""], False),
    ],
)
def test_a_request_is_short_if_its_pngs_have_few_pixels(images: list[bytes], small: bool) -> None:
    assert _are_small_pngs([ImageFile("a", data) for data in images]) is small
