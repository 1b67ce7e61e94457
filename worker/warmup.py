"""What the first request would else wait seconds for: imports, and compiled kernels from their cache."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)


def start_warmup() -> None:
    """In a pool process, at its start; in the background, for a process that starts late is taken for a dead one."""
    threading.Thread(target=_warm_up, name="warm", daemon=True).start()


def _warm_up() -> None:
    try:
        import numpy as np

        from unveil.models.catalog import make_scheme, new_secret, schemes
        from unveil.models.core.images import to_png
        from unveil.worker.encryption import codec, handlers  # noqa: F401 - transform: the import is what counts

        image = codec.decode(codec.inspect(to_png(np.zeros((16, 16, 3), np.uint8)), max_pixels=256)).pixels
        for name, kind in schemes().items():
            if not kind.trains:
                scheme = make_scheme(name, {})
                scheme.encrypt(image[None], scheme.key(new_secret(), 16, 16))
    except Exception:
        log.exception("could not warm up; the first request will be slow, and tell why")
