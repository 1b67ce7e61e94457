"""Two loops and a matrix product, each in a process of its own, train in turns, so that a drifting machine is fair."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training.cases import STEPS, Case
from unveil.models.core.run_context import RunContext
from unveil.models.training.loop import uses_bf16

_PROCESS_CONTEXT = multiprocessing.get_context("forkserver")
_PROCESS_CONTEXT.set_forkserver_preload([__name__])  # PyTorch is imported once
_GEMM = {"cpu": 1024, "cuda": 8192}  # a side


@dataclass(frozen=True)
class Measurement:
    """One turn. memory: the peak so far in MB, beyond what stood before there was a network."""

    work: float  # images, or floating-point operations
    seconds: float
    memory: float
    flops: float = 0.0  # an image, where they were counted

    @property
    def rate(self) -> float:
        return self.work / self.seconds


@dataclass(frozen=True)
class Comparison:
    """Medians; images a second, MB; share: of the fp32 (bfloat16 where trained in it) rate of one matrix product."""

    name: str
    batch: int
    ours: float
    peer: float
    workers: int
    ratio: float
    gflop: float
    share: float
    ours_memory: float
    peer_memory: float


class Trainer:
    """A process that goes on training while it is its turn."""

    def __init__(self, run: Callable[..., None], *args: Any) -> None:
        self.connection, child_connection = _PROCESS_CONTEXT.Pipe()
        self.process = _PROCESS_CONTEXT.Process(
            target=_run_child, args=(run, child_connection, *args), daemon=run is not _run_peer
        )
        self.process.start()
        child_connection.close()

    def measure(self) -> Measurement:
        self.connection.send(None)
        measurement: Measurement = self.connection.recv()
        return measurement

    def stop(self) -> None:
        self.connection.close()
        self.process.join()


def compare(name: str, make: Callable[[], Case], device: str, seconds: float, measurement_count: int) -> Comparison:
    """The peer with the number of DataLoader workers, 0 or 2, that served it better."""
    ours = Trainer(_run_ours, make, device, seconds)
    peers = {workers: Trainer(_run_peer, make, device, seconds, workers) for workers in (0, 2)}
    gemm = Trainer(_run_gemm, device, seconds / 4)
    runners = [ours, *peers.values(), gemm]
    try:
        rounds = [[runner.measure() for runner in runners] for _ in range(measurement_count + 1)][
            1:
        ]  # the first warms up
    finally:
        for runner in runners:
            runner.stop()
    our_measurements, *peer_measurements, gemm_measurements = (list(column) for column in zip(*rounds, strict=True))
    workers, best_peer = max(zip(peers, peer_measurements, strict=True), key=lambda pair: _median_rate(pair[1]))
    return Comparison(
        name,
        make().images // STEPS,
        _median_rate(our_measurements),
        _median_rate(best_peer),
        workers,
        statistics.median(a.rate / b.rate for a, b in zip(our_measurements, best_peer, strict=True)),
        best_peer[-1].flops / 1e9,
        statistics.median(
            a.rate * best_peer[-1].flops / b.rate for a, b in zip(our_measurements, gemm_measurements, strict=True)
        ),
        our_measurements[-1].memory,
        best_peer[-1].memory,
    )


def _median_rate(measurements: list[Measurement]) -> float:
    return statistics.median(measurement.rate for measurement in measurements)


class _TimeSlice:
    """Called after a piece of work; comes back when there is to be more. It is made when it is one's first turn."""

    def __init__(self, connection: Connection, device: str, seconds: float) -> None:
        self.connection, self.cuda, self.seconds = connection, device == "cuda", seconds
        self.memory_before, self.flops = _resident(), 0.0
        self._wait()

    def __call__(self, work: float) -> None:
        self.work += work
        if time.perf_counter() - self.began < self.seconds:
            return
        if self.cuda:
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - self.began
        memory = torch.cuda.max_memory_allocated() / 1e6 if self.cuda else _resident() - self.memory_before
        self.connection.send(Measurement(self.work, elapsed, memory, self.flops))
        self._wait()

    def _wait(self) -> None:
        self.connection.recv()
        self.began, self.work = time.perf_counter(), 0.0


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _run_child(run: Callable[..., None], connection: Connection, *args: Any) -> None:
    try:
        run(connection, *args)
    except EOFError:  # that was the last turn
        connection.close()


def _run_ours(connection: Connection, make: Callable[[], Case], device: str, seconds: float) -> None:
    case, time_slice = make(), _TimeSlice(connection, device, seconds)

    def metric(name: str, step: int, value: float) -> None:  # noqa: ARG001
        if name in (
            "images_per_second",
            "network_images_per_second",
        ):  # not those of the classifier that TN-model trains first
            time_slice(case.images)

    case.ours(RunContext(device=device, metric=metric))


def _run_peer(connection: Connection, make: Callable[[], Case], device: str, seconds: float, workers: int) -> None:
    case, time_slice = make(), _TimeSlice(connection, device, seconds)
    peer, torch_device = case.peer(), torch.device(device)
    for network in peer.networks:
        network.to(torch_device)
    bf16 = uses_bf16("auto", torch_device)
    for steps, batch in enumerate(peer.batches(workers, torch_device), 1):
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            if not time_slice.flops:
                with FlopCounterMode(display=False) as counter:
                    peer.step(batch)
                time_slice.flops = counter.get_total_flops() / peer.batch
            else:
                peer.step(batch)
        if steps % STEPS == 0:
            peer.after_epoch()
            time_slice(case.images)


def _run_gemm(connection: Connection, device: str, seconds: float) -> None:
    time_slice, side = _TimeSlice(connection, device, seconds), _GEMM[device]
    dtype = torch.bfloat16 if uses_bf16("auto", torch.device(device)) else torch.float32
    a, b = torch.randn(2, side, side, dtype=dtype, device=device)
    while True:
        for _ in range(8):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        time_slice(8 * 2 * side**3)
