"""The local servers keep their data when killed, accept only local clients with a password, and run for any user."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
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
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "a server outlived its parent"
        time.sleep(0.05)


def file_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_start_finds_data_address_and_password_again(tmp_path: Path) -> None:
    addresses = []
    for start in range(2):
        with Postgres(tmp_path) as postgres, Redis(tmp_path) as queue:
            addresses.append((postgres.url, queue.url))
            with psycopg.connect(postgres.url) as connection, redis.Redis.from_url(queue.url) as client:
                if start == 0:
                    connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
                    client.set("kept", "7")
                else:
                    assert connection.execute("SELECT seven FROM kept").fetchone() == (7,)
                    assert client.get("kept") == b"7"
    assert addresses[0] == addresses[1]


@pytest.mark.parametrize("kept", ["", "seventy", "99999", "-1"])
def test_a_damaged_note_of_the_last_port_is_in_nobodys_way(tmp_path: Path, kept: str) -> None:
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets" / "redis-port").write_text(kept)
    with Redis(tmp_path) as server:
        assert redis.Redis.from_url(server.url).ping()


def test_the_service_is_no_superuser_of_its_database(tmp_path: Path) -> None:
    with (
        Postgres(tmp_path, durable=False) as server,
        psycopg.connect(server.url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT pg_read_file('/etc/hostname')")


def test_both_servers_ask_for_a_password_and_listen_on_loopback_only(tmp_path: Path) -> None:
    with Postgres(tmp_path, durable=False) as postgres, Redis(tmp_path, durable=False) as queue:
        port = psycopg.conninfo.conninfo_to_dict(postgres.url)["port"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://unveil@127.0.0.1:{port}/unveil")
        without_password = "redis://" + queue.url.partition("@")[2]
        with redis.Redis.from_url(without_password) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        for server in (postgres, queue):
            assert server.child is not None
            sockets = psutil.Process(server.child.popen.pid).net_connections()
            assert {s.laddr[0] for s in sockets if s.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


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
    password = (tmp_path / "secrets" / "unveil-password").read_text().strip()
    port = (tmp_path / "secrets" / "postgres-port").read_text()
    with psycopg.connect(f"postgresql://unveil:{password}@127.0.0.1:{port}/unveil") as connection:
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
        assert abandoned.child.popen.wait(5) == 0, "it was to be stopped in order"


def test_a_stale_lock_whose_number_a_stranger_bears_does_not_stop_the_start(tmp_path: Path) -> None:
    with Postgres(tmp_path, durable=False):
        lock = (tmp_path / "postgres" / "postmaster.pid").read_text().splitlines()
    stranger = spawn("stranger", ["sleep", "60"], run_dir=tmp_path, log_path=tmp_path / "log")
    stale = [str(stranger.popen.pid), *lock[1:]]
    (tmp_path / "postgres" / "postmaster.pid").write_text("\n".join(stale) + "\n")
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


def test_without_the_wheels_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
