"""After use of every feature: no key, network weight or token in clear in the database, on the disk, in a log."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import redis
import torch
from sqlalchemy import select, update

from tests.hostile.conftest import NO_RECEIVER, Target
from tests.jobs import run_cell
from tests.sample_images import archive, classes, png
from unveil.app.accounts.service import create_sign_in_code
from unveil.app.db.session import async_engine, async_sessions
from unveil.app.db.tables import Base, Cell, Key
from unveil.app.http.authentication import SESSION_COOKIE
from unveil.app.observability import failpoints
from unveil.app.observability.logging import json_formatter
from unveil.models.catalog import make_scheme
from unveil.models.core import checkpoints, serialization
from unveil.models.evaluation import cell as evaluation_cell
from unveil.worker import cells, jobs, key_loading, key_training

_MIN_SECRET_LENGTH = 16  # bytes that do not come twice by chance


def encodings(secret: bytes) -> Iterator[bytes]:
    """How bytes may stand in a file: as they are, in hex, in base64 wherever they begin, as numbers in JSON."""
    yield secret
    yield secret.hex().encode()
    for skipped in range(3):
        whole = len(secret[skipped:]) // 3 * 3
        yield base64.b64encode(secret[skipped : skipped + whole])
    for comma in (", ", ","):
        yield comma.join(map(str, secret)).encode()


def excerpts(name: str, secret: bytes) -> Iterator[tuple[str, bytes]]:
    """Short stretches that say much: whoever keeps a part of a secret is found too."""
    for at in {0, len(secret) // 3, len(secret) // 2, max(0, len(secret) - 48)}:
        piece = secret[at : at + 48]
        if len(set(piece)) >= _MIN_SECRET_LENGTH // 2 and len(piece) >= _MIN_SECRET_LENGTH:
            for spelt in encodings(piece):
                yield name, spelt


def tensors(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    for inner in state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ():
        yield from tensors(inner)


def find_secrets(places: Iterable[tuple[str, bytes]], secrets: Iterable[tuple[str, bytes]]) -> set[str]:
    """Thousands of texts in a hundred megabytes: look only where three bytes begin one of them."""
    begins: dict[bytes, list[tuple[str, bytes]]] = defaultdict(list)
    wanted = np.zeros(2**24, bool)
    for name, given in secrets:
        text = given.lstrip(given[:1])  # runs of one byte are everywhere
        if len(text) >= _MIN_SECRET_LENGTH:
            begins[text[:3]].append((name, text))
            wanted[int.from_bytes(text[:3], "little")] = True
    leaks = set()
    for place, held in places:
        for start in range(0, len(held), 2**22):
            part = np.frombuffer(held[start : start + 2**22 + 2], np.uint8).astype(np.uint32)
            codes = part[:-2] | part[1:-1] << 8 | part[2:] << 16
            for at in (start + np.flatnonzero(wanted[codes])).tolist():
                leaks |= {f"{name} in {place}" for name, text in begins[held[at : at + 3]] if held.startswith(text, at)}
    return leaks


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    """What this process logs, as the service writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_formatter())
    handler.addFilter(lambda record: record.name != "httpx")  # that is the caller
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def secrets(target: Target, log: io.StringIO) -> list[tuple[str, bytes]]:
    """Use it all; what nobody may find afterwards."""
    token = target.account("at rest")
    texts = {"token": token}
    networks: list[bytes] = []
    with target.client(token) as http:
        texts["token of a made account"] = http.post("/accounts", json={"name": "made", "scopes": ["read"]}).json()[
            "token"
        ]
        webhook = http.post("/webhooks", json={"url": NO_RECEIVER}, headers={"Idempotency-Key": "webhook"}).json()
        texts["secret of a webhook"] = webhook["secret"].removeprefix("whsec_")
        texts["sign-in code"] = asyncio.run(make_sign_in_code(target))
        browser = httpx.Client(base_url=target.url, headers={"Origin": target.url})
        with browser:
            page = browser.get("/sign-in", params={"code": texts["sign-in code"]}).text
            form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))
            assert browser.post("/sign-in", data=form).status_code == 303
            texts["session cookie"] = browser.cookies[SESSION_COOKIE]
        use_every_feature(http)
        dataset = http.post(
            "/datasets", data={"name": "mine", "size": "24"}, files={"archive": ("a.zip", archive(classes(12)))}
        ).json()["id"]
        params = {"profile": "smoke", "dataset": dataset}
        key = http.post("/keys", json={"scheme": "tn-gan", "params": params}).raise_for_status().json()["id"]
        target.worker.wait()
        assert http.get(f"/keys/{key}").json()["status"] == "ready"
        http.post("/encrypt", data={"key_id": key}, files={"images": ("a.png", png(1))}).raise_for_status()
        recovered_keys = run_attacks(target, http, dataset, key)
        target.worker.paused = True
        halted = http.post("/keys", json={"scheme": "tn-gan", "params": {**params, "seed": 1}}).json()["id"]
        networks += kill_at_first_checkpoint(target, Key, halted)
        order = {
            "schemes": [{"name": "pixelwise"}], "attacks": [{"name": "itn"}], "dataset": dataset,
            "profile": "smoke", "samples": 1, "keys": 1,
        }  # fmt: skip
        cell = http.post("/evaluations", json=order).raise_for_status().json()["cells"][0]["id"]
        networks += kill_at_first_checkpoint(target, Cell, cell)
        target.worker.paused = False
    known = [(name, spelt) for name, text in texts.items() for spelt in encodings(text.encode())]
    known += [
        ("bytes of a webhook's secret", each) for each in encodings(base64.b64decode(texts["secret of a webhook"]))
    ]
    for weight in networks:
        known += excerpts("a weight in training", weight)
    recovered = [each for key_json in recovered_keys for each in material_encodings("a recovered key", key_json)]
    return [*known, *recovered, *key_secrets(target), *keyring_secrets(target)]


