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
from unveil.models.core.run_context import Context
from unveil.models.training.loop import in_bf16

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])  # PyTorch is imported once
_GEMM = {"cpu": 1024, "cuda": 8192}  # a side


@dataclass(frozen=True)
class Lap:
    """One turn. memory: the peak so far in MB, beyond what stood before there was a network."""

    work: float  # images, or floating-point operations
    seconds: float
    memory: float
    flops: float = 0.0  # an image, where they were counted

    @property
    def rate(self) -> float:
        return self.work / self.seconds


@dataclass(frozen=True)
class Raced:
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


class Runner:
    """A process that goes on training while it is its turn."""

    def __init__(self, run: Callable[..., None], *args: Any) -> None:
        self.ours, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_child, args=(run, theirs, *args), daemon=run is not _peer)
        self.process.start()
        theirs.close()

    def lap(self) -> Lap:
        self.ours.send(None)
        lap: Lap = self.ours.recv()
        return lap

    def stop(self) -> None:
        self.ours.close()
        self.process.join()


def race(name: str, make: Callable[[], Case], device: str, seconds: float, laps: int) -> Raced:
    """The peer with the number of DataLoader workers, 0 or 2, that served it better."""
    ours = Runner(_ours, make, device, seconds)
    peers = {workers: Runner(_peer, make, device, seconds, workers) for workers in (0, 2)}
    gemm = Runner(_gemm, device, seconds / 4)
    runners = [ours, *peers.values(), gemm]
    try:
        rounds = [[runner.lap() for runner in runners] for _ in range(laps + 1)][1:]  # the first warms up
    finally:
        for runner in runners:
            runner.stop()
    own, *others, products = (list(column) for column in zip(*rounds, strict=True))
    workers, best = max(zip(peers, others, strict=True), key=lambda pair: _median(pair[1]))
    return Raced(
        name,
        make().images // STEPS,
        _median(own),
        _median(best),
        workers,
        statistics.median(a.rate / b.rate for a, b in zip(own, best, strict=True)),
        best[-1].flops / 1e9,
        statistics.median(a.rate * best[-1].flops / b.rate for a, b in zip(own, products, strict=True)),
        own[-1].memory,
        best[-1].memory,
    )


def _median(laps: list[Lap]) -> float:
    return statistics.median(lap.rate for lap in laps)


class _Turn:
    """Called after a piece of work; comes back when there is to be more. It is made when it is one's first turn."""

    def __init__(self, connection: Connection, device: str, seconds: float) -> None:
        self.connection, self.cuda, self.seconds = connection, device == "cuda", seconds
        self.before, self.flops = _resident(), 0.0
        self._wait()

    def __call__(self, work: float) -> None:
        self.work += work
        if time.perf_counter() - self.began < self.seconds:
            return
        if self.cuda:
            torch.cuda.synchronize()
        took = time.perf_counter() - self.began
        memory = torch.cuda.max_memory_allocated() / 1e6 if self.cuda else _resident() - self.before
        self.connection.send(Lap(self.work, took, memory, self.flops))
        self._wait()

    def _wait(self) -> None:
        self.connection.recv()
        self.began, self.work = time.perf_counter(), 0.0


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _child(run: Callable[..., None], connection: Connection, *args: Any) -> None:
    try:
        run(connection, *args)
    except EOFError:  # that was the last turn
        connection.close()


def _ours(connection: Connection, make: Callable[[], Case], device: str, seconds: float) -> None:
    case, turn = make(), _Turn(connection, device, seconds)

    def metric(name: str, step: int, value: float) -> None:  # noqa: ARG001
        if name in ("images_per_second", "network_images_per_second"):  # a network's, not that of its judge
            turn(case.images)

    case.ours(Context(device=device, metric=metric))


def _peer(connection: Connection, make: Callable[[], Case], device: str, seconds: float, workers: int) -> None:
    case, turn = make(), _Turn(connection, device, seconds)
    peer, where = case.peer(), torch.device(device)
    for network in peer.networks:
        network.to(where)
    bf16 = in_bf16("auto", where)
    for steps, batch in enumerate(peer.batches(workers, where), 1):
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            if not turn.flops:
                with FlopCounterMode(display=False) as counter:
                    peer.step(batch)
                turn.flops = counter.get_total_flops() / peer.batch
            else:
                peer.step(batch)
        if steps % STEPS == 0:
            peer.after_epoch()
            turn(case.images)


def _gemm(connection: Connection, device: str, seconds: float) -> None:
    turn, side = _Turn(connection, device, seconds), _GEMM[device]
    dtype = torch.bfloat16 if in_bf16("auto", torch.device(device)) else torch.float32
    a, b = torch.randn(2, side, side, dtype=dtype, device=device)
    while True:
        for _ in range(8):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        turn(8 * 2 * side**3)
