"""The process of a plug-in attack: reads one attack input, runs the attack, writes its result. See `isolation`."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, BinaryIO

import numpy as np

from unveil.models.attacks.base import AttackInput, AttackResult, Pairs
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core.errors import ATTACK_FAILURES, AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.evaluation.attack_messages import Array, Message, receive, send
from unveil.models.evaluation.isolation import MAPS

_PR_SET_PDEATHSIG = 1  # sys/prctl.h


@dataclass(frozen=True)
class Pipe:
    """The connection to the cell."""

    read: BinaryIO
    write: BinaryIO

    def tell(self, kind: str, **values: Any) -> None:
        send(self.write, Message(kind, values))

    def ask(self, kind: str, array: Array | None = None, **values: Any) -> Array | None:
        """Send a request and return the array of its answer. Raises ValueError if it is refused."""
        send(self.write, Message(kind, values, [array]))
        answer = receive(self.read)
        if answer.kind == "refused":
            raise ValueError(answer.fields["detail"])
        return answer.arrays[0] if answer.arrays else None


@dataclass(frozen=True)
class RemoteCheckpoints:
    """The checkpoint store of the cell, over the pipe."""

    pipe: Pipe
    path: tuple[str, ...] = ()

    def read(self, name: str) -> bytes | None:
        data = self.pipe.ask("read", name=name, path=self.path)
        return None if data is None else data.tobytes()

    def write(self, name: str, data: bytes) -> None:
        try:
            self.pipe.ask("write", np.frombuffer(data, np.uint8), name=name, path=self.path)
        except ValueError as error:
            raise OSError(str(error)) from None

    def child(self, name: str) -> RemoteCheckpoints:
        return RemoteCheckpoints(self.pipe, (*self.path, name))


def run(pipe: Pipe) -> None:
    request = receive(pipe.read)
    values = request.fields
    name, settings = values["attack"]
    try:
        attack = make_attack(name, settings)
        result = attack.run(_attack_input(request, pipe), _context(values, pipe))
        send(pipe.write, _result_message(result, values["scheme"]))
    except AttackFailed as error:
        kind = next(kind.__name__ for kind in ATTACK_FAILURES if isinstance(error, kind))
        pipe.tell("failed", detail=str(error), failure=kind)
    except Exception as error:
        traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)} line {place.lineno}"  # noqa: PTH119
        pipe.tell("failed", detail=f"{name} raised {type(error).__name__} in {where}: {error}", failure="AttackFailed")


def _attack_input(request: Message, pipe: Pipe) -> AttackInput:
    targets, observed, public, plain, protected, labels, target_views = request.arrays
    assert targets is not None
    assert observed is not None

    def remote(kind: str) -> Any:
        def ask(images: Images) -> Array:
            answer = pipe.ask(kind, images)
            assert answer is not None
            return answer

        return ask if request.fields[kind] else None

    entry = request.fields["scheme"]
    return AttackInput(
        scheme=None if entry is None else make_scheme(*entry),
        targets=targets,
        observed=observed,
        public=public,
        pairs=None if plain is None or protected is None else Pairs(plain, protected),
        oracle=remote("oracle"),
        labels=labels,
        model=remote("model"),
        target_views=target_views,
    )


def _context(values: dict[str, Any], pipe: Pipe) -> RunContext:
    return RunContext(
        seed=values["seed"],
        device=values["device"],
        checkpoints=RemoteCheckpoints(pipe) if values["checkpoints"] else None,
        report=lambda fraction, phase: pipe.tell("report", fraction=float(fraction), phase=phase),
        metric=lambda name, step, value: pipe.tell("metric", name=name, step=int(step), value=float(value)),
        deadline=math.inf if values["seconds"] is None else time.monotonic() + values["seconds"],
        ablation=values["ablation"],
    )


def _result_message(result: AttackResult, scheme: list[Any] | None) -> Message:
    key = None
    if result.key is not None and scheme is not None:
        key = make_scheme(*scheme).key_to_json(result.key)
    known_map = type(result.inverse).__name__ in MAPS
    map_arrays = [getattr(result.inverse, part.name) for part in fields(result.inverse)] if known_map else []  # type: ignore[arg-type]
    values = {
        "key": key,
        "map": type(result.inverse).__name__ if known_map else None,
        "metrics": {name: float(value) for name, value in result.metrics.items()},
        "ablation": [[name, float(x)] for name, x, _ in result.ablation],
        "notes": [str(note) for note in result.notes],
        "ambiguity": result.ambiguity,
    }
    return Message("result", values, [result.reconstructed, *(images for _, _, images in result.ablation), *map_arrays])


def _end_with_parent() -> None:
    """A silent attack would outlive a killed worker: it reads and writes nothing and so never sees the broken pipe."""
    with suppress(OSError, AttributeError, TypeError):  # not Linux; TypeError: Windows loads no nameless library
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    _end_with_parent()
    # What the attack prints must not mix with the messages.
    write = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    run(Pipe(sys.stdin.buffer, write))


if __name__ == "__main__":
    main()
