"""Checks, over HTTP alone, that a service started on the old state folder lost nothing and goes on with its jobs.

The service must run with UNVEIL_IDEMPOTENCY_TTL_HOURS far above the age of the archive, so that it keeps the recorded
requests.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import redis

from tests.upgrade.old_state import OldState, pixels_of, pixels_sha256
from tests.upgrade.old_version import Api

PROSE = frozenset({"because", "detail", "note", "notes", "phase", "reason"})  # may be reworded
UNFINISHED = frozenset({"queued", "running", "training", "cancelling"})
TRAINED_TOLERANCE = 0.05  # SSIM of a network that another processor trained to its end
JOBS_TIMEOUT_S = 900.0


def check_upgrade(url: str, old: OldState, *, record: bool = False) -> dict[str, Any]:
    """All checks, in the only order in which they work. How the jobs ended; `record`: compare that with nothing yet."""
    apis = {name: Api(url, account["token"]) for name, account in old.expected["accounts"].items()}
    interrupted = old.expected["keys"]["in-training"]
    # From the start: a fast machine ends the training while the answers are still being compared.
    with watch_epochs(Api(url, old.expected["accounts"][interrupted["account"]]["token"]), interrupted["id"]) as epochs:
        check_accounts(apis, old)
        check_answers(apis, old)
        check_images(apis, old)
        check_repeated_requests(apis, old)
        ended = {**wait_for_jobs(apis, old), "key_epochs": sorted(epochs)}
    check_continued(apis, old, ended)
    if not record:
        check_ends(ended, old.expected["after"])
    for api in apis.values():
        api.client.close()
    return ended


def check_accounts(apis: dict[str, Api], old: OldState) -> None:
    """Old tokens keep their scopes, a revoked one stays revoked, and nobody sees what belongs to another account."""
    listed = {account["name"]: account for account in apis["local"].get("/accounts?limit=100")["items"]}
    for name, account in old.expected["accounts"].items():
        assert listed[name]["id"] == account["id"]
        assert listed[name]["scopes"] == account["scopes"]
        assert (listed[name]["revoked_at"] is not None) == (name == "former")
    apis["former"].request("GET", "/evaluations", 401)
    apis["reader"].request("GET", "/evaluations")
    apis["reader"].request("GET", "/keys", 403)
    for kind in ("keys", "evaluations"):
        for item in old.expected[kind].values():
            if item["account"] == "local":
                apis["research"].request("GET", f"/{kind}/{item['id']}", 404)


def check_answers(apis: dict[str, Api], old: OldState) -> None:
    """Every GET answers what the old version answered: fields may be added, none may be missing or differ."""
    for account, answers in old.answers.items():
        for path, answer in answers.items():
            _check_answer(apis[account], path, answer)
    for evaluation in old.expected["evaluations"].values():
        for kind in ("html", "json", "csv", "md", "zip"):
            apis[evaluation["account"]].request("GET", f"/evaluations/{evaluation['id']}/report.{kind}")
    destroyed = old.expected["keys"]["destroyed"]["id"]
    assert apis["local"].request("GET", f"/keys/{destroyed}", 410).json()["code"] == "key_destroyed"


def _check_answer(api: Api, path: str, old: Any) -> None:
    if path.endswith(".png"):
        assert pixels_sha256(api.request("GET", path).content) == old, path
    elif path.endswith("scores.csv"):
        new_rows, old_rows = (list(csv.DictReader(io.StringIO(text))) for text in (api.request("GET", path).text, old))
        assert_contains(new_rows, old_rows, path)
    elif path.endswith("/events"):
        assert _ids_and_types(api.request("GET", path).text) == _ids_and_types(old), path
    elif "?limit=" in path:
        new_items = {_name(item): item for item in api.get(path)["items"]}
        for item in old["items"]:
            assert _name(item) in new_items, f"{path} lacks {_name(item)}"
            if item.get("status") not in UNFINISHED:
                assert_contains(new_items[_name(item)], item, path)
    elif isinstance(old, dict) and old.get("status") in UNFINISHED:
        new = api.get(path)
        for new_cell, old_cell in zip(new.get("cells", []), old.get("cells", []), strict=True):
            if old_cell["status"] == "succeeded":
                assert_contains(new_cell, old_cell, path)
    else:
        assert_contains(api.get(path), old, path)


def assert_contains(new: Any, old: Any, at: str) -> None:
    """`new` holds all that `old` does: mappings by their names, sequences in order, numbers to the last digits."""
    if isinstance(old, dict):
        for name, value in old.items():
            assert name in new, f"{at}/{name} is missing"
            if name == "uses":
                assert new[name] >= value, f"{at}/{name}"
            elif name == "versions" and "cells" in old and not any(cell["result"] for cell in old["cells"]):
                continue  # of an evaluation without results: those of the running service
            elif name == "effective_bits" and old.get("training"):
                assert value is None, "version 0.1 gave none for trained keys"
                assert new[name] == _seed_bits(new), f"{at}/{name}"
            elif name == "progress" and "cells" in old:
                runnable = [cell for cell in old["cells"] if cell["status"] != "not_applicable"]
                dropped = len(old["cells"]) - len(runnable)  # version 0.1 counted cells that cannot be run
                expected = {**value, "done": value["done"] - dropped, "total": value["total"] - dropped}
                assert_contains(new[name], expected, f"{at}/{name}")
            elif name == "progress" and isinstance(value, dict):  # in a list, which has no cells to count
                unrunnable = value["total"] - new[name]["total"]
                assert 0 <= unrunnable == value["done"] - new[name]["done"], f"{at}/{name}"
            elif name not in PROSE:
                assert_contains(new[name], value, f"{at}/{name}")
    elif isinstance(old, list):
        assert len(new) == len(old), f"{at}: {len(new)} instead of {len(old)}"
        for number, (new_item, old_item) in enumerate(zip(new, old, strict=True)):
            assert_contains(new_item, old_item, f"{at}/{number}")
    elif isinstance(old, float) and not isinstance(new, bool):
        assert math.isclose(new, old, rel_tol=1e-9), f"{at}: {new} instead of {old}"
    else:
        assert new == old, f"{at}: {new!r} instead of {old!r}"


def _seed_bits(key: dict[str, Any]) -> int:
    """What the seed of a trained key is worth to a search."""
    if key["audit_only"]:
        return 0
    return 64 if key["training"]["seed"] is None else 53  # version 0.1 drew 64 bits


def _name(item: dict[str, Any]) -> str:
    return str(item.get("id") or item["name"])


def parse_events(text: str) -> list[dict[str, str]]:
    """The fields of every server-sent event, comments left out."""
    blocks = text.replace("\r\n", "\n").strip().split("\n\n")
    fields = [dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")) for block in blocks]
    return [event for event in fields if "id" in event]


def _ids_and_types(text: str) -> list[tuple[str, str]]:
    return [(event["id"], event["event"]) for event in parse_events(text)]


def check_images(apis: dict[str, Api], old: OldState) -> None:
    """What a stored key protected decrypts bit for bit, and the key protects the plain image to the same bytes."""
    for name, key in old.expected["keys"].items():
        for image in key["images"]:
            plain, protected = old.image(image["plain"]), old.image(image["protected"])
            assert pixels_sha256(plain) == image["plain_sha256"]
            assert pixels_sha256(protected) == image["protected_sha256"]
            if key["account"] == "former":
                continue
            api = apis[key["account"]]
            if name.startswith("destroyed"):
                form = {"files": [("images", ("a.png", protected))], "data": {"key_id": key["id"]}}
                assert api.request("POST", "/decrypt", 410, **form).json()["code"] == "key_destroyed"
                continue
            (again,) = api.transform("encrypt", {"a.png": plain}, key_id=key["id"])
            if key["scheme"].startswith("tn-"):  # floating point may differ by one level on another processor
                levels = pixels_of(again["png"]).astype(int) - pixels_of(protected)
                assert np.abs(levels).max() <= 1, name
                continue
            assert pixels_sha256(again["png"]) == image["protected_sha256"], name
            (decrypted,) = api.transform("decrypt", {"a.png": protected}, key_id=key["id"])
            assert pixels_sha256(decrypted["png"]) == image["plain_sha256"], name


def check_repeated_requests(apis: dict[str, Api], old: OldState) -> None:
    """An Idempotency-Key that the old version saw gets the old answer, or goes on under the ids that it reserved."""
    for request in old.expected["idempotency"]:
        response = apis[request["account"]].request(
            "POST",
            request["path"],
            request["status"],
            json=request["json"],
            headers={"Idempotency-Key": request["key"]},
        )
        assert response.headers["Idempotency-Replayed"] == "true", request["key"]
        assert response.json()["id"] == request["id"], request["key"]
        if request["path"] == "/accounts":
            assert response.json()["token"] == old.expected["accounts"][request["json"]["name"]]["token"]
    order = old.expected["in_flight"]
    files = {"00.png": old.image(order["image"])}
    (image,) = apis[order["account"]].transform("encrypt", files, order["key"], scheme=order["scheme"])
    assert [image["key_id"]] == order["key_ids"]


@contextmanager
def watch_epochs(api: Api, key_id: str) -> Iterator[set[int]]:
    """The epochs that a key in training reports meanwhile."""
    epochs: set[int] = set()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            epochs.update(_epochs(api.get(f"/keys/{key_id}")["phase"] or ""))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield epochs
    finally:
        is_over.set()
        thread.join()
        api.client.close()


def wait_for_jobs(apis: dict[str, Api], old: OldState, timeout_s: float = JOBS_TIMEOUT_S) -> dict[str, Any]:
    """How every evaluation and every training ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        evaluations, keys = _ends(apis, old)
        statuses = [end["status"] for end in (*evaluations.values(), *keys.values())]
        if not UNFINISHED & set(statuses):
            break
        assert time.monotonic() < deadline, f"not all ended in {timeout_s:.0f} s: {evaluations} {keys}"
        time.sleep(0.3)
    return {"evaluations": evaluations, "keys": keys}