def use_every_feature(http: httpx.Client) -> None:
    once = {"Idempotency-Key": "at-rest"}
    for scheme in ("pixelwise", "tanaka", "ele", "etc"):
        for _ in range(2):
            answer = http.post("/encrypt", data={"scheme": scheme}, files={"images": ("a.png", png(2))}, headers=once)
        once = {}
        image = answer.raise_for_status().json()["images"][0]
        back = {"images": ("b.png", base64.b64decode(image["data"]))}
        http.post("/decrypt", data={"key_id": image["key_id"]}, files=back).raise_for_status()
    exported = http.get(f"/keys/{image['key_id']}/material").raise_for_status().json()
    given = {name: exported[name] for name in ("scheme", "params", "material")}
    http.post("/keys", json=given, headers={"Idempotency-Key": "given"}).raise_for_status()


def run_attacks(target: Target, http: httpx.Client, dataset: str, key: str) -> list[dict[str, Any]]:
    """The keys that the attacks recovered."""
    order = {
        "schemes": [{"name": "pixelwise"}, {"name": "tanaka"}, {"name": "tn-gan", "key_id": key}],
        "attacks": [{"name": "none"}, {"name": "fr"}, {"name": "key-recovery"}, {"name": "chosen-plaintext"}],
        "dataset": dataset, "profile": "smoke", "samples": 1, "keys": 1,
    }  # fmt: skip
    evaluation = http.post("/evaluations", json=order).raise_for_status().json()
    recovered_keys = []
    compare = evaluation_cell._key_agreement

    def record(scheme: Any, secret: Any, attack_result: Any, *rest: Any) -> Any:
        if attack_result.key is not None:
            recovered_keys.append(scheme.key_to_json(attack_result.key))
        return compare(scheme, secret, attack_result, *rest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluation_cell, "_key_agreement", record)
        for cell in evaluation["cells"]:
            if cell["status"] == "queued":
                run_cell(target.runtime, cell["id"])
    for format in ("json", "html"):
        http.get(f"/evaluations/{evaluation['id']}/report.{format}").raise_for_status()
    assert recovered_keys
    return recovered_keys


def kill_at_first_checkpoint(target: Target, table: type[Key] | type[Cell], id: str) -> list[bytes]:
    """Kill the job at its first checkpoint; the weights in that."""

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == "checkpoint-written":
            raise Killed

    claim = key_training.claim if table is Key else cells.claim
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(failpoints, "failpoint", die)
        with pytest.raises(Killed):
            jobs.run_job(target.runtime, id, claim)
    with target.runtime.sessions.begin() as session:  # as the sweeper would
        session.execute(update(table).where(table.id == id).values(status="queued", lease_owner=None))
    again = claim(target.runtime, id)
    assert again is not None
    store = again.run_context(jobs.Reporter(again, None), 0).checkpoints
    assert store is not None
    names = target.runtime.blobs.list_recursive(again.checkpoint_folder)
    states = [checkpoints.load(store, name.removeprefix(f"{again.checkpoint_folder}/")) for name in names]
    inside = [
        tensor.reshape(-1).view(torch.uint8).numpy().tobytes()  # NumPy knows no bfloat16
        for state in states
        for tensor in tensors(state)
        if tensor.is_floating_point()
    ]
    assert len(inside) > 3
    return inside


