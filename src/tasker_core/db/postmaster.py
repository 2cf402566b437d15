"""One PostgreSQL server in one directory: make it, ask it, start it, stop it.

Beneath `embedded.py`, which decides when, and which holds `start.lock` around
everything here that changes something. Only an answer on the socket counts as
life: a pid may be stale, a zombie's, or another program's by now.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tasker_core.db.layout import (
    DATABASE,
    PORT,
    SOCKET,
    data_directory,
    log_file,
    server_owner,
    socket_directory,
    url,
)
from tasker_core.db.programs import run_program
from tasker_core.errors import EmbeddedDatabaseError

START_SECONDS = 60.0  # a crashed server replays its log first
ORPHAN_SECONDS = 20.0  # how long the children of a killed server may take to leave
SILENT_SECONDS = 5.0  # how long a living server may not answer before it is replaced
CONNECT_SECONDS = 5.0
STOP_SECONDS = 30

_SERVER_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "autovacuum_naptime": "15s",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_T = TypeVar("_T")


class Answer(Enum):
    """What the socket says when one connects."""

    READY = "ready"
    NO_DATABASE = "a server, but not yet our database in it"
    BUSY = "a server that starts, recovers or stops"
    SILENT = "nothing"


# --- is it alive? ---------------------------------------------------------------------


def ask(home: Path) -> Answer:
    """Connect, and say what came back."""
    if not (socket_directory(home) / SOCKET).exists():
        return Answer.SILENT
    return _run(_connect_once(url(home)))


async def _connect_once(address: str) -> Answer:
    try:
        connection = await asyncpg.connect(address, timeout=CONNECT_SECONDS)
    except asyncpg.CannotConnectNowError:
        return Answer.BUSY
    except asyncpg.InvalidCatalogNameError:
        return Answer.NO_DATABASE
    except asyncpg.TooManyConnectionsError:
        return Answer.READY
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return Answer.SILENT
    await connection.close()
    return Answer.READY


def living_pid(home: Path) -> int | None:
    """Give the pid of this directory's server; None for stale files and zombies."""
    pid = _recorded_pid(data_directory(home) / "postmaster.pid")
    if pid is None:
        return None
    # Its socket directory stands among its arguments, and is nobody else's.
    return pid if os.fsencode(socket_directory(home)) in _arguments(pid) else None


def _recorded_pid(lock_file: Path) -> int | None:
    try:
        return abs(int(lock_file.read_bytes().split(b"\n", 1)[0]))
    except (OSError, ValueError):
        return None


