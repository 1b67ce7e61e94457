"""`unveil local`: the whole service on one machine, with its state in one folder.

    DIR/postgres  DIR/redis  DIR/blobs  DIR/data    the data, and the sockets of both servers
    DIR/secrets/                                    passwords, keyring; `environment` for other commands (mode 0700)
    DIR/token  DIR/address                          the bearer token (0600), and the address of the service
    DIR/photo.png                                   a photograph for the first steps
    DIR/logs/  DIR/run/                             one log and one pid file for each process

UNVEIL_DATABASE_URL and UNVEIL_REDIS_URL replace the local servers. The demo and the tests use LocalStack directly.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.accounts import service as accounts
from unveil.app.db.session import async_engine, async_sessions
from unveil.app.local.servers import Postgres, Redis, restrict_permissions, write_secret
from unveil.app.local.supervisor import ChildProcess, spawn, wait_until
from unveil.app.security.envelope import Keyring, load_keyring, new_keyring
from unveil.app.settings import OLD_NAMES, Settings, variable_name

_OWNER_NAME = "local"
_STOP_TIMEOUT_S = 20.0
_MAX_RESTART_DELAY_S = 30.0


class AlreadyRunning(RuntimeError):
    """The folder is in use by another stack, or the port by another process."""


@dataclass
class _Service:
    """A process that is restarted when it exits, at the earliest `restart_delay` seconds after its last start."""

    child: ChildProcess
    started: float
    restart_delay: float = 1.0


class LocalStack:
    def __init__(
        self,
        state: Path,
        port: int = 8000,
        *,
        durable: bool = True,
        attack_workers: int = 1,
        environment: Mapping[str, str] | None = None,
        start_timeout_s: float = 150.0,
    ) -> None:
        """`port`: 0 picks a free one. `durable=False` is for tests. `environment` overrides variables of this process.

        `start_timeout_s` allows for a busy machine with cold disks; a start usually takes 10 s.
        """
        self.state = state.absolute()
        self.port = port or _pick_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment: dict[str, str] = {}
        self._durable, self._attack_workers, self._start_timeout_s = durable, attack_workers, start_timeout_s
        self._extra_environment = environment or {}
        self.has_token = True  # False: the account or the token of DIR/token is revoked
        self._lock_file: IO[str] | None = None
        self._servers: dict[str, Postgres | Redis] = {}  # by the variable of their address
        self._services: dict[str, _Service] = {}

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    @property
    def settings(self) -> Settings:
        """The settings of the processes of this stack."""
        variables = {variable_name(name) for name in (*Settings.model_fields, *OLD_NAMES.values())}
        values = {name: value for name, value in self.environment.items() if name in variables}
        return Settings.model_validate(values)

    # --- start and stop ---

    @contextmanager
    def servers(self) -> Iterator[Mapping[str, str]]:
        """Start only PostgreSQL and Redis, for a command on a stopped stack; yields the environment of the command.

        Raises AlreadyRunning.
        """
        restrict_permissions(self.state)
        self._lock_file = _acquire_lock(self.state / "secrets" / "lock")
        try:
            yield self._environment()
        finally:
            self.stop()

    def start(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop API and workers, then the servers. Kill what does not stop in time; its jobs resume later."""
        for service in self._services.values():
            service.child.terminate()
        for service in self._services.values():
            service.child.wait(_STOP_TIMEOUT_S)
        for server in reversed(self._servers.values()):
            server.stop()
        self._services, self._servers = {}, {}
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _start(self) -> None:
        if not (self.state / "secrets").exists():
            _require_free_port(self.port)  # before the folder is created
        restrict_permissions(self.state)
        self._lock_file = _acquire_lock(self.state / "secrets" / "lock")
        _require_free_port(self.port)
        (self.state / "address").write_text(f"{self.url}\n")
        self.environment = self._environment()
        self._migrate()
        asyncio.run(self._ensure_owner())
        for name in self._commands():
            self._services[name] = _Service(self._spawn(name), time.monotonic())
        wait_until(
            self.is_ready, "the service", self._start_timeout_s, *(service.child for service in self._services.values())
        )

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **self._extra_environment}
        for variable, server in (("UNVEIL_DATABASE_URL", Postgres), ("UNVEIL_REDIS_URL", Redis)):
            if variable not in environment:
                self._servers[variable] = server(self.state, durable=self._durable).start()
                environment[variable] = self._servers[variable].url
        keyring_path = self.state / "secrets" / "keyring"
        if not keyring_path.exists():
            write_secret(keyring_path, new_keyring().dumps().strip())
        (self.state / "data").mkdir(exist_ok=True)
        _copy_sample_photo(self.state / "photo.png")
        environment.setdefault("UNVEIL_KEYRING_FILE", str(keyring_path))
        environment.setdefault("UNVEIL_BLOB_URL", (self.state / "blobs").as_uri())
        environment.setdefault("UNVEIL_DATA_DIR", str(self.state / "data"))
        self._write_environment_file(environment)
        return environment

    def _write_environment_file(self, environment: Mapping[str, str]) -> None:
        """Write the settings for `--state` of other commands."""
        own_settings = {name: value for name, value in environment.items() if name.startswith("UNVEIL_")}
        lines = [f"{name}={shlex.quote(value)}" for name, value in sorted(own_settings.items())]
        write_secret(self.state / "secrets" / "environment", "\n".join(lines))

    def _migrate(self) -> None:
        migration = subprocess.run(
            [sys.executable, "-m", "unveil.app.db.migrate"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if migration.returncode != 0:
            raise RuntimeError(f"the migration failed:\n{migration.stderr[-2000:]}")

    async def _ensure_owner(self) -> None:
        """Create the account of DIR/token. The file comes first, so that a start after a kill creates the account."""
        token = self.state / "token"
        if not token.exists():
            write_secret(token, accounts.new_token())
        async with self._session() as (session, keyring):
            self.has_token = await accounts.ensure_local_token(session, keyring, _OWNER_NAME, self.token)

    async def _sign_in_code(self) -> str:
        async with self._session() as (session, keyring):
            owner = await accounts.get(session, _OWNER_NAME)
            return await accounts.create_sign_in_code(
                session, keyring, owner.id, self.settings.sign_in_code_ttl_minutes
            )

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[AsyncSession, Keyring]]:
        engine = async_engine(self.settings)
        async with async_sessions(engine)() as session:
            yield session, load_keyring(self.settings)
        await engine.dispose()

    def sign_in_link(self) -> str:
        """A link that opens the dashboard once."""
        return f"{self.url}/sign-in?code={asyncio.run(self._sign_in_code())}"

    # --- processes ---

    def _commands(self) -> dict[str, list[str]]:
        python = [sys.executable, "-m"]
        worker = [*python, "celery", "--app", "unveil.worker.main", "worker", "--loglevel", "INFO", "--without-gossip",
                  "--without-mingle"]  # fmt: skip
        return {
            "api": [sys.executable, "-c", "from unveil.app.cli import main; main()", "serve", "--port", str(self.port)],
            # The sweeper shares this worker, because in an attack worker it would wait for trainings of hours.
            "worker-encrypt": [*worker, "--queues", "encrypt,ops", "--hostname", "encrypt@%h",
                               "--concurrency", str(max(2, min(4, os.cpu_count() or 2)))],
            **{
                f"worker-{name}": [*worker, "--queues", "attack", "--hostname", f"{name}@%h", "--concurrency", "1"]
                for name in ["attack", *(f"attack-{number}" for number in range(2, self._attack_workers + 1))]
            },
        }  # fmt: skip

    def stop_service(self, name: str) -> None:
        """Stop a process until `start_service`."""
        self._services.pop(name).child.stop()

    def start_service(self, name: str, **environment: str) -> ChildProcess:
        """Start a stopped process; a restart forgets `environment`."""
        self._services[name] = _Service(self._spawn(name, environment), time.monotonic())
        return self._services[name].child

    def _spawn(self, name: str, environment: Mapping[str, str] | None = None) -> ChildProcess:
        thread_limits = {}
        if name.startswith("worker-attack"):  # all attack workers together use each core once
            thread_limits["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // self._attack_workers))
        return spawn(
            name,
            self._commands()[name],
            run_dir=self.state / "run",
            log_path=self.state / "logs" / f"{name}.log",
            env={**thread_limits, **self.environment, **(environment or {})},
        )

    def is_ready(self) -> bool:
        """Whether the service is ready and every queue has a worker."""
        try:
            response = httpx.get(f"{self.url}/health/ready", timeout=5)
        except httpx.HTTPError:
            return False
        return response.is_success and "none on" not in response.json()["parts"]["workers"]["detail"]

    def restart_exited(self) -> list[str]:
        """Restart exited processes, and return their names. The delay doubles for a process that keeps exiting."""
        for server in self._servers.values():
            if server.child is not None and not server.child.running:
                server.start()
                return [server.name]
        restarted = []
        for name, service in self._services.items():
            uptime = time.monotonic() - service.started
            if not service.child.running and uptime >= service.restart_delay:
                delay = 1.0 if uptime > _MAX_RESTART_DELAY_S else min(2 * service.restart_delay, _MAX_RESTART_DELAY_S)
                self._services[name] = _Service(self._spawn(name), time.monotonic(), delay)
                restarted.append(name)
        return restarted


def _copy_sample_photo(path: Path) -> None:
    """One of scikit-image's photographs, which this process does not import."""
    spec = importlib.util.find_spec("skimage")
    if path.exists() or spec is None or spec.origin is None:
        return
    shutil.copyfile(Path(spec.origin).parent / "data" / "chelsea.png", path)


def run_until_signal(state: Path, port: int, attack_workers: int) -> int:
    """Run the command `unveil local`; return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _handle_first_signal)
    stack = LocalStack(state, port, attack_workers=attack_workers)
    try:
        with stack:
            if stack.has_token:
                print(f"Unveil is ready at {stack.url}/  (API token: {stack.state}/token)")
                print(f"Dashboard, for one sign-in: {stack.sign_in_link()}", flush=True)
            else:
                print(f"Unveil is ready at {stack.url}/")
                print(
                    f"The account or the token of {stack.state}/token is revoked and stays so. For another account: "
                    f"unveil accounts create NAME --state {stack.state}",
                    flush=True,
                )
            while True:
                time.sleep(0.5)
                for name in stack.restart_exited():
                    print(f"restarted {name}; see {stack.state}/logs/{name}.log", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped")
    except RuntimeError as error:
        print(f"unveil local: {error}", file=sys.stderr)
        return 1
    return 0


def _handle_first_signal(_number: int, _frame: FrameType | None) -> None:
    """Stop at the first signal and ignore further ones: the stop has a time limit of its own."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _acquire_lock(path: Path) -> IO[str]:
    """Lock the folder for this stack. The kernel releases the lock when the process ends in any way."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise AlreadyRunning(f"another `unveil local` is running on {path.parent.parent}: stop it first") from None
    return file


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AlreadyRunning(
                f"cannot listen on port {port} ({error.strerror}); choose another with --port"
            ) from None


def _pick_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
