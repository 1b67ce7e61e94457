"""An encryption oracle for chosen-plaintext attacks: it answers, and the key cannot be reached through it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from unveil.models.core.images import Images


class Oracle:
    """Images in, their ciphertexts out, by a thread that alone knows the key: what an attack holds is two queues."""

    def __init__(self, protect: Callable[[Images], Images]) -> None:
        self._asked: SimpleQueue[Images | None] = SimpleQueue()
        self._answers: SimpleQueue[Images | Exception] = SimpleQueue()
        Thread(target=_serve, args=(protect, self._asked, self._answers), daemon=True, name="oracle").start()
        weakref.finalize(self, self._asked.put, None)

    def __call__(self, images: Images) -> Images:
        """uint8 [N, H, W, 3] -> the same shape. Raises ValueError for images that the scheme cannot take."""
        self._asked.put(images.copy())
        answer = self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _serve(protect: Callable[[Images], Images], asked: SimpleQueue[Any], answers: SimpleQueue[Any]) -> None:
    while (images := asked.get()) is not None:
        try:
            answers.put(protect(images))
        except ValueError as error:
            answers.put(ValueError(str(error)))  # without its traceback, whose frames know the key
