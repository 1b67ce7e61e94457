"""Block-wise transformations with one key for all blocks and images (MaungMaung and Kiya 2021) [C].

The authors' defence against adversarial examples and their protection of models use them. Every block is flattened in
(row, column, channel) order to D = 3 * M * M values. A key is a permutation k of 0..D-1. `shf` moves value k[j] to
place j. `np` inverts the values at the places with k > D / 2, which only D / 2 - 1 places are (23 of 48), so that the
order of k is lost. `ffx` replaces the values at these places by a secret table: format-preserving encryption of three
decimal digits. All values are then divided by the largest entry of the table, so the values that stay in clear fill
about a quarter of the range. As 8-bit images, several values become equal, so that `ffx` has no exact inverse.
"""

from __future__ import annotations

import hmac
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unveil.models.core import keystream
from unveil.models.core.blocks import from_blocks, to_blocks
from unveil.models.core.images import Images, quantise
from unveil.models.core.settings_schema import ParameterError, setting
from unveil.models.core.structure import BlockMap, BlockSubstitution, CiphertextFormat
from unveil.models.schemes.base import Scheme
from unveil.models.schemes.block_values import move_values
from unveil.models.schemes.key_json import check_fields, parse_integers, parse_permutation
from unveil.models.schemes.pair_solving import InconsistentPairs, SolvedKey, check_pairs, match_labels
from unveil.models.schemes.value_inverse import ValueInverse
from unveil.models.schemes.value_substitution import UNKNOWN, ValueSubstitution

_FEISTEL_ROUNDS = 10
_SYMBOLS = 1000  # of three decimal digits
_TYPICAL_LARGEST = 996  # entry of a table, the mean of the largest of 256
_MIN_LARGEST = 950  # one table in half a million has a smaller largest entry
_MAX_CLEAR_ERROR = 3  # grey levels of the 8-bit view: rounding, and a largest entry of 985 to 999
_MAX_BLOCKS = 20_000  # blocks of pairs compared


@dataclass(frozen=True)
class BlockwiseSettings:
    mode: Literal["shf", "np", "ffx"] = setting(
        "shf",
        "shf: the values of a block are permuted; np: nearly half of them are inverted; ffx: nearly half of them are "
        "replaced by format-preserving encryption",
    )
    block: int = setting(4, "Side of a block in pixels; the authors prefer 4", minimum=2, maximum=16)


@dataclass(frozen=True)
class ShuffleKey:
    """permutation: int64 [D], output value j of a block is input value permutation[j]."""

    permutation: npt.NDArray[np.int64]


@dataclass(frozen=True)
class InversionKey:
    """reversed: bool [D], whether a value of a block is inverted."""

    reversed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SubstitutionKey:
    """masked: bool [D], whether a value of a block is replaced; table: int64 [256], by what, in 0..999."""

    masked: npt.NDArray[np.bool_]
    table: npt.NDArray[np.int64]


BlockwiseKey = ShuffleKey | InversionKey | SubstitutionKey


