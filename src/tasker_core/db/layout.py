"""Where an embedded server lives, and as whom.

::

    <home>/postgres       the data directory; the socket lies in it
    <home>/postgres.new   a data directory in the making, renamed when complete
    <home>/postgres.log   what the server says
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote

DATABASE = "tasker"
PORT = 5432  # only a part of the socket's name: nothing listens on TCP
SOCKET = f".s.PGSQL.{PORT}"
NOBODY = 65534

_SOCKET_PATH_BYTES = 100  # the system's limit is 104 on macOS, 108 on Linux


def data_directory(home: Path) -> Path:
    return home / "postgres"


def log_file(home: Path) -> Path:
    return home / "postgres.log"


def socket_directory(home: Path) -> Path:
    """Give the same directory to every process, whatever its environment.

    It is the data directory, unless the socket's path would be too long for the
    system or has a comma in it, which separates hosts. Then it is a directory
    under /tmp named by home and owner; not under `tempfile.gettempdir()`, which
    differs between processes with different TMPDIRs.
    """
    directory = data_directory(home)
    name = os.fsencode(directory / SOCKET)
    if len(name) <= _SOCKET_PATH_BYTES and not re.search(rb'[,"]', name):
        return directory
    uid, _ = server_owner(home)
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path("/tmp") / f"tasker-{uid}-{digest}"


def url(home: Path, database: str = DATABASE) -> str:
    """Write the address as asyncpg, psycopg and SQLAlchemy all understand it."""
    host = quote(os.fsencode(socket_directory(home)), safe="/")
    return f"postgresql://postgres@/{database}?host={host}&port={PORT}"


def server_owner(home: Path) -> tuple[int, int]:
    """Say as which user and group the server runs.

    PostgreSQL refuses root: for root it is whoever owns the data already, else nobody.
    """
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        owner = data_directory(home).stat()
    except OSError:
        return NOBODY, NOBODY
    return (owner.st_uid, owner.st_gid) if owner.st_uid != 0 else (NOBODY, NOBODY)
