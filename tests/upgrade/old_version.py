"""Runs `unveil local` of version 0.1 as an operator does, and breaks it: freezes and kills its processes.

Imports nothing of the product. The interpreter that runs this module decides which version runs.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import redis
from psycopg import conninfo
from psycopg.rows import dict_row

UNVEIL = Path(sys.executable).with_name("unveil")
START_TIMEOUT_S = 180.0


def environment(**settings: str) -> dict[str, str]:
    """This process's own, without settings of Unveil but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UNVEIL_", "PYTHON"))}
    return {**kept, "UNVEIL_DEVICE": "cpu", **settings}


class OldStack:
    """One `unveil local` on a state folder. Every command runs in the state folder's parent, never in a checkout."""

    def __init__(self, state: Path, *options: str, environment: dict[str, str]) -> None:
        self.state = state
        state.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [UNVEIL, "local", "--state", state, "--port", "0", *options],
            cwd=state.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        output = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            output.append(line)
            if "sign-in?code=" in line:
                break
        else:
            raise RuntimeError(f"unveil local did not start:\n{''.join(output)}")
        self.sign_in_link = output[-1].split()[-1]
        self.url = self.sign_in_link.split("/sign-in")[0]
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # keeps the pipe from filling up

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    @property
    def addresses(self) -> dict[str, str]:
        """UNVEIL_DATABASE_URL, UNVEIL_REDIS_URL and the other settings of the running stack."""
        lines = (self.state / "secrets" / "environment").read_text().splitlines()
        return {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)}

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.addresses["UNVEIL_DATABASE_URL"], row_factory=dict_row) as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(self.addresses["UNVEIL_REDIS_URL"]) as client:
            yield client

    @contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """Meanwhile this part does nothing."""
        family = self._family(name)
        for process in family:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def write_checkpoint(self) -> None:
        """Let both servers tidy up, for a small archive: what follows is all that a crash leaves to be recovered.

        PostgreSQL begins a new segment of its log; the old one, which it keeps for later use, is deleted. Redis writes
        its append-only file anew, without what has expired.
        """
        password = (self.state / "secrets" / "postgres-password").read_text().strip()
        address = conninfo.make_conninfo(self.addresses["UNVEIL_DATABASE_URL"], user="postgres", password=password)
        with psycopg.connect(address, autocommit=True) as admin:
            admin.execute("SELECT pg_switch_wal()")
            admin.execute("CHECKPOINT")
            (current,) = admin.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone() or ()
        for segment in (self.state / "postgres" / "pg_wal").glob("0*"):
            if segment.name != current:
                segment.unlink()
        with self.redis() as client:
            client.bgrewriteaof()
            wait_for(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the append-only file")

    def freeze_supervisor(self) -> None:
        """From now on a killed process stays dead."""
        psutil.Process(self._process.pid).suspend()

    def kill(self, *names: str) -> None:
        """SIGKILL to the processes of these parts (api, worker-attack, postgres ...) and to all their children."""
        for name in names:
            try:
                family = self._family(name)
            except psutil.NoSuchProcess:  # killed before
                continue
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            wait_for(lambda family=family: not any(map(_is_alive, family)), f"the end of {name}")

    def _family(self, name: str) -> list[psutil.Process]:
        leader = psutil.Process(int((self.state / "run" / f"{name}.pid").read_text().split()[0]))
        return [leader, *leader.children(recursive=True)]

    def kill_all(self) -> None:
        """SIGKILL to everything, as if the machine lost its power."""
        self.freeze_supervisor()
        self.kill(*(path.stem for path in (self.state / "run").glob("*.pid")))
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        """In order, as Ctrl-C does."""
        self._process.terminate()
        self._process.wait(90)


class Api:
    """The HTTP API as one account uses it, at the rate it allows. A status that was not expected is an error."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120)

    def request(self, method: str, path: str, status: int = 200, **options: Any) -> httpx.Response:
        while (answer := self.client.request(method, path, **options)).status_code == 429 != status:
            time.sleep(float(answer.headers["Retry-After"]))
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    def get(self, path: str) -> Any:
        return self.request("GET", path).json()

    def post(self, path: str, body: Any, status: int, idempotency_key: str | None = None) -> Any:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self.request("POST", path, status, json=body, headers=headers).json()

    def transform(self, operation: str, files: dict[str, bytes], idempotency_key: str = "", **fields: Any) -> Any:
        """The images of POST /encrypt or /decrypt, each with its PNG under `png`."""
        answer = self.request(
            "POST", f"/{operation}", data=fields,
            files=[("images", (name, content, "image/png")) for name, content in files.items()],
            headers={"Idempotency-Key": idempotency_key} if idempotency_key else {},
        )  # fmt: skip
        return [{**image, "png": base64.b64decode(image.pop("data"))} for image in answer.json()["images"]]

    def wait_for_evaluation(self, id: str, timeout_s: float = 900) -> Any:
        path = f"/evaluations/{id}"
        wait_for(lambda: self.get(path)["finished_at"] is not None, f"the end of {path}", timeout_s)
        return self.get(path)

    def wait_for_key(self, id: str, timeout_s: float = 600) -> Any:
        path = f"/keys/{id}"
        wait_for(lambda: self.get(path)["status"] not in ("training", "cancelling"), f"the end of {path}", timeout_s)
        return self.get(path)


def dump_redis(client: redis.Redis) -> dict[str, Any]:
    """Every key of a Redis, values in base64: lists in their order, hashes, sets, sorted sets, strings."""
    read: dict[str, Callable[[bytes], Any]] = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    dump = {}
    for key in sorted(client.scan_iter()):
        kind = client.type(key).decode()
        dump[key.decode()] = {"type": kind, "value": _encoded(read[kind](key))}
    return dump


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {_encoded(key): _encoded(inner) for key, inner in value.items()}
    if isinstance(value, set):
        return sorted(map(_encoded, value))
    return [_encoded(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 120.0, pause_s: float = 0.2) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(pause_s)


def worker_of(lease_owner: str) -> psutil.Process:
    """The process that holds a lease: its owner is HOST/PID/RANDOM."""
    found = re.fullmatch(r".+/(\d+)/\w+", lease_owner)
    assert found is not None, lease_owner
    return psutil.Process(int(found[1]))


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