def _arguments(pid: int) -> Sequence[bytes] | bytes:
    """Give the command line of a process; empty for a zombie and for none."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return b""
    return subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
    ).stdout


# --- bring it up ----------------------------------------------------------------------


def bring_up(home: Path) -> None:
    """Return once the server answers and has our database, whatever it was before.

    Raises:
        DatabaseNotConfigured: The wheel is not installed.
        EmbeddedDatabaseError: It does not come up; the reason is the log's.
    """
    deadline = time.monotonic() + START_SECONDS
    silent_since: float | None = None
    while (answer := ask(home)) is not Answer.READY:
        now = time.monotonic()
        if now > deadline:
            raise EmbeddedDatabaseError(
                "start", home, f"no answer within {START_SECONDS:.0f} seconds; see {log_file(home)}"
            )
        if answer is Answer.NO_DATABASE:
            _run(_create_database(url(home, "postgres")))
            continue
        if answer is Answer.BUSY:
            silent_since = None
        elif living_pid(home) is None:
            _create_data_directory(home)
            _start(home)
            continue
        else:
            silent_since = silent_since or now
            if now - silent_since > SILENT_SECONDS:  # its socket was removed, or it hangs
                stop(home)
                continue
        time.sleep(0.05)


async def _create_database(address: str) -> None:
    connection = await asyncpg.connect(address, timeout=CONNECT_SECONDS)
    try:
        await connection.execute(f'create database "{DATABASE}"')
    except asyncpg.DuplicateDatabaseError:
        pass  # somebody with psql was faster
    finally:
        await connection.close()


def _create_data_directory(home: Path) -> None:
    data = data_directory(home)
    if _is_complete(data):
        _refuse_foreign_owner(home)
        return
    if data.exists():
        # Never delete what might be somebody's data.
        data.rename(home / f"postgres.incomplete-{time.time_ns()}")
    new = home / "postgres.new"
    if new.exists():
        shutil.rmtree(new)  # left by a process that died during initdb
    new.mkdir(mode=0o700)
    uid, gid = server_owner(home)
    os.chown(new, uid, gid)
    run_program(
        home,
        "initdb",
        ["-D", new.name, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"],
        "create",
    )
    new.rename(data)
    _sync(home)


def _is_complete(data: Path) -> bool:
    return (data / "PG_VERSION").is_file() and (data / "global" / "pg_control").is_file()


def _refuse_foreign_owner(home: Path) -> None:
    owner = data_directory(home).stat().st_uid
    if owner != server_owner(home)[0]:
        raise EmbeddedDatabaseError(
            "start",
            home,
            f"its data belongs to user {owner}, this process runs as user {os.geteuid()}; "
            f"run as that user or as root, or choose another directory with TASKER_HOME",
        )


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _start(home: Path) -> None:
    _prepare_socket_directory(home)
    _remove_misleading_locks(home)
    options = [f"-p {PORT}", f"-k {shlex.quote(str(socket_directory(home)))}"]
    options += [f"-c {name}={shlex.quote(value)}" for name, value in _SERVER_OPTIONS.items()]
    arguments = ["start", "-w", "-s", "-t", f"{START_SECONDS:.0f}", "-o", " ".join(options)]
    deadline = time.monotonic() + ORPHAN_SECONDS
    while True:
        try:
            return _pg_ctl(home, [*arguments, "-l", log_file(home).name], "start")
        except EmbeddedDatabaseError as error:
            # Children of a killed server still hold its memory: they leave by themselves.
            if "shared memory block" not in error.reason or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _prepare_socket_directory(home: Path) -> None:
    directory = socket_directory(home)
    if directory == data_directory(home):
        return
    uid, gid = server_owner(home)
    try:
        directory.mkdir(mode=0o700)
        os.chown(directory, uid, gid)
    except FileExistsError:
        pass
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise EmbeddedDatabaseError(
            "start", home, f"{directory} must be a directory of user {uid} alone; remove it"
        )


def _remove_misleading_locks(home: Path) -> None:
    """Remove lock files whose pid exists, but as a zombie or as another program.

    PostgreSQL would take it for a living server. A pid that is gone it understands
    itself, and then it also looks for children that the dead one left behind.
    """
    for lock in (
        data_directory(home) / "postmaster.pid",
        socket_directory(home) / f"{SOCKET}.lock",
    ):
        pid = _recorded_pid(lock)
        if pid is None or _exists(pid):
            lock.unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


# --- bring it down --------------------------------------------------------------------


def stop(home: Path) -> None:
    """Stop the server if it lives; its clients lose their connections.

    Raises:
        EmbeddedDatabaseError: It does not stop.
    """
    if living_pid(home) is None:
        return
    try:
        _pg_ctl(home, ["stop", "-s", "-w", "-t", str(STOP_SECONDS), "-m", "fast"], "stop")
    except EmbeddedDatabaseError:
        if living_pid(home) is None:
            return  # it died by itself meanwhile
        _pg_ctl(home, ["stop", "-s", "-w", "-t", str(STOP_SECONDS), "-m", "immediate"], "stop")
    directory = socket_directory(home)
    if directory != data_directory(home):
        shutil.rmtree(directory, ignore_errors=True)


# --- programs and coroutines ----------------------------------------------------------


def _pg_ctl(home: Path, arguments: Sequence[str], action: str) -> None:
    run_program(home, "pg_ctl", ["-D", data_directory(home).name, *arguments], action)


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in a thread of its own: the caller's may have a loop already."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, work).result()
