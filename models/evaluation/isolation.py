"""Runs plug-in attacks in a process of their own that receives the serialised attack input and nothing else.

Neither the key nor the originals of the targets are in the memory of that process. The oracle, the owner's model, the
checkpoints and the progress are served over its pipes. The process runs as the same user: it is a boundary against
mistakes in an attack, not against hostile code.
"""

from __future__ import annotations

import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.catalog import origin_of
from unveil.models.core.checkpoints import CheckpointStore
from unveil.models.core.errors import ATTACK_FAILURES, AttackFailed
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.evaluation.attack_messages import Message, receive, send
from unveil.models.recovery.chosen_plaintext import NibbleMap
from unveil.models.registry import PLUGINS_VARIABLE
from unveil.models.schemes.pixelwise import PixelwiseKey
from unveil.models.schemes.tanaka import NibblePermutation

MAPS: dict[str, type[Any]] = {cls.__name__: cls for cls in (PixelwiseKey, NibblePermutation, NibbleMap)}

_FAILURE_BY_NAME = {failure.__name__: failure for failure in ATTACK_FAILURES}
_CANCEL_POLL_S = 0.5
# Everything else of the environment, such as passwords and the place of the keyring, stays out.
_ENVIRONMENT = {
    PLUGINS_VARIABLE, "PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_CACHE_DIR",
}  # fmt: skip


def run_attack(attack: Attack[Any], attack_input: AttackInput, context: RunContext) -> AttackResult:
    """Run an attack here, or in a process of its own if it is a plug-in. Raises AttackFailed, Cancelled."""
    origin = origin_of("attack", attack.name)
    if origin is None or origin.distribution == "unveil":
        return attack.run(attack_input, context)
    process = subprocess.Popen(
        [sys.executable, "-m", "unveil.models.evaluation.attack_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
    )
    stdin, stdout = cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)
    messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                messages.put(receive(stdout))
        except (EOFError, ValueError, OSError):
            messages.put(None)

    reader = threading.Thread(target=read, daemon=True, name="attack-process-reader")
    try:
        reader.start()
        send(stdin, _request(attack, attack_input, context))
        return _serve(process, stdin, messages, attack, attack_input, context)
    except BrokenPipeError:
        raise AttackFailed(f"the process of {attack.name} ended before it read its input") from None
    finally:
        process.kill()
        process.wait()
        reader.join()
        stdin.close()
        stdout.close()


def _request(attack: Attack[Any], attack_input: AttackInput, context: RunContext) -> Message:
    scheme, pairs = attack_input.scheme, attack_input.pairs
    fields = {
        "attack": [attack.name, vars(attack.settings)],
        "scheme": None if scheme is None else [scheme.name, vars(scheme.settings)],
        "oracle": attack_input.oracle is not None,
        "model": attack_input.model is not None,
        "checkpoints": context.checkpoints is not None,
        "seed": context.seed,
        "device": context.device,
        "ablation": context.ablation,
        "seconds": None if math.isinf(context.deadline) else context.deadline - time.monotonic(),
    }
    pair_arrays = (None, None) if pairs is None else (pairs.plain, pairs.protected)
    arrays = (attack_input.targets, attack_input.observed, attack_input.public, *pair_arrays, attack_input.labels)
    arrays = (*arrays, attack_input.target_views)
    return Message("run", fields, arrays)


def _serve(
    process: subprocess.Popen[bytes],
    stdin: BinaryIO,
    messages: queue.SimpleQueue[Message | None],
    attack: Attack[Any],
    attack_input: AttackInput,
    context: RunContext,
) -> AttackResult:
    """Answer the process until it has a result."""
    progress = (0.0, "starting")
    while True:
        try:
            message = messages.get(timeout=_CANCEL_POLL_S)
        except queue.Empty:
            context.report(*progress)  # lets a cancellation in although the attack is silent
            continue
        if message is None:
            raise AttackFailed(f"the process of {attack.name} ended without a result, exit code {process.wait()}")
        fields = message.fields
        match message.kind:
            case "report":
                progress = (float(fields["fraction"]), str(fields["phase"]))
                context.report(*progress)
            case "metric":
                context.metric(fields["name"], fields["step"], fields["value"])
            case "oracle":
                send(stdin, _answer_query(message, attack_input.oracle))
            case "model":
                send(stdin, _answer_query(message, attack_input.model))
            case "read" | "write":
                send(stdin, _answer_checkpoint(message, context.checkpoints))
            case "failed":
                raise _FAILURE_BY_NAME[fields["failure"]](fields["detail"])
            case "result":
                return _result(message, attack, attack_input)


def _answer_query(message: Message, function: Callable[[Images], Any] | None) -> Message:
    if function is None:
        return Message("refused", {"detail": f"the threat model of this attack has no {message.kind}"})
    try:
        return Message("answer", {}, [function(_required(message.arrays[0]))])
    except ValueError as error:
        return Message("refused", {"detail": str(error)})


def _answer_checkpoint(message: Message, store: CheckpointStore | None) -> Message:
    assert store is not None
    for name in message.fields["path"]:
        store = store.child(name)
    if message.kind == "read":
        data = store.read(message.fields["name"])
        return Message("answer", {}, [None if data is None else np.frombuffer(data, np.uint8)])
    try:
        store.write(message.fields["name"], _required(message.arrays[0]).tobytes())
    except OSError as error:
        return Message("refused", {"detail": str(error)})
    return Message("answer")


def _required(array: Any) -> Any:
    assert array is not None
    return array


def _result(message: Message, attack: Attack[Any], attack_input: AttackInput) -> AttackResult:
    """The result, checked: another program wrote it. Raises AttackFailed."""
    fields = message.fields
    reconstructed, *rest = cast("list[Any]", message.arrays)
    shape = attack_input.images.shape
    if reconstructed is not None and (reconstructed.dtype != np.uint8 or reconstructed.shape != shape):
        raise AttackFailed(
            f"{attack.name} returned {reconstructed.dtype} {list(reconstructed.shape)} as `reconstructed`; expected "
            f"uint8 {list(shape)}, an image for each target"
        )
    points, map_arrays = rest[: len(fields["ablation"])], rest[len(fields["ablation"]) :]
    key = None
    if fields["key"] is not None and attack_input.scheme is not None:
        key = attack_input.scheme.key_from_json(fields["key"])
    return AttackResult(
        reconstructed=reconstructed,
        inverse=MAPS[fields["map"]](*map_arrays) if fields["map"] else None,
        key=key,
        metrics=fields["metrics"],
        ablation=[(name, x, images) for (name, x), images in zip(fields["ablation"], points, strict=True)],
        notes=tuple(fields["notes"]),
        ambiguity=fields["ambiguity"],
    )
