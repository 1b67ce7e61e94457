"""Which requests may have the process that is kept for others: those that cannot keep it long."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from unveil.app.encryption.service import TransformPlan, _is_short
from unveil.models.core.images import to_png


def _jpeg() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (96, 96)).save(held, "JPEG")
    return held.getvalue()


SMALL, FLAT = to_png(np.zeros((96, 96, 3), np.uint8)), to_png(np.zeros((1024, 1025, 3), np.uint8))


@pytest.mark.parametrize(
    ("scheme", "images", "brief"),
    [
        ("tanaka", [SMALL] * 64, True),
        ("tanaka", [SMALL, FLAT], False),  # few bytes, many pixels
        ("tanaka", [SMALL, _jpeg()], False),  # says its size somewhere else
        ("tanaka", [SMALL, b""], False),
        ("tn-gan", [SMALL], False),  # a network takes its time
    ],
)
def test_brief_is_what_has_few_pixels_and_no_network(scheme: str, images: list[bytes], brief: bool) -> None:
    assert _is_short(TransformPlan("encrypt", scheme, {}, [], False, []), images) is brief
