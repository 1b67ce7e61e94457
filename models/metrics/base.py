"""The base class of metrics that compare reconstructions with their originals, image by image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images


class Metric(ABC):
    """A score of each reconstruction. Every cell that is scored reports it; no verdict depends on it."""

    name: ClassVar[str]
    title: ClassVar[str]  # the name if a class has none
    source: ClassVar[str] = ""
    api_version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True  # whether a higher score means a closer reconstruction

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "name" in vars(cls) and "title" not in vars(cls):
            cls.title = cls.name

    @abstractmethod
    def compute(self, originals: Images, reconstructed: Images) -> npt.NDArray[np.float64]:
        """The score of each image: two arrays uint8 [N, H, W, 3] -> float64 [N], all finite."""
