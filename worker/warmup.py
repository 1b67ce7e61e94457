"""Warm-up of a pool process: imports and compiled kernels, which would delay its first request by seconds."""

from __future__ import annotations

import io
import logging
import threading

log = logging.getLogger(__name__)


def start_warmup() -> None:
    """Call when a pool process starts. Uses a thread, because Celery kills a process that starts slowly."""
    threading.Thread(target=_warm_up, name="warmup", daemon=True).start()


def _warm_up() -> None:
    try:
        import numpy as np
        from PIL import Image

        from unveil.models.catalog import make_scheme, new_secret, schemes
        from unveil.models.core.images import pad, to_png
        from unveil.models.data.decoding import decode, inspect
        from unveil.worker.encryption import handlers  # noqa: F401 - imported for its side effect

        image = decode(inspect(to_png(np.zeros((16, 16, 3), np.uint8)))).pixels
        for name, kind in schemes().items():
            if not kind.trains:
                scheme = make_scheme(name, {})
                images = pad(image[None], scheme.size_multiple)
                scheme.encrypt(images, scheme.key(new_secret(), *images.shape[1:3]))
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG")
        decode(inspect(buffer.getvalue()))
    except Exception:
        log.exception("warm-up failed; the first request will be slow")
