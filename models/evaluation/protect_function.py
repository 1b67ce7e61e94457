"""A callable as the scheme under audit: checks every answer, finds out whether it is deterministic."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unveil.models.core.images import Images

_BATCH = 64  # images a call
_PROBES = 4  # images that are protected twice to see whether the answers are equal


class InvalidScheme(Exception):
    """A callable or a scheme broke the rules of `protect`; the message names the image, the answer and the rule."""


@dataclass(frozen=True)
class ProtectFunction:
    """`function(images)`: uint8 [N, H, W, 3] -> the same shape and dtype, without changing its argument.

    key_per_image: each image is protected by a call of its own. Calls from several threads take turns.
    """

    function: Callable[[Images], Any]
    name: str
    key_per_image: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __call__(self, images: Images, first: int = 0) -> Images:
        """Protect images; `first` is the number of the first one, for errors. Raises InvalidScheme."""
        out = np.empty_like(images)
        step = 1 if self.key_per_image else _BATCH
        with self._lock:
            for start in range(0, len(images), step):
                out[start : start + step] = self._protect_batch(images[start : start + step], first + start)
        return out

    def is_randomised(self, images: Images) -> bool:
        """Whether it protects the same images differently in two calls, or alone differently than among others."""
        probes = images[:_PROBES]
        answers = [self(probes), self(probes), np.concatenate([self(image[None], i) for i, image in enumerate(probes)])]
        return any((answer != answers[0]).any() for answer in answers[1:])

    def _protect_batch(self, batch: Images, first: int) -> Images:
        given = batch.copy()
        try:
            answer = self.function(given)
        except (Exception, SystemExit) as error:
            where = self._first_failure(batch, first)
            raise InvalidScheme(
                f"{self.name} raised {type(error).__name__}: {error} on {where}; it must protect every image"
            ) from error
        where = _images_text(first, len(batch))
        expected = f"expected uint8 {list(batch.shape)}"
        if hasattr(answer, "detach"):
            try:
                answer = answer.detach().cpu().numpy()
            except Exception as error:  # such as a bfloat16 or a sparse tensor
                tensor = f"a tensor that is no NumPy array ({error})"
                raise InvalidScheme(f"{self.name} returned {tensor} for {where}; {expected}") from error
        if not isinstance(answer, np.ndarray):
            raise InvalidScheme(f"{self.name} returned {_describe(answer)} for {where}; {expected}")
        if answer.shape != batch.shape:
            raise InvalidScheme(f"{self.name} returned shape {list(answer.shape)} for {where}; {expected}")
        if answer.dtype != np.uint8:
            raise InvalidScheme(f"{self.name} returned {_describe_values(answer, first)}; {expected}")
        changed = np.flatnonzero((given != batch).reshape(len(batch), -1).any(axis=1))
        if len(changed):
            raise InvalidScheme(
                f"{self.name} changed its argument at image {first + changed[0]}; expected a new array: "
                "start with `images = images.copy()`"
            )
        return answer

    def _first_failure(self, batch: Images, first: int) -> str:
        """The first image on which a call alone raises; else the whole batch."""
        for index, image in enumerate(batch):
            try:
                self.function(image[None].copy())
            except (Exception, SystemExit):
                return f"image {first + index}"
        return _images_text(first, len(batch))


def _images_text(first: int, count: int) -> str:
    return f"image {first}" if count == 1 else f"images {first} to {first + count - 1}"


def _describe(answer: Any) -> str:
    return "None" if answer is None else f"a {type(answer).__name__}"


def _describe_values(answer: Any, first: int) -> str:
    """dtype and range of the first image whose values do not fit, with what to do."""
    values = answer.reshape(len(answer), -1)
    if answer.dtype.kind not in "iuf":
        return f"{answer.dtype} for image {first}"
    low, high = values.min(axis=1), values.max(axis=1)
    outside = np.flatnonzero(~((low >= 0) & (high <= 255)))
    index = int(outside[0]) if len(outside) else 0
    text = f"{answer.dtype} values from {low[index]:g} to {high[index]:g} for image {first + index}"
    if len(outside):
        return f"{text}, out of the range 0 to 255"
    return f"{text} (scale them to 0..255, round and convert with .astype(numpy.uint8))"
