"""Stops version 0.1 in the middle of its jobs: each training with a checkpoint on disk, messages left in Redis."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import suppress
from typing import Any

import httpx
import psutil

from tests.upgrade.old_version import Api, dump_redis, wait_for, worker_of
from tests.upgrade.read_answers import read_answers
from tests.upgrade.small_settings import ITN, LONG_ITN, LONG_TN_GAN, TN_GAN, TN_MODEL
from tests.upgrade.state_writer import StateWriter

SAVE_S = 61.0  # the old version writes a checkpoint at the first step that ends 60 s after the last one


def interrupt_training(writer: StateWriter) -> None:
    """A cell and a key in the middle of their training, each with a checkpoint; their workers frozen.

    The key belongs to the other account, so that the scheduler prefers it to the cells that are still queued.
    """
    keys = writer.expected["keys"]
    with writer.stack.suspended("worker-attack-2"):
        evaluation = writer.order_evaluation(
            "half-finished",
            [{"name": "ele"}, {"name": "etc"}, {"name": "tn-gan", "key_id": keys["tn-gan"]["id"]}],
            [{"name": "none"}, {"name": "fr"}, LONG_ITN],
        )
        cells = writer.owner.get(f"/evaluations/{evaluation}")["cells"]
        cell_id = [cell["id"] for cell in cells if cell["attack"]["name"] == "itn"][1]
        cell_worker = freeze_at(writer, "cells", cell_id, 0.06)
        key_order = {**LONG_TN_GAN, "dataset": "sample"}
        key_id = writer.order_key("in-training", "tn-gan", key_order, 202, account="research")
    key_worker = freeze_at(writer, "keys", key_id, 0.2)
    writer.order_evaluation("waits-for-its-key", [{"name": "tn-gan", **TN_GAN, "epochs": 2}], [{"name": "none"}, ITN])
    time.sleep(SAVE_S)
    resume_until_checkpoint(writer, "cells", cell_id, cell_worker)
    resume_until_checkpoint(writer, "keys", key_id, key_worker)
    (row,) = writer.stack.rows("SELECT version FROM evaluations WHERE id = %s", evaluation)
    writer.expected["interrupted"] = {
        "key": read_interrupted(writer, "keys", key_id),
        "cell": {**read_interrupted(writer, "cells", cell_id), "last_event": row["version"]},
    }


def freeze_at(writer: StateWriter, table: str, id: str, progress: float, timeout_s: float = 600) -> psutil.Process:
    """Stop the process that works on a row as soon as it has come so far."""
    statement = f"SELECT progress, lease_owner FROM {table} WHERE id = %s AND status = 'running'"
    found: list[dict[str, Any]] = []

    def has_come_so_far() -> bool:
        found[:] = writer.stack.rows(statement, id)
        return bool(found) and found[0]["progress"] >= progress

    wait_for(has_come_so_far, f"{table} {id} at {progress}", timeout_s, pause_s=0.1)
    worker = worker_of(found[0]["lease_owner"])
    worker.suspend()
    return worker


def resume_until_checkpoint(writer: StateWriter, table: str, id: str, worker: psutil.Process) -> None:
    folder, began = writer.state / "blobs" / "checkpoints" / id, time.time()
    worker.resume()
    try:
        wait_for(
            lambda: any(file.stat().st_mtime > began for file in folder.rglob("*.ckpt")), f"a checkpoint of {id}",
            pause_s=0.01,
        )  # fmt: skip
    finally:
        worker.suspend()
    (row,) = writer.stack.rows(f"SELECT status FROM {table} WHERE id = %s", id)
    assert row["status"] == "running", row


def read_interrupted(writer: StateWriter, table: str, id: str) -> dict[str, Any]:
    (row,) = writer.stack.rows(f"SELECT status, progress, phase, attempt, lease_owner FROM {table} WHERE id = %s", id)
    epoch = re.search(r"epoch (\d+) of (\d+)", row["phase"])
    assert epoch is not None, row
    return {
        "id": id,
        "progress": row["progress"],
        "epoch": int(epoch[1]),
        "epochs": int(epoch[2]),
        "attempt": row["attempt"],
    }


def cut_power(writer: StateWriter) -> None:
    """Workers first, so that orders stay in Redis; then, with an image on its way, all the rest at once."""
    stack = writer.stack
    stack.freeze_supervisor()
    stack.write_checkpoint()
    stack.kill("worker-attack", "worker-attack-2", "worker-encrypt")
    writer.order_evaluation(
        "queued", [{"name": "tanaka", "variant": "icce2018"}], [{"name": "none"}, {"name": "fr"}], account="research",
        dataset="stones",
    )  # fmt: skip
    writer.order_key("queued", "tn-model", {**TN_MODEL, "dataset": writer.leaves}, 202)
    answers = {"local": read_answers(writer.owner), "research": read_answers(writer.research)}
    (writer.folder / "answers.json").write_text(json.dumps(answers, indent=0, sort_keys=True))
    for account, api in (("local", writer.owner), ("research", writer.research)):
        for evaluation in writer.expected["evaluations"].values():
            if evaluation["account"] == account:
                evaluation["status"] = api.get(f"/evaluations/{evaluation['id']}")["status"]

    in_flight = {"key": "encrypt-in-flight", "account": "local", "scheme": "ele", "image": "plain/00.png"}
    threading.Thread(target=send_in_flight, args=(writer, in_flight), daemon=True).start()
    with stack.redis() as client:
        wait_for(lambda: client.llen("encrypt") > 0, "the message of an encryption")
        (row,) = stack.rows("SELECT reserved FROM idempotency WHERE key = %s", in_flight["key"])
        writer.expected["in_flight"] = {**in_flight, "key_ids": row["reserved"]["keys"]}
        (writer.folder / "redis.json").write_text(json.dumps(dump_redis(client), indent=0, sort_keys=True))
    tables = [
        row["table_name"]
        for row in stack.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    ]
    writer.expected["rows"] = {
        table: stack.rows(f'SELECT count(*) FROM "{table}"')[0]["count"] for table in sorted(tables)
    }


def send_in_flight(writer: StateWriter, order: dict[str, str]) -> None:
    files = {"00.png": (writer.folder / "images" / order["image"]).read_bytes()}
    with suppress(httpx.HTTPError, AssertionError):  # the service is killed before a worker could answer
        Api(writer.stack.url, writer.stack.token).transform("encrypt", files, order["key"], scheme=order["scheme"])
