"""The local servers keep their data when killed, listen on private sockets with a password, and run for any user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from unveil.app.local import servers
from unveil.app.local.servers import Postgres, Redis, ServerUnavailable
from unveil.app.local.supervisor import kill_orphan, spawn

# A parent that starts both servers, prints their pids, and waits to be killed.
_PARENT = """
import sys, time
from pathlib import Path
from unveil.app.local.servers import Postgres, Redis
with Postgres(Path(sys.argv[1])) as postgres, Redis(Path(sys.argv[1])) as redis:
    print(postgres.child.popen.pid, redis.child.popen.pid, flush=True)
    time.sleep(600)
"""


def start_parent(state: Path, *prefix: str) -> tuple[subprocess.Popen[str], list[int]]:
    parent = subprocess.Popen(
        [*prefix, sys.executable, "-c", _PARENT, str(state)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line, "the parent could not start the servers"
    return parent, [int(word) for word in line.split()]


def signal_and_wait(parent: subprocess.Popen[str], number: signal.Signals) -> None:
    parent.send_signal(number)
    parent.wait()
    assert parent.stdout is not None
    parent.stdout.close()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "a server outlived its parent"
        time.sleep(0.05)


def file_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_start_finds_data_address_and_password_again_and_redis_empty(tmp_path: Path) -> None:
    addresses = []
    for start in range(2):
        with Postgres(tmp_path) as postgres, Redis(tmp_path) as queue:
            addresses.append((postgres.url, queue.url))
            with psycopg.connect(postgres.url) as connection, redis.Redis.from_url(queue.url) as client:
                if start == 0:
                    connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
                else:
                    assert connection.execute("SELECT seven FROM kept").fetchone() == (7,)
                assert client.dbsize() == 0
                client.set("message", "7")
    assert addresses[0] == addresses[1]


def test_redis_writes_no_message_to_disk_and_deletes_those_of_older_versions(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(b"message of an older version")
    with Redis(tmp_path) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("message", "not on disk")
            client.shutdown()
        assert server.child is not None
        server.child.popen.wait(60)
        assert [path for path in (tmp_path / "redis").iterdir() if path.is_file()] == []


def test_the_service_is_no_superuser_of_its_database(tmp_path: Path) -> None:
    with (
        Postgres(tmp_path, durable=False) as server,
        psycopg.connect(server.url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT pg_read_file('/etc/hostname')")


@pytest.fixture
def open_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PostgreSQL's programs in a folder that others can enter, wherever this project is installed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        programs = servers._postgres_programs()
        site = programs.parents[2]  # programs find their libraries beside their package, by a relative path
        for part in (programs.parent, *site.glob(f"{programs.parents[1].name}.libs")):
            shutil.copytree(part, Path(folder) / part.relative_to(site))
        monkeypatch.setattr(servers, "_postgres_programs", lambda: Path(folder) / programs.relative_to(site))
        yield


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's PostgreSQL reads what that user may read")
@pytest.mark.usefixtures("open_programs")
def test_the_superuser_of_a_server_that_root_started_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("of root")
    (tmp_path / "private").chmod(0o600)
    with Postgres(tmp_path / "state", durable=False) as server:
        assert server.child is not None
        status = Path(f"/proc/{server.child.popen.pid}/status").read_text()
        for path in (tmp_path / "private", tmp_path / "state" / "secrets" / "redis-password", Path("/etc/shadow")):
            with (
                psycopg.connect(server.admin_url) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege, match="Permission denied"),
            ):
                connection.execute("SELECT pg_read_file(%s)", [str(path)])
    assert {int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")} == {0}
    uid = (tmp_path / "state" / "postgres").stat().st_uid
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)


def test_a_closed_folder_of_programs_costs_a_capability_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert servers._needed_capabilities(Path("/usr/bin")) == "-all"
    assert not caplog.records
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "bin").mkdir()
    assert servers._needed_capabilities(tmp_path / "home" / "bin") == "-all,+dac_read_search"
    assert "its superuser can read every file" in caplog.text


def test_both_servers_ask_for_a_password_and_listen_on_private_sockets_only(tmp_path: Path) -> None:
    with Postgres(tmp_path, durable=False) as postgres, Redis(tmp_path, durable=False) as queue:
        host = psycopg.conninfo.conninfo_to_dict(postgres.url)["host"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, port=5432, user="unveil", dbname="unveil")
        without_password = "unix://" + queue.url.partition("@")[2]
        with redis.Redis.from_url(without_password) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        for server in (postgres, queue):
            assert server.child is not None
            assert psutil.Process(server.child.popen.pid).net_connections("inet") == []
            assert file_mode(tmp_path / server.name) == 0o700


@pytest.mark.parametrize("runtime_dir_is_long", [False, True])
def test_a_state_folder_with_a_long_path_has_a_short_private_way_to_its_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime_dir_is_long: bool
) -> None:
    long_path = tmp_path / ("long" * 25)
    long_path.mkdir()
    with tempfile.TemporaryDirectory() as short_path:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long_path) if runtime_dir_is_long else short_path)
        monkeypatch.setattr(tempfile, "tempdir", short_path)
        with Postgres(long_path, durable=False) as postgres, Redis(long_path, durable=False) as queue:
            psycopg.connect(postgres.url).close()
            with redis.Redis.from_url(queue.url) as client:
                assert client.ping()
            ways = list(Path(short_path).glob("unveil-*"))
            assert len(ways) == 2
            assert {file_mode(way) for way in ways} == {0o700}
            assert all(str(way) in postgres.url + queue.url for way in ways)
        assert list(Path(short_path).glob("unveil-*")) == []


def test_secrets_are_for_the_owner_alone_and_no_parent_folder_is_opened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    state = home / "state"
    with Postgres(state, durable=False), Redis(state, durable=False):
        assert (
            file_mode(home)
            == file_mode(state)
            == file_mode(state / "secrets")
            == file_mode(state / "postgres")
            == 0o700
        )
        passwords = list((state / "secrets").glob("*-password"))
        assert {path.name for path in passwords} == {"postgres-password", "unveil-password", "redis-password"}
        assert {file_mode(path) for path in passwords} == {0o600}
        everything = " ".join(str(process.cmdline()) for process in psutil.process_iter() if is_running(process.pid))
        for password in passwords:
            assert password.read_text().strip() not in everything


def test_servers_end_with_a_killed_parent_and_start_again(tmp_path: Path) -> None:
    parent, pids = start_parent(tmp_path)
    signal_and_wait(parent, signal.SIGKILL)
    wait_until_gone(pids)
    with Postgres(tmp_path) as postgres, Redis(tmp_path):
        psycopg.connect(postgres.url).close()


def test_what_was_committed_survives_the_kill_of_every_process(tmp_path: Path) -> None:
    parent, pids = start_parent(tmp_path)
    with psycopg.connect(Postgres(tmp_path).url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    for pid in [parent.pid, *pids]:
        os.kill(pid, signal.SIGKILL)
    signal_and_wait(parent, signal.SIGKILL)
    with Postgres(tmp_path) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT seven FROM kept").fetchone() == (7,)


def test_a_start_ends_the_server_that_an_earlier_one_left_running(tmp_path: Path) -> None:
    abandoned = Postgres(tmp_path, durable=False).start()
    assert abandoned.child is not None
    with Postgres(tmp_path, durable=False) as server:
        psycopg.connect(server.url).close()
        assert abandoned.child.popen.wait(60) == 0, "it was to be stopped in order"


def test_a_stale_lock_whose_number_a_stranger_bears_does_not_stop_the_start(tmp_path: Path) -> None:
    with Postgres(tmp_path, durable=False):
        locks = {
            path: path.read_text().splitlines()
            for path in (tmp_path / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock"))
        }
    stranger = spawn("stranger", ["sleep", "60"], run_dir=tmp_path, log_path=tmp_path / "log")
    for path, lines in locks.items():
        path.write_text("\n".join([str(stranger.popen.pid), *lines[1:]]) + "\n")
    with Postgres(tmp_path, durable=False) as server:
        psycopg.connect(server.url).close()
    assert stranger.running
    stranger.stop()


def test_a_first_start_killed_half_way_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path, durable=False) as server:
        psycopg.connect(server.url).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; for others every test here says it")
def test_the_servers_run_for_an_ordinary_user_too(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    # dac_override only opens the way to this interpreter, which may lie in root's home
    nobody = [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--securebits=+no_setuid_fixup",
        "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "--bounding-set=-all,+dac_override",
    ]  # fmt: skip
    parent, pids = start_parent(state, *nobody)
    assert {psutil.Process(pid).uids().real for pid in pids} == {65534}
    signal_and_wait(parent, signal.SIGKILL)
    wait_until_gone(pids)


def test_without_the_wheels_the_message_states_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "_package_dir", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match="UNVEIL_DATABASE_URL"):
        Postgres(tmp_path).start()
    with pytest.raises(ServerUnavailable, match=r"apt-get install redis-server.*UNVEIL_REDIS_URL"):
        Redis(tmp_path).start()


def test_a_stranger_with_the_number_of_a_dead_child_is_let_be(tmp_path: Path) -> None:
    stranger = spawn("stranger", ["sleep", "60"], run_dir=tmp_path, log_path=tmp_path / "log")
    pid, born, number = stranger.pid_file.read_text().split()
    stale = tmp_path / "stale.pid"
    stale.write_text(f"{pid} {float(born) - 1000} {number}\n")
    kill_orphan(stale)
    assert stranger.running
    assert not stale.exists()
    stranger.stop()
