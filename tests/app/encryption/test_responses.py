"""Which form an answer takes."""

from __future__ import annotations

import pytest

from unveil.app.encryption.responses import negotiate_media_type
from unveil.app.errors.problem import NotAcceptable


@pytest.mark.parametrize(
    ("accept", "one", "two"),
    [
        ("", "json", "json"),
        ("text/html", "json", "json"),
        ("image/png, application/json;q=0.5", "png", "json"),
        ("image/png, */*", "png", "json"),
        ("image/*, application/zip;q=0.1", "png", "zip"),
        ("*/*", "json", "json"),
        ("application/zip, */*", "zip", "zip"),
        ("application/json;q=0.2, */*;q=0.8", "zip", "zip"),
        ("image/png;q=0.1, application/json;q=0, */*", "zip", "zip"),
        ("application/json;q=0.5, image/png;q=nonsense", "json", "json"),
        ("image/png", "png", None),
        ("application/json;q=0", None, None),
        ("application/json;q=0, application/zip;q=0, image/*", "png", None),
    ],
)
def test_the_best_form_that_is_accepted_and_can_hold_the_images(accept: str, one: str | None, two: str | None) -> None:
    for images, form in ((1, one), (2, two)):
        if form is None:
            with pytest.raises(NotAcceptable):
                negotiate_media_type(accept, images)
        else:
            assert negotiate_media_type(accept, images).endswith(f"/{form}"), f"{accept} for {images}"
