"""Unit maps: every unit of a row of the ciphertext is a function of one unit of the same row of the plain image.

This covers permutations of values, nibbles and bits, chaotic maps, shifts of rows and columns, keystreams that are used
twice, and substitutions, in any combination. The source of a unit is found by a signature: the part of its sequence
over the pairs that the family of functions leaves unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core.images import Images
from unveil.models.structural.layouts import UNIT_NAMES, Bits, Layout, Rows, from_units, to_units
from unveil.models.structural.reader import Known

# identity; XOR with a constant; addition of a constant; any substitution
Family = Literal["moved", "xor", "add", "substituted"]
Integers = npt.NDArray[np.int64]

_SIGNATURE_ROWS, _SIGNATURE_UNITS = 96, 400_000  # the first at least, as many as the second allows
_LABELLED_ROWS = 48  # of the signature of substitutions, which compares every row with every earlier one
_TABLE_VALUES = 4_000_000  # of shared maps, from which tables are filled
_MIN_MATCHED_SHARE = 0.02
_MIN_POOLED_SHARE = 0.9
_AFFINE_ROWS = 32
_ODD = np.arange(1, 256, 2, dtype=np.uint8)


@dataclass(frozen=True)
class UnitMap:
    """source: of each unit of a ciphertext row, its unit in the plain row, -1 where it has none.

    tables: int16 [units, 2**bits] or [1, 2**bits], from the ciphertext unit to the plain unit, -1 where it is open.
    family: as it is described; shared: whether one row map serves several rows of an image.
    """

    layout: Layout
    bits: Bits
    family: str
    source: Integers
    tables: npt.NDArray[np.int16]
    shared: bool

    conclusive: ClassVar[bool] = False

    @property
    def description(self) -> str:
        unit = UNIT_NAMES[self.bits]
        found = self.source >= 0
        in_place = (self.source == np.arange(len(self.source)))[found].all()
        share = found.mean()
        subject = f"all {unit}s" if share > 0.999 else f"{100 * share:.0f} % of the {unit}s"
        place = "stay in place" if in_place else "move to other positions"
        where = f" of their {self.layout.title}, alike in all of them" if self.shared else ""
        return f"{subject} {place}{where}{_FAMILY_TEXT[self.family]}"

    def read(self, ciphertexts: Images) -> tuple[Images, Known]:
        units = to_units(self.layout.split(ciphertexts), self.bits)
        used = np.flatnonzero(self.source >= 0)
        table_rows = np.minimum(used, len(self.tables) - 1)
        values = self.tables[table_rows, units[:, used]]
        plain = np.full(units.shape, -1, np.int16)
        plain[:, self.source[used]] = values
        known = plain >= 0
        middle = 2 ** (self.bits - 1)  # the middle of the range, for units that stay open
        rows = from_units(np.where(known, plain, middle).astype(np.uint8), self.bits)
        # A value counts as known if its upper unit is, which decides its brightness.
        upper = np.logical_and.reduce(known.reshape(*rows.shape, -1)[..., : max(1, 4 // self.bits)], axis=-1)
        shape = ciphertexts.shape
        return (
            self.layout.join(rows, shape).astype(np.uint8, copy=False),
            self.layout.join(upper, shape).astype(np.bool_, copy=False),
        )


_FAMILY_TEXT: Mapping[str, str] = {
    "moved": "",
    "xor": " and are XORed with a fixed key",
    "add": " and a fixed key is added",
    "affine": " under a separate affine map a p + b modulo 256 for each position",
    "substituted": " under a separate substitution for each position",
    "one substitution": " under one substitution for all",
}


def find_unit_map(
    layout: Layout, bits: Bits, family: Family, plain: Images, protected: Images, *, in_place: bool = False
) -> UnitMap | None:
    """The unit map that pairs uint8 [N, H, W, 3] determine, without the units that have no source; None: hardly any.

    in_place: units may not move.
    """
    inputs, outputs = layout.split(plain), layout.split(protected)
    shared = len(inputs) > len(plain)
    units = inputs.shape[1] * 8 // bits
    rows = _LABELLED_ROWS if family == "substituted" else max(_SIGNATURE_ROWS, _SIGNATURE_UNITS // units)
    if shared:
        chosen = np.random.default_rng(0).permutation(len(inputs))[: max(rows, _TABLE_VALUES // inputs.shape[1])]
        inputs, outputs = inputs[chosen], outputs[chosen]
    signatures = [_signature(to_units(part[:rows], bits), bits, family) for part in (inputs, outputs)]
    source = _match(*signatures, in_place=in_place)
    if (source >= 0).mean() < _MIN_MATCHED_SHARE:
        return None
    inputs, outputs = to_units(inputs, bits), to_units(outputs, bits)
    if family == "substituted" and (table := _pooled_table(inputs, outputs, source, bits)) is not None:
        decoded = table[outputs[:_SIGNATURE_ROWS]].astype(np.uint8)  # and tells apart what the labels do not
        source = _match(column_hashes(inputs[:_SIGNATURE_ROWS]), column_hashes(decoded), in_place=in_place)
        return UnitMap(layout, bits, "one substitution", source, table[None], shared)
    name, tables = _make_tables(inputs, outputs, source, bits, family)
    return UnitMap(layout, bits, name, source, tables, shared)


def _signature(units: Rows, bits: Bits, family: Family) -> npt.NDArray[np.uint64]:
    """A hash for each unit of what the functions of the family leave unchanged."""
    if family == "moved":
        invariant = units
    elif family == "xor":
        invariant = units ^ units[0]
    elif family == "add":
        invariant = units - units[0] & np.uint8(2**bits - 1)
    else:  # the row in which each value of the sequence occurs first
        invariant = np.empty_like(units)
        for row in range(len(units)):
            invariant[row] = (units[: row + 1] == units[row]).argmax(axis=0)
    return column_hashes(invariant)


def column_hashes(rows: Rows) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each column: a random linear form modulo 2**64."""
    multipliers = np.random.default_rng(1).integers(1, 2**63, len(rows), np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray(multipliers @ rows.astype(np.uint64))


def _match(inputs: npt.NDArray[np.uint64], outputs: npt.NDArray[np.uint64], *, in_place: bool) -> Integers:
    """For each output an input with the same hash: its own place if that fits, or else the n-th of the n-th."""
    places = np.arange(len(outputs))
    stays = inputs == outputs
    if in_place:
        return np.where(stays, places, -1)
    return np.where(stays, places, match_hashes(inputs, outputs))


def match_hashes(inputs: npt.NDArray[np.uint64], outputs: npt.NDArray[np.uint64]) -> Integers:
    """For each output an input with the same hash, among several the n-th for the n-th output; -1: no such input."""
    order = np.argsort(inputs, kind="stable")
    ordered = inputs[order]
    first, end = np.searchsorted(ordered, outputs, "left"), np.searchsorted(ordered, outputs, "right")
    sizes = end - first
    out_order = np.argsort(outputs, kind="stable")
    rank = np.empty(len(outputs), np.int64)
    rank[out_order] = np.arange(len(outputs)) - np.searchsorted(outputs[out_order], outputs[out_order], "left")
    found = order[np.minimum(first + rank % np.maximum(sizes, 1), len(order) - 1)]
    return np.where(sizes > 0, found, -1)


def _make_tables(
    inputs: Rows, outputs: Rows, source: Integers, bits: Bits, family: Family
) -> tuple[str, npt.NDArray[np.int16]]:
    values = np.arange(2**bits, dtype=np.int16)
    if family == "moved":
        return "moved", values[None]
    used = np.flatnonzero(source >= 0)
    plain, cipher = inputs[:, source[used]], outputs[:, used]
    tables = np.full((len(source), 2**bits), -1, np.int16)
    if family == "xor":
        key = cipher[0] ^ plain[0]
        tables[used] = values ^ key[:, None]
        return "xor" if key.any() else "moved", tables
    if family == "add":
        tables[used] = values - (cipher[0] - plain[0]).astype(np.int16)[:, None] & 2**bits - 1
        return "add", tables
    if bits == 8:
        a, b, fits = _solve_affine(plain, cipher)
        if fits.mean() > 0.5:
            inverse = np.array([pow(int(odd), -1, 256) for odd in _ODD], np.uint8)[(a - 1) // 2]
            tables[used] = ((values.astype(np.uint8)[None] - b[:, None]) * inverse[:, None]).astype(np.int16)
            tables[used[~fits]] = -1
            return "affine", tables
    for row_plain, row_cipher in zip(plain, cipher, strict=True):
        tables[used, row_cipher] = row_plain
    return "substituted", tables


def _pooled_table(inputs: Rows, outputs: Rows, source: Integers, bits: Bits) -> npt.NDArray[np.int16] | None:
    """One table for all units, if most agree on it: units that the labels do not tell apart can be mistaken."""
    used = np.flatnonzero(source >= 0)
    codes = outputs[:, used].astype(np.int64) << 8 | inputs[:, source[used]]
    joint = np.bincount(codes.ravel(), minlength=2 ** (bits + 8)).reshape(2**bits, 256)
    if joint.max(axis=1).sum() < _MIN_POOLED_SHARE * joint.sum():
        return None
    return np.where(joint.sum(axis=1) > 0, joint.argmax(axis=1), -1).astype(np.int16)


def _solve_affine(plain: Rows, cipher: Rows) -> tuple[Rows, Rows, npt.NDArray[np.bool_]]:
    """Per unit the odd a and the b with cipher = a plain + b modulo 256, and whether there are any."""
    dp, dc = (rows[:_AFFINE_ROWS] - rows[0] for rows in (plain, cipher))
    a, fits = np.ones(plain.shape[1], np.uint8), np.zeros(plain.shape[1], np.bool_)
    for odd in _ODD:
        fit = ~fits & (dp * odd == dc).all(axis=0)
        a[fit], fits[fit] = odd, True
    return a, cipher[0] - a * plain[0], fits