def _ends(apis: dict[str, Api], old: OldState) -> tuple[dict[str, Any], dict[str, Any]]:
    evaluations, keys = {}, {}
    for name, evaluation in old.expected["evaluations"].items():
        now = apis[evaluation["account"]].get(f"/evaluations/{evaluation['id']}")
        cells = [
            {
                "id": cell["id"], "attack": cell["attack"]["name"], "status": cell["status"],
                "ssim": cell["result"] and (cell["result"]["ssim"] or {}).get("mean"),
            }
            for cell in now["cells"]
        ]  # fmt: skip
        evaluations[name] = {"status": now["status"], "cells": cells}
    for name, key in old.expected["keys"].items():
        if key["account"] != "former" and not name.startswith("destroyed"):
            now = apis[key["account"]].get(f"/keys/{key['id']}")
            test = (now["provenance"] or {}).get("test")
            keys[name] = {"status": now["status"], "ssim": test and test["ssim"]}
    return evaluations, keys


def check_continued(apis: dict[str, Api], old: OldState, ended: dict[str, Any]) -> None:
    """The interrupted trainings went on from their checkpoints: no epoch before the last one that was reported."""
    interrupted = old.expected["interrupted"]
    _check_epochs(ended["key_epochs"], interrupted["key"])
    evaluation = old.expected["evaluations"]["half-finished"]
    path = f"/evaluations/{evaluation['id']}"
    headers = {"Last-Event-ID": str(interrupted["cell"]["last_event"])}
    events = parse_events(apis["local"].request("GET", f"{path}/events", headers=headers).text)
    of_the_cell = [
        event["data"] for event in events if json.loads(event["data"]).get("cell") == interrupted["cell"]["id"]
    ]
    _check_epochs(sorted(_epochs(" ".join(of_the_cell))), interrupted["cell"])
    cells = {cell["id"]: cell for cell in apis["local"].get(path)["cells"]}
    curves = apis["local"].get(f"{path}/cells/{interrupted['cell']['id']}/curve")
    for name, points in curves.items():  # those of the epochs before the crash are in the checkpoint
        assert [step for step, _ in points] == [*range(1, interrupted["cell"]["epochs"] + 1)], name
    assert cells[interrupted["cell"]["id"]]["attempt"] == interrupted["cell"]["attempt"] + 1


