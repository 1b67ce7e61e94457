"""Codebooks: equal plain blocks give equal ciphertext blocks, as under a block cipher in ECB mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.structural.layouts import Layout, Rows
from unveil.models.structural.reader import Known
from unveil.models.structural.unit_map import column_hashes

_MIN_REPEATS = 5  # plain rows that are equal to an earlier one
_MIN_CONSISTENT_SHARE = 0.999


@dataclass(frozen=True)
class Codebook:
    """hashes: of the known ciphertext rows, ascending; rows: their plain rows."""

    layout: Layout
    hashes: npt.NDArray[np.uint64]
    rows: Rows

    conclusive: ClassVar[bool] = True

    @property
    def description(self) -> str:
        known = f"{len(self.hashes)} entries known"
        return f"each {self.layout.title} is encrypted on its own by one fixed codebook, as in ECB mode ({known})"

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        hashes = row_hashes(self.layout.split(ciphertexts))
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        found = self.hashes[place] == hashes
        rows = np.where(found[:, None], self.rows[place], np.uint8(128))
        known = np.broadcast_to(found[:, None], rows.shape)
        shape = ciphertexts.shape
        return (
            self.layout.join(rows, shape).astype(np.uint8, copy=False),
            self.layout.join(known, shape).astype(np.bool_, copy=False),
        )


def row_hashes(rows: Rows) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row."""
    return column_hashes(np.ascontiguousarray(rows.T))


def find_codebook(layout: Layout, plain: Images, protected: Images) -> Codebook | None:
    """The codebook of pairs uint8 [N, H, W, 3]; None: hardly a plain row repeats, or equal ones differ encrypted."""
    inputs, outputs = layout.split(plain), layout.split(protected)
    plain_hashes, cipher_hashes = row_hashes(inputs), row_hashes(outputs)
    order = np.argsort(plain_hashes, kind="stable")
    ordered_plain, ordered_cipher = plain_hashes[order], cipher_hashes[order]
    same_plain = ordered_plain[1:] == ordered_plain[:-1]
    if same_plain.sum() < _MIN_REPEATS:
        return None
    consistent = ordered_cipher[1:][same_plain] == ordered_cipher[:-1][same_plain]
    if consistent.mean() < _MIN_CONSISTENT_SHARE:
        return None
    codes, first = np.unique(cipher_hashes, return_index=True)
    return Codebook(layout, codes, inputs[first])