def key_secrets(target: Target) -> Iterator[tuple[str, bytes]]:
    """Secrets of all keys, as stored and as exported."""
    with target.runtime.sessions() as session:
        has_secret = Key.encrypted_secret.is_not(None) | Key.wrapped_key.is_not(None)
        rows = session.scalars(select(Key).where(has_secret, Key.status == "succeeded")).all()
    assert len(rows) > 5
    for row in rows:
        secret = key_loading.decrypt_secret(target.runtime, row)
        scheme = make_scheme(row.scheme, row.params)
        if scheme.trains:
            network = scheme.key(secret, 24, 24)
            assert serialization.read_metadata(secret[1:])
            for tensor in network.state_dict().values():
                yield from excerpts(f"a weight of {row.scheme}", tensor.numpy().tobytes())
            continue
        yield from excerpts(f"a key of {row.scheme}", secret)
        material = scheme.key_to_json(scheme.key(secret, row.height or 24, row.width or 24))
        yield from material_encodings(row.scheme, material)


def material_encodings(name: str, material: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for part, value in material.items():
        if isinstance(value, str):
            yield from excerpts(f"{part} of {name}", base64.b64decode(value))
        elif isinstance(value, list):
            yield from number_list_encodings(f"{part} of {name}", value)


def number_list_encodings(name: str, values: list[Any]) -> Iterator[tuple[str, bytes]]:
    """Of a list of numbers, as JSON has it."""
    if len(set(map(str, values))) >= _MIN_SECRET_LENGTH:
        for comma in (", ", ","):
            yield name, comma.join(map(str, values[:24])).encode()


def keyring_secrets(target: Target) -> Iterator[tuple[str, bytes]]:
    for name, key in (("pepper", target.runtime.keyring.pepper), *target.runtime.keyring.master_keys.items()):
        yield from ((f"ring's {name}", spelt) for spelt in encodings(key))


async def make_sign_in_code(target: Target) -> str:
    engine = async_engine(target.settings)
    async with async_sessions(engine)() as session:
        from unveil.app.accounts.service import get

        account = await get(session, "at rest")
        code = await create_sign_in_code(session, target.runtime.keyring, account.id, 5)
    await engine.dispose()
    return code


def stored_texts(target: Target, log: io.StringIO, servers: Path) -> Iterator[tuple[str, bytes]]:
    """All that is kept: a dump of each table, blobs, Redis, logs, and the servers' own files."""
    yield "the log", log.getvalue().encode()
    with psycopg.connect(target.settings.database_url) as connection:
        for table in Base.metadata.sorted_tables:
            with connection.cursor().copy(f"COPY {table.name} TO STDOUT") as copy:
                yield f"table {table.name}", b"".join(map(bytes, copy))
    blobs = Path(target.settings.blob_url.removeprefix("file://"))
    for folder in (blobs, servers / "postgres", servers / "redis", servers / "logs"):
        for file in folder.rglob("*"):
            if file.is_file():
                yield f"{folder.name}/{file.relative_to(folder)}", file.read_bytes()
    with redis.Redis.from_url(target.settings.redis_url) as client:
        for key in client.scan_iter("*"):
            yield f"redis {key!r}", client.dump(key) or b""


def test_the_search_finds_what_lies_open() -> None:
    secret = bytes(range(7, 55))
    for text in (secret, secret.hex().encode(), b"x" + base64.b64encode(b"y" + secret), json.dumps([*secret]).encode()):
        assert find_secrets([("file", b"before" + text + b"after")], excerpts("it", secret)) == {"it in file"}


def test_no_secret_lies_open_after_use_of_every_feature(
    target: Target, log: io.StringIO, secrets: list[tuple[str, bytes]], server_state: Path
) -> None:
    held = dict(stored_texts(target, log, server_state))
    assert b"at rest" in held["table accounts"]
    assert "request_id" in held["the log"].decode()
    assert [name for name in held if name.startswith("blobs/checkpoints/")], "a network in training lies there"
    assert [name for name in held if name.startswith("blobs/keys/")], "a trained network lies there"
    assert len(secrets) > 500
    assert find_secrets(held.items(), secrets) == set()
