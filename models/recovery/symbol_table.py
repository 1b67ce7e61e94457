"""The symbol that replaces each plain value, from how often symbols occur beside predictions of plain values [M].

Expectation maximisation undoes the blur of the predictions, so that the occurrences of a symbol become peaks at its
plain values. Every plain value has one symbol: in ascending order, the peaks belong to the values 0, 1, 2, ... Moves
and swaps of single values then maximise the likelihood of all occurrences.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unveil.models.core.run_context import OnStep
from unveil.models.schemes.value_substitution import UNKNOWN

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

_VALUES = np.arange(256)
_ERRORS = (0.5, 0.75, 1.1, 1.6, 2.4, 3.6, 5.4, 8.0, 12.0)  # grey levels: scales of the errors of predictions
_FIRST_ERROR = 4  # index of the scale with which every class starts
_ITERATIONS, _RESCALE_EVERY = 50, 5
_SMOOTHING = 17  # values over which the shares of plain values are averaged
_MIN_PEAK = 0.03  # of the mean share of a plain value
_PEAK_GAP = 2  # values between two peaks of a symbol
_MAX_RUN = 3  # neighbouring values that share a symbol
_SHARE_ERROR, _NO_PEAK_ERROR = 0.4, 0.25  # of a peak, relative to the mean share of a value
_MISSING_COST = 6.0  # of a plain value without a peak
_FLOOR = 1e-7  # density of occurrences that no value explains
_CANDIDATES, _REACH = 4, 3  # symbols that a value may move to: its most likely ones, and those of its neighbours
_SWEEPS = 3
_MIN_EVIDENCE = 60.0  # gain in log-likelihood that a value needs to keep its symbol


def match_symbols(counts: Floats, on_step: OnStep = lambda: None) -> Integers:
    """Occurrences [classes, symbol, predicted value], each class with errors of its own -> the symbol of each plain
    value or UNKNOWN [256].
    """
    by_class = [np.ascontiguousarray(each.T) for each in counts]  # [predicted, symbol]
    joint, kernels = _deconvolve(by_class, on_step)
    fit = _Fit(by_class, kernels, joint.sum(1).astype(np.float64), _align_peaks(joint))
    for _ in range(_SWEEPS):
        on_step()
        moved = [fit.move(value, _move_candidates(joint, fit.symbols, value)) for value in _VALUES.tolist()]
        swapped = [fit.swap(value, value + step) for step in (1, 2) for value in range(256 - step)]
        if not any(moved) and not any(swapped):
            break
    return np.array(
        [symbol if fit.evidence(value) > _MIN_EVIDENCE else UNKNOWN for value, symbol in enumerate(fit.symbols)]
    )


def _deconvolve(by_class: list[Floats], on_step: OnStep) -> tuple[Floats, list[Floats]]:
    """Shares of the occurrences [plain value, symbol], and the kernel [predicted, plain] of each class."""
    all_kernels = [_kernel(error) for error in _ERRORS]
    kernels = [all_kernels[_FIRST_ERROR]] * len(by_class)
    total = max(float(sum(counts.sum() for counts in by_class)), 1.0)
    joint = np.full((256, 256), 1 / 256**2, np.float32)
    for iteration in range(1, _ITERATIONS + 1):
        on_step()
        joint = joint * sum(
            kernel.T @ (counts / np.maximum(kernel @ joint, 1e-12))
            for kernel, counts in zip(kernels, by_class, strict=True)
        )
        joint /= np.float32(total)
        if iteration % _RESCALE_EVERY == 0:
            logs = [np.log(np.maximum(kernel @ joint, 1e-12)) for kernel in all_kernels]
            kernels = [
                all_kernels[int(np.argmax([float((counts * log).sum()) for log in logs]))] for counts in by_class
            ]
    return joint, kernels


def _kernel(error: float) -> Floats:
    """The density of predictions around plain values, [predicted, plain], with heavy tails for edges."""
    kernel = 1 / (1 + (np.abs(_VALUES[:, None] - _VALUES) / error) ** 3)
    return (kernel / kernel.sum(0)).astype(np.float32)


def _align_peaks(joint: Floats) -> Integers:
    """The symbols of all plain values: the peaks in ascending order cover the values in ascending order.

    Dynamic programming over the values that the peaks so far cover. A peak covers no value if it is faint, and several
    if it is as high as several.
    """
    padded = np.pad(joint.sum(1).astype(np.float64), _SMOOTHING // 2, mode="edge")
    share = np.convolve(padded, np.full(_SMOOTHING, 1 / _SMOOTHING), "valid") + 1e-12
    peaks = _find_peaks(joint, share)
    costs = np.full((len(peaks) + 1, 257), np.inf)
    taken = np.zeros(costs.shape, np.intp)  # values that a peak covers, or -1 for a value without a peak
    costs[0, 0] = 0
    for row, (place, height, _) in enumerate(peaks, 1):
        relative = height / float(np.interp(place, _VALUES, share))
        for run in range(_MAX_RUN + 1):
            before = costs[row - 1, : 257 - run]
            middle = np.arange(257 - run) + (run - 1) / 2
            cost = (
                (place - middle) ** 2 + ((relative - run) / _SHARE_ERROR) ** 2
                if run
                else (relative / _NO_PEAK_ERROR) ** 2
            )
            better = before + cost < costs[row, run:]
            costs[row, run:][better] = (before + cost)[better]
            taken[row, run:][better] = run
        for value in range(1, 257):
            if costs[row, value - 1] + _MISSING_COST < costs[row, value]:
                costs[row, value], taken[row, value] = costs[row, value - 1] + _MISSING_COST, -1
    symbols, row, end = np.full(256, UNKNOWN), len(peaks), 256
    while row:
        run = taken[row, end]
        if run < 0:
            end -= 1
            continue
        symbols[end - run : end] = peaks[row - 1][2]
        row, end = row - 1, end - run
    return symbols


def _find_peaks(joint: Floats, share: Doubles) -> list[tuple[float, float, int]]:
    """The place, height and symbol of each peak, by place."""
    peaks = []
    for symbol in range(256):
        column = joint[:, symbol]
        high = np.flatnonzero(column > _MIN_PEAK * share)
        for group in np.split(high, np.flatnonzero(np.diff(high) > _PEAK_GAP) + 1):
            if len(group):
                values = np.arange(max(0, group[0] - _PEAK_GAP), min(255, group[-1] + _PEAK_GAP) + 1)
                height = float(column[values].sum())
                peaks.append((float((column[values] * values).sum()) / height, height, symbol))
    return sorted(peaks)


def _move_candidates(joint: Floats, symbols: Integers, value: int) -> set[int]:
    likely = np.argsort(-joint[value])[:_CANDIDATES].tolist()
    near = symbols[max(0, value - _REACH) : value + _REACH + 1].tolist()
    return {int(symbol) for symbol in (*likely, *near) if symbol != UNKNOWN}


class _Fit:
    """The log-likelihood of all occurrences, by symbol, as symbols are assigned to plain values.

    share: of each plain value [256]. symbols: of each plain value, or UNKNOWN [256].
    """

    def __init__(self, by_class: list[Floats], kernels: list[Floats], share: Doubles, symbols: Integers) -> None:
        self.symbols = symbols
        self._counts = np.concatenate(by_class).T.astype(np.float64)  # [symbol, classes * predicted]
        self._densities = np.concatenate(kernels).T * (share[:, None] + 1e-9)  # [plain, classes * predicted]
        self._members = {symbol: set(np.flatnonzero(symbols == symbol).tolist()) for symbol in range(256)}
        self._scores = [self._score(symbol, self._members[symbol]) for symbol in range(256)]

    def _score(self, symbol: int, members: set[int]) -> float:
        return float(self._counts[symbol] @ np.log(self._densities[sorted(members)].sum(0) + _FLOOR))

    def evidence(self, value: int) -> float:
        """How much less likely the occurrences are if the value loses its symbol."""
        symbol = int(self.symbols[value])
        if symbol == UNKNOWN:
            return 0.0
        return self._scores[symbol] - self._score(symbol, self._members[symbol] - {value})

    def move(self, value: int, candidates: set[int]) -> bool:
        """Give the value the candidate with the largest gain, if any gains."""
        old = int(self.symbols[value])
        loss = self.evidence(value)
        gains = {
            symbol: self._score(symbol, self._members[symbol] | {value}) - self._scores[symbol]
            for symbol in candidates - {old}
        }
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= loss + 1e-6:
            return False
        if old != UNKNOWN:
            self._assign(old, self._members[old] - {value})
        self._assign(best, self._members[best] | {value})
        self.symbols[value] = best
        return True

    def swap(self, first: int, second: int) -> bool:
        """Exchange the symbols of two values if that gains."""
        a, b = int(self.symbols[first]), int(self.symbols[second])
        if a == b or UNKNOWN in (a, b):
            return False
        of_a, of_b = self._members[a] - {first} | {second}, self._members[b] - {second} | {first}
        if self._score(a, of_a) + self._score(b, of_b) <= self._scores[a] + self._scores[b] + 1e-6:
            return False
        self._assign(a, of_a)
        self._assign(b, of_b)
        self.symbols[first], self.symbols[second] = b, a
        return True

    def _assign(self, symbol: int, members: set[int]) -> None:
        self._members[symbol], self._scores[symbol] = members, self._score(symbol, members)
