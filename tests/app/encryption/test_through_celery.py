"""One image through everything: uvicorn, Redis, a Celery worker, PostgreSQL."""

from __future__ import annotations

import base64

import httpx

from tests.worker.sample_images import noise
from unveil.models.core.images import to_png


def test_an_image_is_encrypted_and_decrypted_by_the_running_service(stack):
    plain = to_png(noise(96, 96))
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {stack.token}"}, timeout=300) as client:
        answer = client.post("/encrypt", files={"images": ("a.png", plain, "image/png")}, data={"scheme": "pixelwise"})
        assert answer.status_code == 200, answer.text
        (entry,) = answer.json()["images"]
        protected = base64.b64decode(entry["data"])
        assert protected != plain
        back = client.post(
            "/decrypt", files={"images": ("e.png", protected, "image/png")}, data={"key_id": entry["key_id"]}
        )
        assert base64.b64decode(back.json()["images"][0]["data"]) == plain
