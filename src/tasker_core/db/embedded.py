"""A PostgreSQL that comes with Tasker, for whoever has set no DATABASE_URL.

Every process that works in one directory shares one server: the first user starts
it, the last one to leave stops it. The kernel keeps the list of users: each one
holds a shared lock on `users.lock`, and a killed one is forgotten at once. Whoever
starts or stops the server holds `start.lock` alone.

::

    <home>/users.lock   shared: a user; taken alone on leaving: was the last one
    <home>/start.lock   alone: someone starts, stops or looks
    <home>/.gitignore   nothing in here belongs into a repository

The functions block: call them before the event loop starts, or in a thread.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tasker_core.db import layout, postmaster
from tasker_core.db.programs import find_program
from tasker_core.errors import EmbeddedDatabaseError


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """How the server of a directory stands at the moment."""

    running: bool  # it answers
    in_use: bool  # at least one living process holds a lease
    pid: int | None
    url: str


class EmbeddedLease:
    """The right to find the server running; made by `acquire`, ended by `release`.

    Use it as a context manager, or call `release` yourself; an ordinary end of the
    process releases it too. A child made by fork does not own its parent's lease.
    """

    def __init__(self, home: Path, users: int) -> None:
        self.home = home
        self.url = layout.url(home)
        self._users: int | None = users
        self._owner = os.getpid()
        atexit.register(self.release)

    def release(self) -> None:
        """Leave; the last one to leave stops the server. A second call does nothing.

        Raises:
            EmbeddedDatabaseError: The server does not stop.
        """
        users, self._users = self._users, None
        if users is None or os.getpid() != self._owner:
            return
        atexit.unregister(self.release)
        with _failures("stop", self.home):
            try:
                _leave(self.home, users)
            finally:
                os.close(users)

    def __enter__(self) -> EmbeddedLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def acquire(home: Path) -> EmbeddedLease:
    """Become a user of the directory's server, and start it if it does not answer.

    Raises:
        DatabaseNotConfigured: The extra `embedded` is not installed.
        EmbeddedDatabaseError: The server does not start.
    """
    home = Path(os.path.realpath(home))
    with _failures("start", home):
        find_program("postgres")  # leave no directory behind when it is missing
        _create_home(home)
        with _starting(home):
            users = _open(home / "users.lock")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                postmaster.bring_up(home)
            except BaseException:
                with suppress(EmbeddedDatabaseError, OSError):
                    _stop_if_alone(home, users)
                os.close(users)
                raise
    return EmbeddedLease(home, users)


def ensure_running(home: Path) -> None:
    """Start the server again if it died while the caller holds a lease.

    Raises:
        EmbeddedDatabaseError: The server does not start.
    """
    home = Path(os.path.realpath(home))
    with _failures("start", home), _starting(home):
        postmaster.bring_up(home)


def status(home: Path) -> EmbeddedStatus:
    """Look at the server of a directory without changing anything."""
    home = Path(os.path.realpath(home))
    if not (home / "start.lock").exists():
        return EmbeddedStatus(False, False, None, layout.url(home))
    with _failures("look at", home), _starting(home):
        users = _open(home / "users.lock")
        try:
            in_use = not _is_alone(users)
        finally:
            os.close(users)
        running = postmaster.ask(home) is not postmaster.Answer.SILENT
        return EmbeddedStatus(running, in_use, postmaster.living_pid(home), layout.url(home))


def stop(home: Path) -> None:
    """Stop the server of a directory, whoever uses it.

    Raises:
        EmbeddedDatabaseError: The server does not stop.
    """
    home = Path(os.path.realpath(home))
    if not (home / "start.lock").exists():
        return
    with _failures("stop", home), _starting(home):
        postmaster.stop(home)


# --- locks and files ------------------------------------------------------------------


def _leave(home: Path, users: int) -> None:
    if not home.exists():
        return  # a temporary directory, removed by its maker
    with _starting(home):
        _stop_if_alone(home, users)


def _stop_if_alone(home: Path, users: int) -> None:
    if _is_alone(users):
        postmaster.stop(home)


def _is_alone(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _starting(home: Path) -> Iterator[None]:
    lock = _open(home / "start.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open(path: Path) -> int:
    # Closed on exec: in the server's hands the lock would outlive its user.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _create_home(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    ignore = home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


@contextmanager
def _failures(action: str, home: Path) -> Iterator[None]:
    """Turn what the system refuses into an error that says where and what."""
    try:
        yield
    except OSError as error:
        raise EmbeddedDatabaseError(action, home, str(error)) from error