class Blockwise(Scheme[BlockwiseSettings, BlockwiseKey]):
    """The values of each block are permuted (SHF), or nearly half are inverted (NP) or encrypted (FFX), by one key."""

    name = "blockwise"
    title = "Block-wise transformation"
    source = "MaungMaung, Kiya 2021 [C]"
    Settings = BlockwiseSettings

    @property
    def invertible(self) -> bool:
        return self.settings.mode != "ffx"

    @property
    def size_multiple(self) -> int:
        return self.settings.block

    @property
    def structure(self) -> BlockMap | BlockSubstitution:
        if self.settings.mode == "ffx":
            return BlockSubstitution(self.settings.block)
        moves = self.settings.mode == "shf"
        return BlockMap(self.settings.block, "value", units_move=moves, inverts=not moves)

    @property
    def ciphertext(self) -> CiphertextFormat:
        return CiphertextFormat("float32", 0, 1) if self.settings.mode == "ffx" else CiphertextFormat()

    @property
    def _values(self) -> int:
        return 3 * self.settings.block**2

    @property
    def _masked_values(self) -> int:
        """The number of entries of a permutation of 0..D-1 above D / 2."""
        return self._values - 1 - self._values // 2

    def key_space_bits(self, height: int, width: int) -> float:  # noqa: ARG002 - the same for every size
        """log2(D!); for np only log2 of the choices of places, 44.8 at block 4; ffx adds 1000! / 744! tables."""
        if self.settings.mode == "shf":
            return math.lgamma(self._values + 1) / math.log(2)
        masks = math.log2(math.comb(self._values, self._masked_values))
        return masks + (math.log2(math.perm(_SYMBOLS, 256)) if self.settings.mode == "ffx" else 0)

    def derive(self, seed: bytes, height: int, width: int) -> BlockwiseKey:  # noqa: ARG002 - one key for every size
        label = f"blockwise/{self.settings.block}"
        permutation = keystream.permutation(seed, f"{label}/permutation", self._values)
        if self.settings.mode == "shf":
            return ShuffleKey(permutation)
        masked = permutation > self._values / 2
        if self.settings.mode == "np":
            return InversionKey(masked)
        return SubstitutionKey(masked, ffx_table(keystream.derive_key(seed, f"{label}/password")))

    def encrypt(self, images: Images, key: BlockwiseKey) -> Any:
        if isinstance(key, SubstitutionKey):
            return self._substitute(images, key, _levels(key))
        return self._move(images, key, inverse=False)

    def encrypt_to_images(self, images: Images, key: BlockwiseKey) -> Images:
        if isinstance(key, SubstitutionKey):
            return self._substitute(images, key, quantise(_levels(key).astype(np.float64) * 255))
        return self._move(images, key, inverse=False)

    def decrypt(self, images: Images, key: BlockwiseKey) -> Images:
        """For ffx, the plain values that are closest to their neighbours among those that the ciphertext allows."""
        if isinstance(key, SubstitutionKey):
            return self._to_substitution(key).decrypt(images)
        return self._move(images, key, inverse=True)

    def _move(self, images: Images, key: ShuffleKey | InversionKey, *, inverse: bool) -> Images:
        identity, none = np.arange(self._values), np.zeros(self._values, np.bool_)
        if isinstance(key, InversionKey):
            return move_values(images, None, identity, key.reversed)
        return move_values(images, None, np.argsort(key.permutation) if inverse else key.permutation, none)

    def _substitute(self, images: Images, key: SubstitutionKey, levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """levels: [2, 256], what becomes of clear and of masked values."""
        blocks = to_blocks(images, self.settings.block)
        masked = key.masked.reshape(blocks.shape[2:])
        return from_blocks(np.where(masked, levels[1][blocks], levels[0][blocks]), images.shape)

    def _to_substitution(self, key: SubstitutionKey) -> ValueSubstitution:
        levels = quantise(_levels(key).astype(np.float64) * 255)
        side = self.settings.block
        return ValueSubstitution(
            key.masked.reshape(side, side, 3), levels[1].astype(np.intp), 255 * 255 / int(key.table.max())
        )

    def key_from_map(self, found: ValueInverse | ValueSubstitution) -> BlockwiseKey:
        """For ffx, a key with the 8-bit ciphertexts of the map: they determine the table up to two units."""
        if isinstance(found, ValueSubstitution):
            return SubstitutionKey(found.masked.ravel(), _fit_table(found.symbols, found.white))
        if self.settings.mode == "np":
            return InversionKey(found.negative.ravel())
        return ShuffleKey(np.argsort(found.values, axis=None).astype(np.int64))

    def key_agreement(self, key: BlockwiseKey, true_key: BlockwiseKey) -> dict[str, float]:
        """For ffx, tables are compared by their 8-bit ciphertexts, because these alone reach an attacker."""
        if isinstance(key, SubstitutionKey) and isinstance(true_key, SubstitutionKey):
            first, second = (quantise(_levels(each).astype(np.float64) * 255)[1] for each in (key, true_key))
            return {
                "masked": float((key.masked == true_key.masked).mean()),
                "table": float((first == second).mean()),
            }
        return super().key_agreement(key, true_key)

    def rule_violations(self, found: ValueInverse | ValueSubstitution) -> int:
        """By how many the inverted values of np differ from their number in every key, which the negative lacks."""
        if isinstance(found, ValueSubstitution) or self.settings.mode != "np":
            return 0
        return abs(int(found.negative.sum()) - self._masked_values)

    def solve_pairs(self, plain: Images, protected: Images) -> SolvedKey[BlockwiseKey]:
        """Raises InconsistentPairs, also for places of np or ffx whose values follow no rule of the mode."""
        check_pairs(plain, protected)
        inputs, outputs = (
            to_blocks(images, self.settings.block).reshape(-1, self._values)[:_MAX_BLOCKS]
            for images in (plain, protected)
        )
        if self.settings.mode == "shf":
            columns = [[column.tobytes() for column in values.T] for values in (inputs, outputs)]
            permutation, is_unique = match_labels(*columns)
            return SolvedKey(ShuffleKey(permutation), float(is_unique.mean()))
        if self.settings.mode == "np":
            flips = inputs ^ outputs
            if not np.isin(flips, (0, 255)).all() or (flips != flips[0]).any():
                raise InconsistentPairs("no choice of inverted values is consistent with the pairs")
            return SolvedKey(InversionKey(flips[0] == 255), 1.0)
        masked = np.any(np.abs(outputs - inputs * (255 / _TYPICAL_LARGEST)) > _MAX_CLEAR_ERROR, axis=0)
        symbols = np.full(256, UNKNOWN)
        symbols[inputs[:, masked]] = outputs[:, masked]
        if (symbols[inputs[:, masked]] != outputs[:, masked]).any():
            raise InconsistentPairs("no table of values is consistent with the pairs")
        side = self.settings.block
        white = 255 * 255 / _fit_largest(inputs[:, ~masked], outputs[:, ~masked])
        substitution = ValueSubstitution(masked.reshape(side, side, 3), symbols, white)
        return SolvedKey(
            self.key_from_map(substitution), float((symbols != UNKNOWN).mean()), decrypt=substitution.decrypt
        )

    def key_to_json(self, key: BlockwiseKey) -> dict[str, Any]:
        return {name: np.asarray(values).astype(int).tolist() for name, values in vars(key).items()}

    def key_from_json(self, material: Mapping[str, Any]) -> BlockwiseKey:
        fields = {"shf": ("permutation",), "np": ("reversed",), "ffx": ("masked", "table")}[self.settings.mode]
        check_fields(material, fields)
        if self.settings.mode == "shf":
            return ShuffleKey(parse_permutation(material, "permutation", self._values))
        flags = parse_integers(material, fields[0], self._values, 1).astype(np.bool_)
        if flags.sum() != self._masked_values:
            raise ParameterError([(f"/{fields[0]}", f"must contain {self._masked_values} times 1, otherwise 0")])
        if self.settings.mode == "np":
            return InversionKey(flags)
        table = parse_integers(material, "table", 256, _SYMBOLS - 1)
        if len(np.unique(table)) != len(table):
            raise ParameterError([("/table", "must contain different integers")])
        return SubstitutionKey(flags, table)


def _levels(key: SubstitutionKey) -> npt.NDArray[np.float32]:
    """[2, 256], what becomes of clear and of masked values, in 0..1."""
    return np.stack([np.arange(256), key.table]).astype(np.float32) / np.float32(key.table.max())


def _fit_largest(inputs: npt.NDArray[np.uint8], outputs: npt.NDArray[np.uint8]) -> int:
    """The largest entry of a table that explains most clear values and their 8-bit ciphertexts; of several the median.

    Clear values are divided by it.
    """
    entries = np.arange(_MIN_LARGEST, _SYMBOLS)
    shares = np.arange(256, dtype=np.float32) / entries.astype(np.float32)[:, None]
    levels = quantise(shares.astype(np.float64) * 255)
    counts = np.bincount((inputs.astype(np.intp) * 256 + outputs).ravel(), minlength=256 * 256).reshape(256, 256)
    explained = counts[np.arange(256), levels].sum(axis=1)
    best = entries[explained == explained.max()]
    return int(best[len(best) // 2])


def _fit_table(symbols: npt.NDArray[np.intp], white: float) -> npt.NDArray[np.int64]:
    """A table of different entries with these 8-bit symbols, as far as they are known, the largest of them included."""
    largest = round(255 * 255 / white)
    table, unused = np.full(256, -1, np.int64), set(range(largest + 1))
    for value in [*np.flatnonzero(symbols != UNKNOWN), *np.flatnonzero(symbols == UNKNOWN)]:
        wanted = largest if largest in unused and symbols[value] == UNKNOWN else symbols[value] * largest / 255
        table[value] = min(unused, key=lambda entry: abs(entry - wanted))
        unused.remove(int(table[value]))
    return table


def ffx_table(password: bytes) -> npt.NDArray[np.int64]:
    """Format-preserving encryption (FFX, method 2, HMAC-SHA1) of 0..255 as three decimal digits -> int64 [256]."""
    return np.array([_encrypt_digits(password, [value // 100, value // 10 % 10, value % 10]) for value in range(256)])


def _encrypt_digits(password: bytes, digits: list[int]) -> int:
    left, right = digits[:1], digits[1:]
    for round_index in range(_FEISTEL_ROUNDS):
        message = struct.pack(f"<{len(right) + 2}I", round_index, *right, 0)
        number = int.from_bytes(hmac.digest(password, message, "sha1"), "big")
        left, right = right, [(digit + number // 10**i) % 10 for i, digit in enumerate(left)]
    return int("".join(map(str, left + right)))