def _epochs(text: str) -> set[int]:
    return {int(number) for number in re.findall(r"epoch (\d+) of \d+", text)}


def _check_epochs(epochs: list[int], interrupted: dict[str, Any]) -> None:
    assert epochs, f"{interrupted['id']}: no epoch was reported"
    assert epochs[0] >= interrupted["epoch"], f"{interrupted['id']} began again at epoch {epochs[0]}"


def check_ends(ended: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every job ended as the old version ended it, with the same figures."""
    for kind in ("evaluations", "keys"):
        for name, end in expected[kind].items():
            now = ended[kind][name]
            assert now["status"] == end["status"], f"{name}: {now}"
            for new, old in zip(now.get("cells", [now]), end.get("cells", [end]), strict=True):
                assert new["status"] == old["status"], f"{name}: {new}"
                assert (new["ssim"] is None) == (old["ssim"] is None), f"{name}: {new}"
                if old["ssim"] is not None:
                    assert abs(new["ssim"] - old["ssim"]) <= TRAINED_TOLERANCE, f"{name}: {new} instead of {old}"


def check_messages_gone(client: redis.Redis, old: OldState) -> None:
    """No message of the old version waits in Redis any longer, after all jobs have ended."""
    for name, entry in old.redis.items():
        if entry["type"] == "list":
            waiting = {base64.b64encode(message).decode() for message in client.lrange(name, 0, -1)}
            assert not waiting & set(entry["value"]), f"old messages in {name}"
